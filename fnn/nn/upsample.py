"""Enlargement of images, by repetition or interpolation."""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.stateless import stateless
from fnn.nn.core.windows import Sizes
from fnn.types import Layer, Shape
from fnn.values import maker

METHODS = ("nearest", "bilinear", "bicubic")
# The coefficient a of the cubic convolution, as in torch and OpenCV.
CUBIC = -0.75


@maker
def upsample(
    factor: Sizes | None = None,
    *,
    size: Sizes | None = None,
    method: str = "nearest",
    align_corners: bool = False,
) -> Layer:
    """Enlarge each image by a whole factor or to any size, by repetition or interpolation.

    x (batch, height, width, channels) -> y (batch, height', width', channels). With n pixels of x
    and m of y along an axis, pixel i of y is at (i + 1/2) n / m - 1/2 in x, or at
    i (n - 1) / (m - 1) with `align_corners`; x continues as its outermost pixel. All values are
    those of torch's interpolate [Keys 1981, for "bicubic", with a = -0.75].

    Args:
        factor: Factor of height and width, or one for each; 2 if `size` is None too.
        size: Size of y instead: height and width, or one int for both. A smaller size than that of
            x takes samples without a filter, which aliases.
        method: "nearest", "bilinear" or "bicubic", whose results may leave the range of x.
        align_corners: Whether the outermost pixels of y lie on those of x, for "bilinear" and
            "bicubic".

    Raises:
        ConfigError: An option is out of range, or both `factor` and `size` are given.
        ShapeError: x is not a batch of images, or an image has no pixels.
        DTypeError: x is not of floating point.
    """
    if size is not None and factor is not None:
        raise ConfigError(
            "upsample",
            "a factor or a size",
            "both",
            "leave one of them out",
        )
    sizes = None if size is None else checks.pair("upsample size", size)
    factor = 2 if factor is None else factor
    factors = checks.pair("upsample factor", factor)
    checks.choice("upsample method", method, METHODS)
    checks.flag("upsample align_corners", align_corners)
    if align_corners and method == "nearest":
        expected = 'False with "nearest"'
        advice = 'use method="bilinear" or "bicubic"'
        raise ConfigError(
            "upsample align_corners",
            expected,
            True,
            advice,
        )

    def out_size(image: Shape) -> Shape:
        if sizes is not None:
            return sizes
        pairs = zip(image, factors, strict=True)
        return tuple(n * axis_factor for n, axis_factor in pairs)

    def out_shape(shape: Shape) -> Shape:
        *image, channels = checks.image_shape("upsample", shape)
        # An image without pixels has no outermost one, which y continues with.
        if 0 in image:
            raise ShapeError(
                "upsample",
                "at least one pixel",
                tuple(shape),
                "give the image pixels",
            )
        enlarged = out_size(tuple(image))
        return *enlarged, channels

    def apply(x: jax.Array) -> jax.Array:
        checks.image_batch("upsample x", x)
        *image, _ = out_shape(x.shape[1:])
        # Half precision would round between the two axes.
        wide = trees.wide(x)
        y = x.astype(wide)
        # Interpolation is separable: first along the height, then along the width.
        for axis, m in enumerate(image, 1):
            y = _resize(y, axis, m, method, align_corners)
        return y.astype(x.dtype)

    return stateless("upsample", out_shape, apply)


