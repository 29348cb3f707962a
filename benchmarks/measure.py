"""How every benchmark here measures: programs take turns, medians are told, and ratios are of times side by side."""

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

TURN = 0.1  # seconds that a program runs at its turn, at least

PACKAGES = ("jax", "jaxlib", "numpy", "torch", "flax", "optax", "equinox", "keras")


# With these glibc keeps the pages of what a program gives back.
PAGES_STAY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}


def keep_pages() -> None:
    """Start this process anew, so that no program's time is that of pages which are fetched again at each call.

    Whether they are hangs on what was allocated before: a program of 0.8 ms took 0.8 in some processes, 1.5 in others.
    """
    if not PAGES_STAY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | PAGES_STAY)


class Timing(NamedTuple):
    """Median seconds of a program, and the median over rounds of its time by the base's time in the same round."""

    seconds: float
    ratio: float


def compare(
    programs: Mapping[str, Program], *, base: str, rounds: int, settle: bool = True
) -> dict[str, Timing]:
    """Time the programs in turns. Each must return only when its work is done; a long one has no need to settle first.

    The ratio is taken within a round, so what slows the machine down for a while slows both of its sides.
    """
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            if settle:
                seconds_a_call(
                    program
                )  # not counted: threads settle, those of the program before fall asleep
            spent[name].append(seconds_a_call(program))
    return {
        name: Timing(
            statistics.median(times),
            statistics.median(t / b for t, b in zip(times, spent[base], strict=True)),
        )
        for name, times in spent.items()
    }


class Finish(NamedTuple):
    """How a runner of a race came in: median seconds, the median ratio to the base's, the least and most it reached."""

    seconds: float
    ratio: float
    least: float
    most: float

    def row(self, name: str) -> dict[str, str]:
        """The line of a table, of a race whose base is fnn and whose runs give an accuracy."""
        reached = f"{self.least:.4f} to {self.most:.4f}"
        times = {"seconds": f"{self.seconds:.1f}", "× fnn": f"{self.ratio:.2f}"}
        return {"run": name} | times | {"test accuracy, least to most": reached}


def race(
    runs: Mapping[str, Callable[[int], float]], *, base: str, rounds: int
) -> dict[str, Finish]:
    """Each run with each of the seeds 0, 1, ..., in turns, compiling included; a run gives what it reached."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    reached: dict[str, list[float]] = {name: [] for name in runs}
    for seed in range(rounds):
        jax.clear_caches()
        for name, run in runs.items():
            began = time.perf_counter()
            reached[name].append(run(seed))
            seconds[name].append(time.perf_counter() - began)
    ratios = {
        name: [a / b for a, b in zip(own, seconds[base], strict=True)]
        for name, own in seconds.items()
    }
    return {
        name: Finish(
            statistics.median(seconds[name]),
            statistics.median(ratios[name]),
            min(reached[name]),
            max(reached[name]),
        )
        for name in runs
    }


def seconds_a_call(program: Program) -> float:
    """The mean over calls in a row, of which there are as many as fill a turn."""
    began, calls, passed = time.perf_counter(), 0, 0.0
    while passed < TURN:
        program()
        calls, passed = calls + 1, time.perf_counter() - began
    return passed / calls


def show(
    question: str | None, method: str, rows: Sequence[Mapping[str, str]], *remarks: str
) -> None:
    """Print a section of RESULTS.md: the question (a docstring's first line), how it was measured, a table, remarks."""
    title = (question or "").partition("\n")[0]
    print(
        "\n\n".join([f"## {title}", method, *([table(rows)] if rows else []), *remarks]), flush=True
    )


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A markdown table: the first column to the left, the others, which are numbers, to the right."""
    columns = list(rows[0])
    lines = [
        columns,
        ["---", *["---:"] * (len(columns) - 1)],
        *([row[c] for c in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judge(
    what: str, figure: float, goal: float, *, at_least: bool = False, form: str = ".3f"
) -> str:
    """A line that holds a figure against its goal."""
    met = figure >= goal if at_least else figure <= goal
    sign = "≥" if at_least else "≤"
    return f"**{'met' if met else 'not met'}**: {what} {figure:{form}}, goal {sign} {goal:{form}}"


def missing(*peers: str) -> list[str]:
    """A remark for each of these packages that is not installed, so that its rows are left out."""
    return [
        f"{peer} is not installed, so it has no row." for peer in peers if version(peer) is None
    ]


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def resident(figure: str) -> float:
    """Megabytes of this process in memory, as Linux counts them: VmRSS now, VmHWM at most so far."""
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
    """The model, with its family and number where the name alone says little."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    known = {name.strip(): value.strip() for name, _, value in pairs}
    name = known.get("model name", platform.machine())
    return name + (
        f" (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else ""
    )
