"""Cost of a convolution and its gradients on this machine, outside and inside of `lax.scan`.

Run `python benchmarks/conv_in_scan.py`: it prints a table of milliseconds for the output and the
gradients of the image and the kernel, for XLA, fnn and, if it is installed, torch. See jax issue
12868.
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

STEPS = 2  # of the scan, with different operands, so that XLA moves nothing out of the loop
ROUNDS = 5
BUDGET = 2.0  # seconds per cell of the table: slow programs have fewer rounds, at least one
TOO_SLOW = 3e8  # products above which XLA's gradients in a scan take a minute per step

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
# Convolutions of ResNet-8 after its first, with their numbers.
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


def evaluate(conv: Callable, x, kernel, y):
    """The output, and both gradients of its product with y."""
    result, pull = jax.vjp(conv, x, kernel)
    return result, pull(y)


def outside(conv: Callable, operands) -> Callable[[], object]:
    """One call of a compiled program per step, with different operands."""
    steps = [tuple(a[i] for a in operands) for i in range(STEPS)]
    call = jax.jit(partial(evaluate, conv)).lower(*steps[0]).compile()
    return lambda: jax.block_until_ready([call(*step) for step in steps])


def inside(conv: Callable, operands) -> Callable[[], object]:
    """All steps in one scan, which sums the outputs and the gradients."""

    def step(total, operands):
        return jax.tree.map(jnp.add, total, evaluate(conv, *operands)), None

    x, kernel, y = (jnp.zeros_like(a[0]) for a in operands)
    start = y, (x, kernel)
    run = jax.jit(lambda operands: lax.scan(step, start, operands)[0]).lower(operands).compile()
    return lambda: jax.block_until_ready(run(operands))


def in_torch(operands, stride: int, padding: int, groups: int) -> Callable[[], object]:
    """The functions of torch, channels last."""

    def nchw(a, *axes):
        permuted = torch.from_numpy(np.array(a)).permute(axes)
        return permuted.contiguous(memory_format=torch.channels_last)

    steps = [
        (nchw(x, 0, 3, 1, 2), nchw(w, 3, 2, 0, 1), nchw(y, 0, 3, 1, 2))
        for x, w, y in zip(*operands, strict=True)
    ]
    sizes = {"stride": [stride] * 2, "padding": [padding] * 2, "dilation": [1, 1]}
    options = {**sizes, "groups": groups}
    fixed = {"bias_sizes": None, "transposed": False, "output_padding": [0, 0]}
    forward = partial(torch.conv2d, **options)
    backward = partial(torch.ops.aten.convolution_backward, **fixed, **options)
    mask = [True, True, False]  # no gradient of a bias
    return lambda: [(forward(x, w), backward(y, x, w, output_mask=mask)) for x, w, y in steps]


def milliseconds(programs: dict[str, Callable[[], object] | None]) -> dict[str, float]:
    """Median time of a step of each program, in turns.

    The first round warms up; it counts only where there is no other.
    """
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(1 + ROUNDS):
        for name, program in programs.items():
            if program is not None and sum(spent[name]) < BUDGET:
                start = time.perf_counter()
                program()
                spent[name].append(time.perf_counter() - start)
    counted = {name: times[1:] or times or [math.nan] for name, times in spent.items()}
    return {name: 1e3 * statistics.median(times) / STEPS for name, times in counted.items()}


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
    """Milliseconds of a step of each program, for one convolution."""
    sizes = {"stride": (stride,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1)}
    options = {**sizes, "groups": groups}
    out_size = (size + 2 * padding - window) // stride + 1
    image = (batch, size, size, inputs)
    kernel = (window, window, inputs // groups, outputs)
    output = (batch, out_size, out_size, outputs)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(STEPS, *shape)) for shape in (image, kernel, output)]
    operands = tuple(jnp.asarray(array, jnp.float32) for array in arrays)
    ours, theirs = partial(convolve, **options), partial(xla, **options)
    is_slow = batch * size**2 * inputs * outputs >= TOO_SLOW
    programs = {
        "XLA outside": outside(theirs, operands),
        "XLA in scan": None if is_slow else inside(theirs, operands),
        "fnn outside": outside(ours, operands),
        "fnn in scan": inside(ours, operands),
    }
    if torch is not None:
        programs["torch"] = in_torch(operands, stride, padding, groups)
    return milliseconds(programs)


def main() -> None:
    versions = f"jax {jax.__version__}"
    if torch:
        versions += f", torch {torch.__version__}"
    machine = f"{os.cpu_count()} cores, {jax.default_backend()}, {versions}"
    print(f"{machine}; ms; kernels are 3x3 and padding is 1 unless noted\n")
    rows = {}
    for name, *case in CASES:
        rows[name] = row = measure(*case)
        if len(rows) == 1:
            print("| convolution |", " | ".join(row), "|\n|---|" + "---:|" * len(row))
        cells = ["–" if math.isnan(ms) else f"{ms:.2f}" for ms in row.values()]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    sums = []
    for program in rows[next(iter(RESNET))]:
        if program != "XLA in scan":
            total = sum(count * rows[name][program] for name, count in RESNET.items())
            sums.append(f"{program} {total:.1f} ms")
    print("\nResNet-8 has six of these:", ", ".join(sums) + ".")


if __name__ == "__main__":
    main()
