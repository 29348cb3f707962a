"""3 x 3 matrices that map homogeneous coordinates (row, column, 1)."""

import jax
import jax.numpy as jnp
from jax import Array

from fnn.types import Number


def matrix(rows: list[list[Number]]) -> Array:
    """The matrix (3, 3) of these entries, which may be traced: float32."""
    stacked = []
    for row in rows:
        entries = [jnp.asarray(entry, jnp.float32) for entry in row]
        stacked.append(jnp.stack(entries))
    return jnp.stack(stacked)


def product(*factors: Array) -> Array:
    """The matrix product, of which the last factor is applied first."""
    result = factors[0]
    for factor in factors[1:]:
        # Accelerators multiply at reduced precision by default, which shifts pixels.
        result = jnp.matmul(result, factor, precision=jax.lax.Precision.HIGHEST)
    return result


def inverse(m: Array) -> Array:
    """The inverse by the adjugate: exact for matrices of whole numbers with determinant ±1."""
    (a, b, c), (d, e, f), (g, h, i) = m
    cofactors = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    # Expansion along the first row.
    determinant = a * cofactors[0][0]
    determinant = determinant + b * cofactors[1][0]
    determinant = determinant + c * cofactors[2][0]
    return matrix(cofactors) / determinant


def translation(rows: Number, columns: Number) -> Array:
    """Translation by `rows` down and `columns` to the right."""
    return matrix(
        [
            [1, 0, rows],
            [0, 1, columns],
            [0, 0, 1],
        ]
    )


def scaling(rows: Number, columns: Number) -> Array:
    """Scaling about (0, 0) by one factor along rows and one along columns."""
    return matrix(
        [
            [rows, 0, 0],
            [0, columns, 0],
            [0, 0, 1],
        ]
    )


def rotation(degrees: Number) -> Array:
    """Rotation about (0, 0), counter-clockwise as the image is displayed."""
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos = jnp.cos(angle)
    sin = jnp.sin(angle)
    # With x = column and y = -row this is the counter-clockwise rotation of (x, y).
    return matrix(
        [
            [cos, -sin, 0],
            [sin, cos, 0],
            [0, 0, 1],
        ]
    )


def shearing(rows: Number, columns: Number) -> Array:
    """Shear: down by `rows` per column, and to the right by `columns` per row."""
    return matrix(
        [
            [1, rows, 0],
            [columns, 1, 0],
            [0, 0, 1],
        ]
    )


def around(center: tuple[Number, Number], m: Array) -> Array:
    """The same transform about the center (row, column) instead of (0, 0)."""
    rows, columns = center
    # The center is moved to the origin, transformed there, and moved back.
    from_origin = translation(rows, columns)
    to_origin = translation(-rows, -columns)
    return product(from_origin, m, to_origin)


def middle(shape: tuple[int, ...]) -> tuple[float, float]:
    """The center (row, column) of an image (height, width, ...)."""
    # Coordinates are those of pixel centers, so the last one is the length - 1.
    row = (shape[0] - 1) / 2
    column = (shape[1] - 1) / 2
    return row, column


def carry(m: Array, coordinates: Array) -> Array:
    """Map coordinates (..., 2) by the matrix."""
    shape = (*coordinates.shape[:-1], 1)
    ones = jnp.ones(shape, coordinates.dtype)
    homogeneous = jnp.concatenate([coordinates, ones], -1)  # (..., 3)
    m = m.T.astype(coordinates.dtype)
    mapped = jnp.matmul(homogeneous, m, precision=jax.lax.Precision.HIGHEST)
    # The third component is 1 but for perspective.
    return mapped[..., :2] / mapped[..., 2:]
