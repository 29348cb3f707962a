"""How far fnn is from its peers: 200 random problems a family, values and gradients.

The largest difference relative to the largest number of its array: the figures that `make parity` judges. Then the
error of batch_norm against float64, for numbers of deviation 1 far from 0.
Run `python benchmarks/parity.py`.
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

LIMITS = {0: 1e-6, 10: 4e-5, 1000: 2.5e-3}  # torch 2.13, as measured once, by offset


def main() -> None:
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        errors = {name: {dtype: worst(name, dtype) for dtype in GOALS} for name in FAMILIES}
    rows = [
        {"family": name, "peer": FAMILIES[name].peer}
        | {dtype: f"{error:.1e}" for dtype, error in own.items()}
        for name, own in errors.items()
    ]
    goals = [
        judge(dtype, max(own[dtype] for own in errors.values()), GOALS[dtype], form=".1e")
        for dtype in GOALS
    ]
    show(
        __doc__,
        f"{CONFIGURATIONS} random problems a family and precision.",
        rows,
        *goals,
        *offsets(),
    )


def offsets() -> list[str]:
    """How exact batch_norm is in float32 where numbers lie far from 0, beside torch in the same run."""
    errors = batch_norm_offset_errors()
    rows = [
        {
            "batch_norm, offset": str(offset),
            "fnn": f"{ours:.1e}",
            "torch": f"{theirs:.1e}",
            "goal": f"{LIMITS[offset]:.1e}",
        }
        for offset, (ours, theirs) in errors.items()
    ]
    far = max(ours / LIMITS[offset] for offset, (ours, _) in errors.items())
    return [
        table(rows),
        judge("the largest share of a goal that batch_norm's error takes:", far, 1.0, form=".2f"),
    ]


if __name__ == "__main__":
    main()
