"""Distance of fnn from its peers: 200 random problems per family, values and gradients.

The largest difference relative to the largest number of its array: the figures that `make parity`
checks. Then the float32 error of batch_norm for numbers of deviation 1 that are far from 0. Run
`python benchmarks/parity.py`.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "parity"))

import jax
import torch
from families import FAMILIES
from harness import CONFIGURATIONS, GOALS, worst
from measure import judge, show, table
from normalizations import batch_norm_offset_errors

LIMITS = {0: 1e-6, 10: 4e-5, 1000: 2.5e-3}  # errors of torch 2.13 by offset, measured once


def main() -> None:
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        errors = {name: {dtype: worst(name, dtype) for dtype in GOALS} for name in FAMILIES}
    rows = []
    for name, by_dtype in errors.items():
        row = {"family": name, "peer": FAMILIES[name].peer}
        rows.append(row | {dtype: f"{error:.1e}" for dtype, error in by_dtype.items()})
    goals = []
    for dtype, goal in GOALS.items():
        largest = max(by_dtype[dtype] for by_dtype in errors.values())
        goals.append(judge(dtype, largest, goal, form=".1e"))
    method = f"{CONFIGURATIONS} random problems per family and precision."
    show(__doc__, method, rows, *goals, *offsets())


def offsets() -> list[str]:
    """Errors of batch_norm in float32 for numbers far from 0, for fnn and torch."""
    errors = batch_norm_offset_errors()
    rows, ratios = [], []
    for offset, (ours, theirs) in errors.items():
        goal = LIMITS[offset]
        row = {"batch_norm, offset": str(offset), "fnn": f"{ours:.1e}", "torch": f"{theirs:.1e}"}
        rows.append(row | {"goal": f"{goal:.1e}"})
        ratios.append(ours / goal)
    label = "largest error of batch_norm relative to its goal:"
    return [table(rows), judge(label, max(ratios), 1.0, form=".2f")]


if __name__ == "__main__":
    main()
