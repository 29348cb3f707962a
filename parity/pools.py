"""Pools of signals, images and volumes, upsampling and padding, compared with torch.

Inputs are whole numbers, so that a window has equal maxima, of which the first takes the gradient.
Every family has 12 geometries, drawn once, so that 12 programs are compiled for each dtype.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
from convolutions import first, last
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn
from fnn.types import Layer

GEOMETRIES = 12
SLIDING = {
    1: (nn.max_pool_1d, nn.avg_pool_1d, F.max_pool1d, F.avg_pool1d),
    2: (nn.max_pool, nn.avg_pool, F.max_pool2d, F.avg_pool2d),
    3: (nn.max_pool_3d, nn.avg_pool_3d, F.max_pool3d, F.avg_pool3d),
}
# The layer of fnn, the function of torch on channels first, and the size of the image.
Case = tuple[Layer, Callable[..., Any], tuple[int, ...]]


def compared(make: Callable[[int], Case], draw: np.random.Generator, dtype: str):
    """Values and gradients of fnn and torch for one of the geometries, on whole numbers."""
    chosen = int(draw.integers(GEOMETRIES))
    layer, theirs, image = make(chosen)
    x = draw.integers(-2, 3, size=(2, *image, 2)).astype(dtype)
    shape = jax.eval_shape(lambda x: layer.apply({}, {}, x)[0], x).shape
    weight = draw.normal(size=shape).astype(dtype)
    expected = torch_differentiated(lambda x: last(theirs(first(x))), weight, x)
    return evaluation(make, chosen)(weight, x), expected


@cache
def evaluation(make: Callable[[int], Case], chosen: int) -> Callable[..., Any]:
    layer, *_ = make(chosen)
    return jax.jit(differentiated(lambda x: layer.apply({}, {}, x)[0]))


def sliding(seed: int) -> Case:
    """A sliding pool; torch allows a padding of at most half a window."""
    draw = np.random.default_rng(seed)
    axes = 1 + seed % 3
    window, stride = draw.integers(1, 4, axes), draw.integers(1, 4, axes)
    padding, image = draw.integers(0, window // 2 + 1), window + draw.integers(0, 4, axes)
    ours_max, ours_avg, theirs_max, theirs_avg = SLIDING[axes]
    pads = [(pad, pad) for pad in padding.tolist()]
    size = tuple(image.tolist())
    window, stride = window.tolist(), stride.tolist()
    options = {"kernel_size": window, "stride": stride, "padding": padding.tolist()}
    if seed // 3 % 2:
        layer = ours_avg(window, stride=stride, padding=pads)
        return layer, lambda x: theirs_avg(x, **options, count_include_pad=False), size
    layer = ours_max(window, stride=stride, padding=pads)
    return layer, lambda x: theirs_max(x, **options), size


def adaptive(seed: int) -> Case:
    draw = np.random.default_rng(seed)
    image, size = draw.integers(1, 9, 2).tolist(), draw.integers(1, 6, 2).tolist()
    if seed % 2:
        return nn.adaptive_avg_pool(size), lambda x: F.adaptive_avg_pool2d(x, size), tuple(image)
    return nn.adaptive_max_pool(size), lambda x: F.adaptive_max_pool2d(x, size), tuple(image)


def global_pool(seed: int) -> Case:
    axes = 1 + seed % 3
    image = tuple(np.random.default_rng(seed).integers(1, 5, axes).tolist())
    averages = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    maxima = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    average, maximum = averages[axes - 1], maxima[axes - 1]
    if seed // 3 % 2:
        return nn.global_avg_pool(), lambda x: average(x, 1).flatten(1), image
    return nn.global_max_pool(), lambda x: maximum(x, 1).flatten(1), image


def unpooled(seed: int) -> Case:
    """A pool of windows side by side, whose maxima then go back to their places."""
    draw = np.random.default_rng(seed)
    window = draw.integers(1, 4, 2)
    image = tuple((window * draw.integers(1, 4, 2) + draw.integers(0, window)).tolist())
    size = window.tolist()
    layer = nn.graph(z=(nn.max_pool(size), "x"), y=(nn.max_unpool(size), "z", "x"))

    def theirs(x: Any) -> Any:
        z, places = F.max_pool2d(x, size, return_indices=True)
        return F.max_unpool2d(z, places, size, output_size=x.shape[2:])

    return layer, theirs, image


def resized(seed: int) -> Case:
    draw = np.random.default_rng(seed)
    image, factor = draw.integers(1, 6, 2).tolist(), draw.integers(1, 5, 2).tolist()
    options: dict[str, Any] = {"scale_factor": factor}
    layer = nn.upsample(factor)
    if seed % 2:
        layer = nn.upsample(factor, method="bilinear")
        options |= {"mode": "bilinear", "align_corners": False}
    return layer, lambda x: F.interpolate(x, **options), tuple(image)


def padded(seed: int) -> Case:
    draw = np.random.default_rng(seed)
    axes = 1 + seed % 3
    mode = ("constant", "reflect", "edge")[seed // 3 % 3]
    image, pairs = draw.integers(3, 6, axes), draw.integers(0, 3, (axes, 2))
    value = float(draw.normal()) if mode == "constant" else 0.0
    widths = pairs[::-1].ravel().tolist()  # torch begins with the last axis
    torch_mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[mode]
    torch_value = value if mode == "constant" else None
    layer = nn.pad([tuple(pair) for pair in pairs.tolist()], mode=mode, value=value)
    return layer, lambda x: F.pad(x, widths, torch_mode, torch_value), tuple(image.tolist())


@family("torch")
def pools(draw: np.random.Generator, dtype: str):
    return compared(sliding, draw, dtype)


@family("torch")
def adaptive_pools(draw: np.random.Generator, dtype: str):
    return compared(adaptive, draw, dtype)


@family("torch")
def global_pools(draw: np.random.Generator, dtype: str):
    return compared(global_pool, draw, dtype)


@family("torch")
def unpools(draw: np.random.Generator, dtype: str):
    return compared(unpooled, draw, dtype)


@family("torch")
def upsample(draw: np.random.Generator, dtype: str):
    return compared(resized, draw, dtype)


@family("torch")
def pad(draw: np.random.Generator, dtype: str):
    return compared(padded, draw, dtype)
