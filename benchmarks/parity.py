"""How far fnn is from its peers: 200 random problems a family, values and gradients.

The largest difference relative to the largest number of its array: the figures that `make parity` judges.
Run `python benchmarks/parity.py`.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "parity"))

import jax
import torch
from families import FAMILIES
from harness import CONFIGURATIONS, GOALS, worst
from measure import judge, show


def main() -> None:
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        errors = {name: {dtype: worst(name, dtype) for dtype in GOALS} for name in FAMILIES}
    rows = [
        {"family": name, "peer": FAMILIES[name].peer} | {dtype: f"{error:.1e}" for dtype, error in own.items()}
        for name, own in errors.items()
    ]
    goals = [judge(dtype, max(own[dtype] for own in errors.values()), GOALS[dtype], form=".1e") for dtype in GOALS]
    show(__doc__, f"{CONFIGURATIONS} random problems a family and precision.", rows, *goals)


if __name__ == "__main__":
    main()
