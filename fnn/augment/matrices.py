"""3 x 3 matrices over places (row, column, 1), and how they are put together."""

import jax
import jax.numpy as jnp
from jax import Array

from fnn.types import Number


def matrix(rows: list[list[Number]]) -> Array:
    return jnp.stack(
        [jnp.stack([jnp.asarray(entry, jnp.float32) for entry in row]) for row in rows]
    )


def product(*factors: Array) -> Array:
    """Their product, the last applied first, at full precision on any device."""
    result = factors[0]
    for factor in factors[1:]:
        result = jnp.matmul(result, factor, precision=jax.lax.Precision.HIGHEST)
    return result


def inverse(m: Array) -> Array:
    """By the adjugate, so that the inverse of whole numbers with determinant ±1 is exact."""
    (a, b, c), (d, e, f), (g, h, i) = m
    cofactors = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return matrix(cofactors) / determinant


def translation(rows: Number, columns: Number) -> Array:
    return matrix([[1, 0, rows], [0, 1, columns], [0, 0, 1]])


def scaling(rows: Number, columns: Number) -> Array:
    return matrix([[rows, 0, 0], [0, columns, 0], [0, 0, 1]])


def rotation(degrees: Number) -> Array:
    """Counter-clockwise, as one sees the image."""
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def shearing(rows: Number, columns: Number) -> Array:
    """A pixel goes down by `rows` for each column to the right, and to the right by `columns` for each row down."""
    return matrix([[1, rows, 0], [columns, 1, 0], [0, 0, 1]])


def around(center: tuple[Number, Number], m: Array) -> Array:
    """The same about another center (row, column) than (0, 0)."""
    rows, columns = center
    return product(translation(rows, columns), m, translation(-rows, -columns))


def middle(shape: tuple[int, ...]) -> tuple[float, float]:
    """The center of an image (height, width, ...)."""
    return (shape[0] - 1) / 2, (shape[1] - 1) / 2


def carry(m: Array, places: Array) -> Array:
    """Where the matrix sends places (..., 2)."""
    ones = jnp.ones((*places.shape[:-1], 1), places.dtype)
    lifted = jnp.matmul(
        jnp.concatenate([places, ones], -1),
        m.T.astype(places.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
    return lifted[..., :2] / lifted[..., 2:]
