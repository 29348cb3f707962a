"""What a step of ResNet-8 with batch norm costs, and what it costs peers.

The network of nn.resnet_cifar(8): a convolution and three blocks of two, of 16, 32 and 64 channels, shortcuts without
parameters; batch 128 of 32x32x3, momentum. Goal: fnn takes at most 0.85 of torch's time. ResNet-20, of nine blocks, in
a second table. Run `python benchmarks/resnet_step.py`.
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
ROUNDS, FEW, FEW_STEPS = (
    5,
    3,
    3,
)  # the second table's are few, for its steps take three times as long


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
    """What makes each program, for a depth and for its batches."""
    found = {FNN: partial(with_fnn, inside), "fnn, a call a step": partial(with_fnn, outside)}
    found |= {"flax nnx + optax": by_nnx} if nnx else {}
    found |= {"equinox + optax": by_equinox} if equinox else {}
    found |= {"keras on jax": by_keras} if version("keras") else {}
    if torch:
        found |= {
            "torch, eager, channels last": by_torch,
            "torch, compiled": partial(by_torch, compiled=True),
        }
    return found


def timings(depth: int, work: Work, rounds: int) -> dict[str, Timing]:
    programs = {name: make(depth, work) for name, make in makers().items()}
    return compare(programs, base=FNN, rounds=rounds)


def rows(depth: int, steps: int, timings: dict[str, Timing]) -> list[dict[str, str]]:
    return [
        {
            f"one step of ResNet-{depth}": name,
            "ms": f"{1e3 * t.seconds / steps:.1f}",
            f"× {FNN}": f"{t.ratio:.2f}",
        }
        for name, t in timings.items()
    ]


def main() -> None:
    eight, twenty = timings(8, PICTURES, ROUNDS), timings(20, PICTURES.first(FEW_STEPS), FEW)
    goals = []
    if torch:
        fastest = min(t.ratio for name, t in eight.items() if name.startswith("torch"))
        goals.append(judge("fnn in a scan by the fastest of torch:", 1 / fastest, 0.85, form=".2f"))
    method = f"Warm; {STEPS} steps, median of {ROUNDS} alternating rounds; of ResNet-20 {FEW_STEPS} steps, {FEW} rounds."
    absent = missing("torch", "flax", "equinox", "keras")
    show(
        __doc__, method, rows(8, STEPS, eight), *goals, table(rows(20, FEW_STEPS, twenty)), *absent
    )


if __name__ == "__main__":
    main()
