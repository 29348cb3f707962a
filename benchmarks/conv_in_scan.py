"""What a convolution and its gradients cost on this machine, outside and inside of `lax.scan`.

Run `python benchmarks/conv_in_scan.py`: it prints a table of milliseconds for the result and both gradients, of the
image and of the kernel: XLA's own, those of fnn, and torch's if it is installed. See jax issue 12868.
"""

import math
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnn.nn.kernels.convolution import convolve

try:
    import torch
except ImportError:
    torch = None

STEPS = 2  # of the scan; each has its own operands, so that nothing can be moved out of the loop
ROUNDS = 5
BUDGET = 2.0  # seconds for one cell: slower ones are timed fewer times, and once at least
TOO_SLOW = 3e8  # products for XLA's gradients in a scan: beyond, one step takes a minute

#        name                                 batch size kernel padding in out stride groups
CASES = [
    ("3 → 32 at 32x32, batch 128", 128, 32, 3, 1, 3, 32, 1, 1),
    ("32 → 64 at 16x16, batch 128", 128, 16, 3, 1, 32, 64, 1, 1),
    ("64 → 128 at 8x8, batch 128", 128, 8, 3, 1, 64, 128, 1, 1),
    ("64 → 64 at 32x32, batch 128", 128, 32, 3, 1, 64, 64, 1, 1),
    ("24 → 64 at 31x31, batch 128", 128, 31, 3, 1, 24, 64, 1, 1),
    ("16 → 16 at 32x32, batch 128", 128, 32, 3, 1, 16, 16, 1, 1),
    ("32 → 32 at 16x16, batch 128", 128, 16, 3, 1, 32, 32, 1, 1),
    ("64 → 64 at 8x8, batch 128", 128, 8, 3, 1, 64, 64, 1, 1),
    ("16 → 32 at 28x28, 5x5, not padded, batch 128", 128, 28, 5, 0, 16, 32, 1, 1),
    ("6 → 16 at 14x14, 5x5, not padded, batch 128", 128, 14, 5, 0, 6, 16, 1, 1),
    ("1 → 32 at 8x8, batch 64", 64, 8, 3, 1, 1, 32, 1, 1),
    ("32 → 32 at 4x4, batch 64", 64, 4, 3, 1, 32, 32, 1, 1),
    ("16 → 32 at 32x32, stride 2, batch 128", 128, 32, 3, 1, 16, 32, 2, 1),
    ("32 → 64 at 16x16, stride 2, batch 128", 128, 16, 3, 1, 32, 64, 2, 1),
    ("3 → 24 at 64x64, stride 2, batch 64", 64, 64, 3, 1, 3, 24, 2, 1),
    ("32 at 16x16, depthwise, batch 128", 128, 16, 3, 1, 32, 32, 1, 32),
]
# Those of ResNet-8 after its first, and how many it has.
RESNET = {
    "16 → 16 at 32x32, batch 128": 2,
    "16 → 32 at 32x32, stride 2, batch 128": 1,
    "32 → 32 at 16x16, batch 128": 1,
    "32 → 64 at 16x16, stride 2, batch 128": 1,
    "64 → 64 at 8x8, batch 128": 1,
}


def xla(x, kernel, *, stride, padding, dilation, groups):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        None,
        dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
    )


def worked_out(conv: Callable, x, kernel, y):
    """The result, and both gradients of its product with y."""
    result, pull = jax.vjp(conv, x, kernel)
    return result, pull(y)


def outside(conv: Callable, operands) -> Callable[[], object]:
    """One call of a compiled program per step, on its own operands."""
    steps = [tuple(a[i] for a in operands) for i in range(STEPS)]
    call = jax.jit(partial(worked_out, conv)).lower(*steps[0]).compile()
    return lambda: jax.block_until_ready([call(*step) for step in steps])


