"""How far the optimizers are from those of torch and optax: 200 random problems of 300 steps, on the same gradients.

The largest difference of the params on the way, relative to their largest number or to 1: the figures that
`make parity` judges. Run `python benchmarks/descent_parity.py`.
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
    rows = [
        {"optimizer": name.removesuffix(", optax"), "peer": DESCENTS[name].peer}
        | {dtype: f"{error:.1e}" for dtype, error in own.items()}
        for name, own in errors.items()
    ]
    # An entry whose goal is a weaker one says why, where it is entered.
    common = {name: own for name, own in errors.items() if DESCENTS[name].goals == GOALS}
    goals = [
        judge(dtype, max(own[dtype] for own in common.values()), GOALS[dtype], form=".1e")
        for dtype in GOALS
    ]
    goals += [
        judge(f"{name} in {dtype}", errors[name][dtype], goal, form=".1e")
        for name in errors.keys() - common.keys()
        for dtype, goal in DESCENTS[name].goals.items()
    ]
    show(
        __doc__,
        f"{CONFIGURATIONS} random problems of {STEPS} steps an optimizer and precision.",
        rows,
        *goals,
    )


if __name__ == "__main__":
    main()