def _resize(
    x: jax.Array,
    axis: int,
    m: int,
    method: str,
    align_corners: bool,
) -> jax.Array:
    """Resize one axis to m pixels."""
    n = x.shape[axis]
    if m == n:
        return x
    is_whole_factor = m % n == 0
    if is_whole_factor and method in PHASES and not align_corners:
        phases_of = PHASES[method]
        phases = phases_of(x, axis, m // n)
        return _interleave(phases, axis)
    taps = _taps(n, m, method, align_corners)
    aligned = [1] * x.ndim
    aligned[axis] = m
    terms = []
    for indices, weights in zip(taps.indices, taps.weights, strict=True):
        pixels = jnp.take(x, indices, axis, mode="clip", indices_are_sorted=True)
        factors = jnp.asarray(weights, x.dtype)
        # (m,) -> (1, ..., m, ..., 1)
        factors = factors.reshape(aligned)
        terms.append(pixels * factors)
    # In the order of the taps: a sum of floats depends on it.
    return reduce(jnp.add, terms)


class Taps(NamedTuple):
    """The pixels of x that each pixel of y is a weighted sum of, along one axis.

    Attributes:
        indices: One array (m,) for each tap, sorted.
        weights: Their weights, (m,) each.
    """

    indices: list[np.ndarray]
    weights: list[np.ndarray]


def _taps(
    n: int,
    m: int,
    method: str,
    align_corners: bool,
) -> Taps:
    """Compute the taps that resize n pixels to m."""
    numbers = np.arange(m)
    last = n - 1
    if method == "nearest":
        # Rounded as in torch, whose float32 is below the exact quotient at some sizes.
        ratio = np.float32(n) / np.float32(m)
        quotient = numbers.astype(np.float32) * ratio
        nearest = np.minimum(quotient.astype(int), last)
        return Taps([nearest], [np.ones(m)])
    if align_corners:
        # y of one pixel takes the first of x.
        intervals = max(m - 1, 1)
        positions = numbers * (last / intervals)
    else:
        centers = numbers + 0.5
        positions = centers * (n / m) - 0.5
    first = np.floor(positions).astype(int)
    t = positions - first
    # Weights by the offset of the tap from the first pixel.
    weights = {0: 1 - t, 1: t}
    if method == "bicubic":
        weights = {
            -1: _far(1 + t),
            0: _near(t),
            1: _near(1 - t),
            2: _far(2 - t),
        }
    # Outside of x its outermost pixel continues.
    indices = [np.clip(first + offset, 0, last) for offset in weights]
    values = list(weights.values())
    return Taps(indices, values)


def _near(t: np.ndarray) -> np.ndarray:
    """The cubic convolution at a distance of at most 1."""
    # Horner's form
    cubic = (CUBIC + 2) * t
    return (cubic - (CUBIC + 3)) * t**2 + 1


def _far(t: np.ndarray) -> np.ndarray:
    """The cubic convolution at a distance from 1 to 2."""
    return CUBIC * (((t - 5) * t + 8) * t - 4)


def _nearest_phases(
    x: jax.Array,
    axis: int,
    factor: int,
) -> list[jax.Array]:
    # All phases are equal: interleaving them repeats each pixel.
    return [x] * factor


def _bilinear_phases(
    x: jax.Array,
    axis: int,
    factor: int,
) -> list[jax.Array]:
    """Return the pixels of y in phases: phase p holds pixel p of every `factor` pixels.

    Phase p is at an offset of (p + 1/2) / factor - 1/2 from each pixel of x, toward a neighbor.
    """
    size = x.shape[axis]
    first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
    last = jax.lax.slice_in_dim(x, size - 1, size, axis=axis)
    all_but_last = jax.lax.slice_in_dim(x, 0, -1, axis=axis)
    all_but_first = jax.lax.slice_in_dim(x, 1, None, axis=axis)
    # The neighbor before and after each pixel; the outermost pixels are their own neighbors.
    before = jnp.concatenate([first, all_but_last], axis)
    after = jnp.concatenate([all_but_first, last], axis)
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        distance = abs(offset)
        neighbor = before if offset < 0 else after
        own_part = x * (1 - distance)
        phases.append(own_part + neighbor * distance)
    return phases


# The methods that have phases, which are faster than the taps below.
PHASES: dict[str, Callable[[jax.Array, int, int], list[jax.Array]]] = {
    "nearest": _nearest_phases,
    "bilinear": _bilinear_phases,
}


def _interleave(phases: list[jax.Array], axis: int) -> jax.Array:
    """Alternate the pixels of the phases: each (..., n, ...) -> (..., n phases, ...)."""
    shape = phases[0].shape
    count = len(phases)
    stacked = jnp.stack(phases, axis + 1)  # (..., n, phases, ...)
    before = shape[:axis]
    after = shape[axis + 1 :]
    # (..., n, phases, ...) -> (..., n phases, ...)
    return stacked.reshape(*before, shape[axis] * count, *after)