def inside(conv: Callable, operands) -> Callable[[], object]:
    """All steps in one scan, which sums what they work out: a program of one loop."""

    def step(total, operands):
        return jax.tree.map(jnp.add, total, worked_out(conv, *operands)), None

    x, kernel, y = (jnp.zeros_like(a[0]) for a in operands)
    start = y, (x, kernel)
    run = jax.jit(lambda operands: lax.scan(step, start, operands)[0]).lower(operands).compile()
    return lambda: jax.block_until_ready(run(operands))


def in_torch(operands, stride: int, padding: int, groups: int) -> Callable[[], object]:
    """torch's own functions, channels last."""

    def nchw(a, *axes):
        return (
            torch.from_numpy(np.array(a))
            .permute(axes)
            .contiguous(memory_format=torch.channels_last)
        )

    steps = [
        (nchw(x, 0, 3, 1, 2), nchw(w, 3, 2, 0, 1), nchw(y, 0, 3, 1, 2))
        for x, w, y in zip(*operands, strict=True)
    ]
    options = {
        "stride": [stride] * 2,
        "padding": [padding] * 2,
        "dilation": [1, 1],
        "groups": groups,
    }
    forward = partial(torch.conv2d, **options)
    backward = partial(
        torch.ops.aten.convolution_backward,
        bias_sizes=None,
        transposed=False,
        output_padding=[0, 0],
    )
    mask = [True, True, False]
    return lambda: [
        (forward(x, w), backward(y, x, w, output_mask=mask, **options)) for x, w, y in steps
    ]


def milliseconds(programs: dict[str, Callable[[], object] | None]) -> dict[str, float]:
    """Median time of a step of each program, alternating; the first round warms up and counts only if it is all."""
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(1 + ROUNDS):
        for name, program in programs.items():
            if program is not None and sum(spent[name]) < BUDGET:
                start = time.perf_counter()
                program()
                spent[name].append(time.perf_counter() - start)
    return {
        name: 1e3 * statistics.median(times[1:] or times or [math.nan]) / STEPS
        for name, times in spent.items()
    }


def measure(
    batch: int,
    size: int,
    window: int,
    padding: int,
    inputs: int,
    outputs: int,
    stride: int,
    groups: int,
) -> dict[str, float]:
    options = {
        "stride": (stride,) * 2,
        "padding": ((padding,) * 2,) * 2,
        "dilation": (1, 1),
        "groups": groups,
    }
    seen = (size + 2 * padding - window) // stride + 1
    shapes = (
        (batch, size, size, inputs),
        (window, window, inputs // groups, outputs),
        (batch, seen, seen, outputs),
    )
    random = np.random.default_rng(0)
    operands = tuple(
        jnp.asarray(random.normal(size=(STEPS, *shape)), jnp.float32) for shape in shapes
    )
    ours, theirs = partial(convolve, **options), partial(xla, **options)
    programs = {
        "XLA outside": outside(theirs, operands),
        "XLA in scan": inside(theirs, operands)
        if batch * size**2 * inputs * outputs < TOO_SLOW
        else None,
        "fnn outside": outside(ours, operands),
        "fnn in scan": inside(ours, operands),
    }
    if torch is not None:
        programs["torch"] = in_torch(operands, stride, padding, groups)
    return milliseconds(programs)


def main() -> None:
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if torch else "")
    where = f"{os.cpu_count()} cores, {jax.default_backend()}, {versions}"
    print(f"{where}; ms; where nothing else is said, kernels are 3x3, and padding is 1\n")
    found = {}
    for name, *case in CASES:
        found[name] = row = measure(*case)
        if len(found) == 1:
            print("| convolution |", " | ".join(row), "|\n|---|" + "---:|" * len(row))
        print(
            f"| {name} |",
            " | ".join("–" if math.isnan(ms) else f"{ms:.2f}" for ms in row.values()),
            "|",
            flush=True,
        )
    ways = [way for way in found[next(iter(RESNET))] if way != "XLA in scan"]
    sums = {way: sum(times * found[name][way] for name, times in RESNET.items()) for way in ways}
    print(
        "\nResNet-8 has six of these:",
        ", ".join(f"{way} {ms:.1f} ms" for way, ms in sums.items()) + ".",
    )


if __name__ == "__main__":
    main()
