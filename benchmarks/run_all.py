"""Run every benchmark in a process and write benchmarks/RESULTS.md: `make bench`.

To run some of them: `python benchmarks/run_all.py parity.py gradients.py`.
"""

import ast
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from measure import machine

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
MODELS = {"keras_models.py", "resnet_blocks.py"}
MODELS |= {"nnx_resnet.py", "torch_resnet.py", "equinox_resnet.py"}
MODELS |= {"nnx_transformer.py", "torch_transformer.py", "equinox_transformer.py"}
PARTS = {f"doctor_{part}.py" for part in ("cases", "controls", "faults", "peers", "runs")}
PARTS |= {"search_arms.py"}
NO_BENCHMARKS = {"run_all.py", "measure.py", "stepping.py"} | MODELS | PARTS
# The benchmarks with the main goals come first.
FIRST = [
    "demo.py",
    "cnn_step.py",
    "resnet_step.py",
    "mlp_epoch.py",
    "small_run.py",
    "lanes.py",
    "members.py",
    "first_step.py",
]
LAST = ["fit_overhead.py"]  # which takes 20 minutes


def benchmarks() -> list[Path]:
    """The files of the benchmarks, in the order of their sections."""
    paths = [path for path in sorted(FOLDER.glob("*.py")) if path.name not in NO_BENCHMARKS]
    files = {path.name: path for path in paths}
    first = [files.pop(name) for name in FIRST]
    last = [files.pop(name) for name in LAST]
    return [*first, *files.values(), *last]


def run(path: Path) -> str:
    """Run a benchmark and return its section; a failed one has its error as the text."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    print(f"{path.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr, flush=True)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"{heading(path)}\n\n**failed**: `{reason}`"
    printed = done.stdout.strip()
    return printed if printed.startswith("## ") else f"{heading(path)}\n\n{printed}"


def heading(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or path.stem
    return "## " + docstring.partition("\n")[0]


def sections(text: str) -> dict[str, str]:
    """The sections of RESULTS.md, by heading."""
    parts = [f"## {part.strip()}" for part in text.split("\n## ")[1:]]
    return {part.partition("\n")[0]: part for part in parts}


def main() -> None:
    """Run all benchmarks, or the named ones, and replace their sections in RESULTS.md.

    The top of the file names date and machine of all benchmarks; a section that was made again has
    its own.
    """
    chosen = [path for path in benchmarks() if path.name in sys.argv[1:] or not sys.argv[1:]]
    place = f"on {datetime.now(UTC):%Y-%m-%d}, on {machine()}."
    top, later = f"# Results\n\nWritten by `make bench` {place}", ""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    old = sections(text)
    if old and sys.argv[1:]:
        top, later = text.partition("\n\n## ")[0], f"\n\nMeasured {place}"
    headings = [heading(path) for path in benchmarks()]
    new = dict[str, str]()
    for path in chosen:
        new[heading(path)] = run(path) + later
        texts = old | new
        in_order = [texts[name] for name in headings if name in texts]
        # The file is written after each benchmark, so that an interruption loses only one.
        RESULTS.write_text("\n\n".join([top, *in_order]) + "\n")
    print(RESULTS.read_text())
    sys.exit(any("**failed**" in text for text in new.values()))


if __name__ == "__main__":
    main()
