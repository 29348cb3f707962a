"""Measurement shared by all benchmarks: alternating rounds, medians, and ratios within a round."""

import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax

Program = Callable[[], object]

TURN = 0.1  # the shortest turn of a program, in seconds

PACKAGES = ("jax", "jaxlib", "numpy", "torch", "flax", "optax", "equinox", "keras")

# With these settings glibc does not return freed pages to the operating system.
PAGES_STAY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


def keep_pages() -> None:
    """Restart this process with settings under which freed pages of memory are kept.

    Otherwise some processes fetch the pages again at each call, depending on earlier allocations:
    a program of 0.8 ms took 0.8 ms in some processes and 1.5 ms in others.
    """
    if not PAGES_STAY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | PAGES_STAY)


class Timing(NamedTuple):
    """The time of a program.

    Attributes:
        seconds: Median seconds of a call.
        ratio: Median over the rounds of the time divided by that of the base in the same round.
    """

    seconds: float
    ratio: float


def compare(
    programs: Mapping[str, Program], *, base: str, rounds: int, settle: bool = True
) -> dict[str, Timing]:
    """Time the programs in alternating rounds.

    The ratio is taken within a round, because a slow phase of the machine affects both programs.

    Args:
        programs: Functions by name; each returns only when its work is done.
        base: Name of the program whose time the ratios are divided by.
        rounds: Number of rounds.
        settle: Whether a turn begins with calls that are not counted; a long program needs none.
    """
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            if settle:
                # Its threads start, and those of the previous program go to sleep.
                seconds_per_call(program)
            spent[name].append(seconds_per_call(program))
    return {name: timing(times, spent[base]) for name, times in spent.items()}


def timing(times: list[float], base: list[float]) -> Timing:
    """Medians of the times and of their ratios to those of the base, round by round."""
    ratios = [time / other for time, other in zip(times, base, strict=True)]
    return Timing(statistics.median(times), statistics.median(ratios))


class Finish(NamedTuple):
    """The times and accuracies of the runs of one library.

    Attributes:
        seconds: Median seconds.
        ratio: Median ratio to the seconds of the base.
        lowest: Lowest accuracy.
        highest: Highest accuracy.
    """

    seconds: float
    ratio: float
    lowest: float
    highest: float

    def row(self, name: str) -> dict[str, str]:
        """A row of a table whose base is fnn."""
        accuracies = f"{self.lowest:.4f} to {self.highest:.4f}"
        times = {"seconds": f"{self.seconds:.1f}", "× fnn": f"{self.ratio:.2f}"}
        return {"run": name} | times | {"test accuracy, lowest to highest": accuracies}


def race(
    runs: Mapping[str, Callable[[int], float]], *, base: str, rounds: int
) -> dict[str, Finish]:
    """Time each run with the seeds 0, 1, ..., in turns, with compilation.

    A run takes a seed and returns its accuracy.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    accuracies: dict[str, list[float]] = {name: [] for name in runs}
    for seed in range(rounds):
        jax.clear_caches()
        for name, run in runs.items():
            began = time.perf_counter()
            accuracies[name].append(run(seed))
            seconds[name].append(time.perf_counter() - began)
    finishes = {}
    for name in runs:
        median, ratio = timing(seconds[name], seconds[base])
        finishes[name] = Finish(median, ratio, min(accuracies[name]), max(accuracies[name]))
    return finishes


def seconds_per_call(program: Program) -> float:
    """The mean over consecutive calls that fill a turn, without garbage collection as in timeit.

    A collection takes 0.1 s in a process that has imported several libraries.
    """
    calls = 0
    passed = 0.0
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    while passed < TURN:
        program()
        calls += 1
        passed = time.perf_counter() - began
    gc.enable()
    return passed / calls


def show(
    question: str | None, method: str, rows: Sequence[Mapping[str, str]], *remarks: str
) -> None:
    """Print a section of RESULTS.md.

    Args:
        question: Docstring of the benchmark, whose first line is the heading.
        method: How the figures were measured.
        rows: Rows of the table, none for no table.
        *remarks: Paragraphs after the table.
    """
    heading = (question or "").partition("\n")[0]
    parts = [f"## {heading}", method]
    if rows:
        parts.append(table(rows))
    print("\n\n".join([*parts, *remarks]), flush=True)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A Markdown table: the first column is aligned left, the columns of numbers right."""
    columns = list(rows[0])
    alignments = ["---", *["---:"] * (len(columns) - 1)]
    lines = [columns, alignments, *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judge(
    label: str, figure: float, goal: float, *, at_least: bool = False, form: str = ".3f"
) -> str:
    """A line that compares a figure with its goal."""
    if at_least:
        met = figure >= goal
        sign = "≥"
    else:
        met = figure <= goal
        sign = "≤"
    verdict = "met" if met else "not met"
    return f"**{verdict}**: {label} {figure:{form}}, goal {sign} {goal:{form}}"


def missing(*peers: str) -> list[str]:
    """A remark for each of these packages that is not installed: its rows are left out."""
    absent = [peer for peer in peers if version(peer) is None]
    return [f"{peer} is not installed, so it has no row." for peer in absent]


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def resident(figure: str) -> float:
    """Megabytes of this process in memory, from Linux: VmRSS for now, VmHWM for the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(figure))
    return int(kilobytes) * 1024 / 1e6


def machine() -> str:
    """Cores, processor and versions, in one line."""
    versions = [f"{name} {version(name) or 'missing'}" for name in PACKAGES]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{cores} cores of {processor()}, {system}, {', '.join(versions)}"


def processor() -> str:
    """The model of the processor, with its family and model number if Linux gives them."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    name = fields.get("model name", platform.machine())
    if "cpu family" not in fields:
        return name
    return f"{name} (family {fields['cpu family']}, model {fields['model']})"
