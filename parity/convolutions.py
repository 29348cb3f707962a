"""Convolutions of signals, images and volumes and their transposes, held against torch.

Two dozen geometries are drawn once, eight for each number of axes, so that as many programs are compiled a dtype.
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
    """All of a convolution but its numbers; a tuple has a number for each axis."""

    image: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    inputs: int
    outputs: int


def drawn(seed: int) -> Problem:
    draw = np.random.default_rng(seed)
    axes = 1 + seed % 3
    window, stride, dilation = (
        draw.integers(1, 4, axes),
        draw.integers(1, 4, axes),
        draw.integers(1, 3, axes),
    )
    reach = (window - 1) * dilation + 1
    padding = np.minimum(
        draw.integers(0, 3, axes), (reach - 1) // 2
    )  # so that of a transpose something is left
    image = np.maximum(reach - 2 * padding, 1) + draw.integers(0, 4, axes)
    groups = int(draw.integers(1, 4))
    per_axis = (image, window, stride, padding, dilation, draw.integers(0, stride))
    return Problem(
        *(tuple(sizes.tolist()) for sizes in per_axis),
        groups,
        *(groups * draw.integers(1, 4, 2)).tolist(),
    )


PROBLEMS = [drawn(seed) for seed in range(24)]


def first(x: Any) -> Any:
    """Channels first, as torch has them."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


@partial(jax.jit, static_argnums=(0, 1))
def _ours(problem: Problem, transposed: bool, weight, x, kernel, bias):
    return differentiated(_layer(problem, transposed))(weight, x, kernel, bias)


def _layer(problem: Problem, transposed: bool):
    _, window, stride, padding, dilation, output_padding, groups, _, outputs = problem
    maker, _ = (TRANSPOSES if transposed else CONVS)[len(window)]
    extra = {"output_padding": output_padding} if transposed else {}
    pairs = [(pad, pad) for pad in padding]
    layer = maker(
        outputs, window, stride=stride, padding=pairs, dilation=dilation, groups=groups, **extra
    )
    return lambda x, kernel, bias: layer.apply({"kernel": kernel, "bias": bias}, {}, x)[0]


def _arrays(
    problem: Problem, transposed: bool, draw: np.random.Generator, dtype: str
) -> list[np.ndarray]:
    """The weight of y, x, the kernel and the bias."""
    kernel = (*problem.window, problem.inputs // problem.groups, problem.outputs)
    shapes = (2, *problem.image, problem.inputs), kernel, (problem.outputs,)
    y = jax.eval_shape(
        _layer(problem, transposed), *(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    )
    return [draw.normal(size=shape).astype(dtype) for shape in (y.shape, *shapes)]


def evened(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values with the gradient of the bias of order 1: it sums one number a pixel, which may all but cancel."""
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
        return last(
            theirs(
                first(x), kernel.movedim((-1, -2), (0, 1)).contiguous(), bias, **_options(problem)
            )
        )

    return evened(_ours(problem, False, *arrays)), evened(torch_differentiated(apply, *arrays))


@family("torch")
def conv_transpose(draw: np.random.Generator, dtype: str):
    """Torch's kernels are (inputs, outputs / groups, ...): the groups lie along the inputs."""
    problem = PROBLEMS[draw.integers(len(PROBLEMS))]
    arrays = _arrays(problem, True, draw, dtype)
    theirs = TRANSPOSES[len(problem.window)][1]

    def apply(x, kernel, bias):
        by_group = kernel.unflatten(-1, (problem.groups, -1)).movedim(
            -2, 0
        )  # (groups, ..., in / groups, out / groups)
        by_input = by_group.movedim((-2, -1), (1, 2)).flatten(0, 1).contiguous()
        return last(
            theirs(
                first(x), by_input, bias, **_options(problem), output_padding=problem.output_padding
            )
        )

    return evened(_ours(problem, True, *arrays)), evened(torch_differentiated(apply, *arrays))


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
        depthwise, pointwise = (kernel.permute(3, 2, 0, 1) for kernel in (depthwise, pointwise))
        return last(F.conv2d(F.conv2d(first(x), depthwise, None, 2, 1, 1, 3), pointwise, bias))

    return _separable(*arrays), torch_differentiated(apply, *arrays)
