"""Cost of `import fnn` relative to `import jax`.

Goal: at most 1.15 times as long. Each import is timed within a fresh process, the two in turns,
with the files in the disk cache. Run `python benchmarks/imports.py`.
"""

import os
import statistics
import subprocess
import sys

from measure import judge, show

PAIRS = 15
MODULES = ("jax", "fnn")
PROGRAM = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def import_seconds(module: str) -> float:
    command = [sys.executable, "-c", PROGRAM.format(module)]
    # An installed package has its bytecode on disk, so this setting of the shell is dropped.
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout)


def main() -> None:
    for module in MODULES:  # fills the disk cache and writes the bytecode
        import_seconds(module)
    pairs = [{module: import_seconds(module) for module in MODULES} for _ in range(PAIRS)]
    ratio = statistics.median(pair["fnn"] / pair["jax"] for pair in pairs)
    medians = {module: statistics.median(pair[module] for pair in pairs) for module in MODULES}
    rows = [{"import": module, "seconds": f"{seconds:.3f}"} for module, seconds in medians.items()]
    method = (
        f"Median of {PAIRS} alternating pairs of fresh processes; "
        "the ratio is the median of the pairs' ratios."
    )
    show(__doc__, method, rows, judge("import fnn relative to import jax:", ratio, 1.15))


if __name__ == "__main__":
    main()
