"""Changes of scale along rows and columns, antialiased."""

import functools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import loose
from fnn.augment.ops import Move
from fnn.types import Image

FEW = 10  # taps that are cheaper one by one than as a product with a matrix that is zero elsewhere


def triangle(distance: Array) -> Array:
    return jnp.maximum(0, 1 - jnp.abs(distance))


def cubic(distance: Array) -> Array:
    """Keys' cubic with a = -1/2, as in Pillow and in torch's antialiased bicubic."""
    x = jnp.abs(distance)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


KERNELS: dict[str, tuple[Callable[[Array], Array], int]] = {
    "bilinear": (triangle, 1),
    "bicubic": (cubic, 2),
}


def scaled(image: Image, move: Move) -> Image:
    """image (height, width, channels) through a move of known support -> (*size, channels); bytes are rounded.

    Each new pixel is the weighted mean of those within max(1, scale) times the kernel's radius of its place, of the
    window that is shown alone, as Pillow crops before it resizes.
    """
    dtype = image.dtype
    levels = loose(image)
    assert move.support is not None
    for axis, support in enumerate(move.support):
        levels = _along(levels, axis, support, move)
    return (
        jnp.clip(jnp.round(levels), 0, 255).astype(dtype)
        if dtype == jnp.uint8
        else levels.astype(dtype)
    )


def _along(levels: Array, axis: int, support: int, move: Move) -> Array:
    scale, start = move.matrix[axis, axis], move.matrix[axis, 2]
    places, weights = _taps(levels.shape[axis], move.size[axis], scale, start, support, move.order)
    weights = weights.astype(levels.dtype)
    if places.shape[1] > FEW:
        hot = jax.nn.one_hot(places, levels.shape[axis], dtype=levels.dtype)
        dense = (weights[..., None] * hot).sum(1)  # (new, old)
        return jnp.moveaxis(
            jnp.tensordot(dense, levels, (1, axis), precision=jax.lax.Precision.HIGHEST), 0, axis
        )
    shape = [1, 1, 1]
    shape[axis] = -1
    take = partial(jnp.take, levels, axis=axis, mode="clip")
    parts = (weights[:, k].reshape(shape) * take(places[:, k]) for k in range(places.shape[1]))
    return functools.reduce(jnp.add, parts)


def _taps(
    length: int, size: int, scale: Array, start: Array, support: int, order: str
) -> tuple[Array, Array]:
    """Which pixels a new pixel is made of, and how much of each: places and weights (size, support)."""
    kernel, radius = KERNELS[order]
    wide = jnp.maximum(1, jnp.abs(scale))
    centers = scale * jnp.arange(size, dtype=jnp.float32) + start
    # The window's ends: half a new pixel beyond the first and the last place.
    ends = jnp.stack([centers[0] - scale / 2, centers[-1] + scale / 2])
    low, high = jnp.maximum(jnp.ceil(ends.min()), 0), jnp.minimum(jnp.floor(ends.max()), length - 1)
    first = jnp.ceil(centers - wide * radius)
    places = first[:, None] + jnp.arange(support, dtype=jnp.float32)[None, :]
    weights = kernel((places - centers[:, None]) / wide)
    weights = jnp.where((places >= low) & (places <= high), weights, 0)
    return places.astype(jnp.int32), weights / weights.sum(1, keepdims=True)
