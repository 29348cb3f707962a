"""Cost of `import fnn` relative to `import jax`.

Goal: at most 1.15 times as long. The packages of fnn are imported on first use, so that the last
row adds those that a training script needs. Each import is timed within a fresh process, in turns,
with the files in the disk cache. Run `python benchmarks/imports.py`.
"""

import os
import statistics
import subprocess
import sys

from measure import judge, show

ROUNDS = 15
STATEMENTS = ("import jax", "import fnn", "from fnn import data, nn, optim, train")
PROGRAM = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def import_seconds(statement: str) -> float:
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    # An installed package has its bytecode on disk, so this setting of the shell is dropped.
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def main() -> None:
    for statement in STATEMENTS:  # fills the disk cache and writes the bytecode
        import_seconds(statement)
    rounds = [
        {statement: import_seconds(statement) for statement in STATEMENTS} for _ in range(ROUNDS)
    ]
    rows = []
    for statement in STATEMENTS:
        seconds = statistics.median(times[statement] for times in rounds)
        ratio = statistics.median(times[statement] / times["import jax"] for times in rounds)
        rows.append({"statement": statement, "seconds": f"{seconds:.3f}", "ratio": f"{ratio:.2f}"})
    method = (
        f"Median of {ROUNDS} alternating rounds of fresh processes; "
        "a ratio is the median of the rounds' ratios to `import jax`."
    )
    ratio = statistics.median(times["import fnn"] / times["import jax"] for times in rounds)
    show(__doc__, method, rows, judge("import fnn relative to import jax:", ratio, 1.15))


if __name__ == "__main__":
    main()
