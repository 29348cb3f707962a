"""Run every benchmark, each as a process of its own, and write benchmarks/RESULTS.md: `make bench`.

Only some of them anew: `python benchmarks/run_all.py parity.py gradients.py`.
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
MODELS = {
    "nnx_resnet.py",
    "torch_resnet.py",
    "equinox_resnet.py",
    "keras_models.py",
    "resnet_blocks.py",
}
MODELS |= {"nnx_transformer.py", "torch_transformer.py", "equinox_transformer.py"}
NO_QUESTIONS = {"run_all.py", "measure.py", "stepping.py"} | MODELS
FIRST = [
    "demo.py",
    "cnn_step.py",
    "resnet_step.py",
    "mlp_epoch.py",
    "small_run.py",
    "lanes.py",
    "members.py",
    "first_step.py",
]  # the goals come first, then the others
LAST = ["fit_overhead.py"]  # which takes 20 minutes


def questions() -> list[Path]:
    """The benchmarks, one file a question, in the order they are told."""
    files = {
        path.name: path for path in sorted(FOLDER.glob("*.py")) if path.name not in NO_QUESTIONS
    }
    last = [files.pop(name) for name in LAST]
    return [*(files.pop(name) for name in FIRST), *files.values(), *last]


def answer(path: Path) -> str:
    """What a benchmark printed, under its question; one that fails says so, and the others go on."""
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
    """All of them, or those that are named, whose sections then take the place of the old ones."""
    chosen = [path for path in questions() if path.name in sys.argv[1:] or not sys.argv[1:]]
    top = f"# Results\n\nWritten by `make bench` on {datetime.now(UTC):%Y-%m-%d}, on {machine()}."
    old = sections(RESULTS.read_text()) if RESULTS.exists() else {}
    told = {name: old[name] for name in map(heading, questions()) if name in old}
    new = dict[str, str]()
    for path in chosen:  # written each time, so that what is interrupted keeps what it has
        new[heading(path)] = answer(path)
        in_order = [(told | new)[name] for name in map(heading, questions()) if name in told | new]
        RESULTS.write_text("\n\n".join([top, *in_order]) + "\n")
    print(RESULTS.read_text())
    sys.exit(any("**failed**" in text for text in new.values()))


if __name__ == "__main__":
    main()
