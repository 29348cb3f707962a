"""Distance of the optimizers from those of torch and optax: 200 random problems of 300 steps.

Both sides get the same gradients. The error is the largest difference of the params over all
steps, relative to their largest number or to 1: the figures that `make parity` checks. Run
`python benchmarks/descent_parity.py`.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "parity"))

import descents_first_order
import descents_second_order
import descents_transforms
import jax
import torch
from descents import CONFIGURATIONS, DESCENTS, GOALS, STEPS, worst
from measure import judge, show

NAMES = [*descents_first_order.NAMES, *descents_second_order.NAMES, *descents_transforms.NAMES]


def main() -> None:
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        errors = {name: {dtype: worst(name, dtype) for dtype in GOALS} for name in NAMES}
    rows = []
    for name, by_dtype in errors.items():
        row = {"optimizer": name.removesuffix(", optax"), "peer": DESCENTS[name].peer}
        rows.append(row | {dtype: f"{error:.1e}" for dtype, error in by_dtype.items()})
    # The reason of a weaker goal is given at the entry of the optimizer.
    common = [name for name in errors if DESCENTS[name].goals == GOALS]
    goals = []
    for dtype, goal in GOALS.items():
        largest = max(errors[name][dtype] for name in common)
        goals.append(judge(dtype, largest, goal, form=".1e"))
    for name in errors:
        if name not in common:
            for dtype, goal in DESCENTS[name].goals.items():
                goals.append(judge(f"{name} in {dtype}", errors[name][dtype], goal, form=".1e"))
    method = f"{CONFIGURATIONS} random problems of {STEPS} steps per optimizer and precision."
    show(__doc__, method, rows, *goals)


if __name__ == "__main__":
    main()
