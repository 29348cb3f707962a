"""Convolutions of signals, images and volumes and their transposes, compared with torch.

24 geometries are drawn once, eight for each number of axes, so that 24 programs are compiled for
each dtype.
"""

from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn

CONVS = {1: (nn.conv_1d, F.conv1d), 2: (nn.conv, F.conv2d), 3: (nn.conv_3d, F.conv3d)}
TRANSPOSES = {
    1: (nn.conv_transpose_1d, F.conv_transpose1d),
    2: (nn.conv_transpose, F.conv_transpose2d),
    3: (nn.conv_transpose_3d, F.conv_transpose3d),
}


class Problem(NamedTuple):
    """The geometry of a convolution; a tuple has one number per axis."""

    image: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    inputs: int
    outputs: int


def problem_of(seed: int) -> Problem:
    draw = np.random.default_rng(seed)
    axes = 1 + seed % 3
    window = draw.integers(1, 4, axes)
    stride = draw.integers(1, 4, axes)
    dilation = draw.integers(1, 3, axes)
    extent = (window - 1) * dilation + 1
    # A larger padding could leave nothing of the output of a transpose.
    padding = np.minimum(draw.integers(0, 3, axes), (extent - 1) // 2)
    image = np.maximum(extent - 2 * padding, 1) + draw.integers(0, 4, axes)
    groups = int(draw.integers(1, 4))
    arrays = (image, window, stride, padding, dilation, draw.integers(0, stride))
    per_axis = [tuple(sizes.tolist()) for sizes in arrays]
    inputs, outputs = (groups * draw.integers(1, 4, 2)).tolist()
    return Problem(*per_axis, groups, inputs, outputs)


PROBLEMS = [problem_of(seed) for seed in range(24)]


def first(x: Any) -> Any:
    """The array with channels first, as in torch."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


@partial(jax.jit, static_argnums=(0, 1))
def _ours(problem: Problem, transposed: bool, weight, x, kernel, bias):
    return differentiated(_layer(problem, transposed))(weight, x, kernel, bias)


def _layer(problem: Problem, transposed: bool):
    _, window, stride, padding, dilation, output_padding, groups, _, outputs = problem
    maker, _ = (TRANSPOSES if transposed else CONVS)[len(window)]
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = output_padding
    pairs = [(pad, pad) for pad in padding]
    layer = maker(outputs, window, padding=pairs, **options)
    return lambda x, kernel, bias: layer.apply({"kernel": kernel, "bias": bias}, {}, x)[0]


def _arrays(
    problem: Problem, transposed: bool, draw: np.random.Generator, dtype: str
) -> list[np.ndarray]:
    """The weight of y, x, the kernel and the bias."""
    kernel = (*problem.window, problem.inputs // problem.groups, problem.outputs)
    shapes = (2, *problem.image, problem.inputs), kernel, (problem.outputs,)
    structs = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    y = jax.eval_shape(_layer(problem, transposed), *structs)
    return [draw.normal(size=shape).astype(dtype) for shape in (y.shape, *shapes)]


def scaled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values with the gradient of the bias divided to order 1.

    It is a sum over the pixels, whose terms may nearly cancel.
    """
    y, *slopes, bias = values
    return y, *slopes, bias / prod(y.shape[:-1]) ** 0.5


def _options(problem: Problem) -> dict[str, Any]:
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(problem, name) for name in names}


@family("torch")
def conv(draw: np.random.Generator, dtype: str):
    problem = PROBLEMS[draw.integers(len(PROBLEMS))]
    arrays = _arrays(problem, False, draw, dtype)
    theirs = CONVS[len(problem.window)][1]

    def apply(x, kernel, bias):
        kernel = kernel.movedim((-1, -2), (0, 1)).contiguous()  # (outputs, inputs / groups, ...)
        return last(theirs(first(x), kernel, bias, **_options(problem)))

    return scaled(_ours(problem, False, *arrays)), scaled(torch_differentiated(apply, *arrays))


@family("torch")
def conv_transpose(draw: np.random.Generator, dtype: str):
    """Torch's kernels are (inputs, outputs / groups, ...), with the groups along the inputs."""
    problem = PROBLEMS[draw.integers(len(PROBLEMS))]
    arrays = _arrays(problem, True, draw, dtype)
    theirs = TRANSPOSES[len(problem.window)][1]

    def apply(x, kernel, bias):
        by_group = kernel.unflatten(-1, (problem.groups, -1))
        by_group = by_group.movedim(-2, 0)  # (groups, ..., in / groups, out / groups)
        by_input = by_group.movedim((-2, -1), (1, 2)).flatten(0, 1).contiguous()
        options = _options(problem) | {"output_padding": problem.output_padding}
        return last(theirs(first(x), by_input, bias, **options))

    return scaled(_ours(problem, True, *arrays)), scaled(torch_differentiated(apply, *arrays))


@jax.jit
def _separable(weight, x, depthwise, pointwise, bias):
    def apply(x, depthwise, pointwise, bias):
        params = {
            "depthwise": {"kernel": depthwise},
            "pointwise": {"kernel": pointwise, "bias": bias},
        }
        return nn.separable_conv(2, multiplier=2, stride=2, padding=1).apply(params, {}, x)[0]

    return differentiated(apply)(weight, x, depthwise, pointwise, bias)


@family("torch")
def separable_conv(draw: np.random.Generator, dtype: str):
    shapes = (2, 3, 3, 2), (2, 5, 6, 3), (3, 3, 1, 6), (1, 1, 6, 2), (2,)
    arrays = [draw.normal(size=shape).astype(dtype) for shape in shapes]

    def apply(x, depthwise, pointwise, bias):
        depthwise = depthwise.permute(3, 2, 0, 1)
        pointwise = pointwise.permute(3, 2, 0, 1)
        y = F.conv2d(first(x), depthwise, None, 2, 1, 1, 3)  # stride, padding, dilation, groups
        return last(F.conv2d(y, pointwise, bias))

    return _separable(*arrays), torch_differentiated(apply, *arrays)
