"""Cost of a step of ResNet-8 with batch norm, and in peers.

The network of nn.resnet_cifar(8): a convolution and three blocks of two convolutions with 16, 32
and 64 channels, shortcuts without parameters; batches of 128 images of 32x32x3, momentum. Goal: fnn
takes at most 0.85 of torch's time. A second table is for ResNet-20, which has nine blocks. Run
`python benchmarks/resnet_step.py`.
"""

from collections.abc import Callable
from functools import partial

from measure import Program, Timing, compare, judge, missing, show, table, version
from stepping import (
    PICTURES,
    SIZE,
    STEPS,
    Work,
    equinox,
    fnn_step,
    inside,
    nnx,
    outside,
    torch,
    with_equinox,
    with_keras,
    with_nnx,
    with_torch,
)

from fnn import nn

FNN = "fnn, in a scan"
ROUNDS = 5
FEW, FEW_STEPS = 3, 3  # rounds and steps of ResNet-20, whose steps take three times as long


def with_fnn(way: Callable, depth: int, work: Work) -> Program:
    return way(*fnn_step(nn.resnet_cifar(depth), work), work)


def by_nnx(depth: int, work: Work) -> Program:
    from nnx_resnet import ResNet

    return with_nnx(ResNet(nnx.Rngs(0), depth), work)


def by_equinox(depth: int, work: Work) -> Program:
    from equinox_resnet import ResNet

    return with_equinox(partial(ResNet, depth=depth), work)


def by_keras(depth: int, work: Work) -> Program:
    from keras_models import resnet

    return with_keras(resnet(depth, SIZE), work)


def by_torch(depth: int, work: Work, *, compiled: bool = False) -> Program:
    from torch_resnet import resnet

    return with_torch(resnet(depth), work, compiled=compiled)


def makers() -> dict[str, Callable[[int, Work], Program]]:
    """Functions (depth, work) -> program, by name."""
    by_name: dict[str, Callable[[int, Work], Program]] = {
        FNN: partial(with_fnn, inside),
        "fnn, one call per step": partial(with_fnn, outside),
    }
    if nnx:
        by_name["flax nnx + optax"] = by_nnx
    if equinox:
        by_name["equinox + optax"] = by_equinox
    if version("keras"):
        by_name["keras on jax"] = by_keras
    if torch:
        by_name["torch, eager, channels last"] = by_torch
        by_name["torch, compiled"] = partial(by_torch, compiled=True)
    return by_name


def timings(depth: int, work: Work, rounds: int) -> dict[str, Timing]:
    programs = {name: make(depth, work) for name, make in makers().items()}
    return compare(programs, base=FNN, rounds=rounds)


def rows(depth: int, steps: int, timings: dict[str, Timing]) -> list[dict[str, str]]:
    table = []
    for name, timing in timings.items():
        row = {f"one step of ResNet-{depth}": name}
        row["ms"] = f"{1e3 * timing.seconds / steps:.1f}"
        row[f"× {FNN}"] = f"{timing.ratio:.2f}"
        table.append(row)
    return table


def main() -> None:
    eight = timings(8, PICTURES, ROUNDS)
    twenty = timings(20, PICTURES.first(FEW_STEPS), FEW)
    goals = []
    if torch:
        fastest = min(t.ratio for name, t in eight.items() if name.startswith("torch"))
        label = "fnn in a scan relative to the fastest of torch:"
        goals.append(judge(label, 1 / fastest, 0.85, form=".2f"))
    method = (
        f"Warm; {STEPS} steps, median of {ROUNDS} alternating rounds; "
        f"for ResNet-20 {FEW_STEPS} steps, {FEW} rounds."
    )
    absent = missing("torch", "flax", "equinox", "keras")
    second = table(rows(20, FEW_STEPS, twenty))
    show(__doc__, method, rows(8, STEPS, eight), *goals, second, *absent)


if __name__ == "__main__":
    main()
