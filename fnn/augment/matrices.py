"""3 x 3 matrices that map homogeneous coordinates (row, column, 1)."""

import jax
import jax.numpy as jnp
from jax import Array

from fnn.types import Number
from fnn.xla import rounded_product


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
        result = _multiply(result, factor)
    return result


def _multiply(a: Array, b: Array) -> Array:
    # Not a matmul: its order of summation depends on the program, and accelerators multiply at
    # reduced precision by default, which shifts pixels. (row, k, column)
    products = rounded_product(a[:, :, None], b[None, :, :])
    return products[:, 0] + products[:, 1] + products[:, 2]


def inverse(m: Array) -> Array:
    """The inverse by the adjugate: exact for matrices of whole numbers with determinant ±1."""
    (a, b, c), (d, e, f), (g, h, i) = m

    def minor(p: Array, q: Array, r: Array, s: Array) -> Array:
        return rounded_product(p, q) - rounded_product(r, s)

    cofactors: list[list[Number]] = [
        [minor(e, i, f, h), minor(c, h, b, i), minor(b, f, c, e)],
        [minor(f, g, d, i), minor(a, i, c, g), minor(c, d, a, f)],
        [minor(d, h, e, g), minor(b, g, a, h), minor(a, e, b, d)],
    ]
    # Expansion along the first row.
    determinant = rounded_product(a, minor(e, i, f, h))
    determinant = determinant + rounded_product(b, minor(f, g, d, i))
    determinant = determinant + rounded_product(c, minor(d, h, e, g))
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
    angle = radians(jnp.asarray(degrees, jnp.float32))
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


def radians(degrees: Array) -> Array:
    """The angle in radians."""
    return rounded_product(degrees, jnp.float32(jnp.pi / 180))


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
