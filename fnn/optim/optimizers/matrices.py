"""Parameter arrays seen as matrices (inputs, outputs), and functions of matrices."""

from functools import partial

import jax
import jax.numpy as jnp


def as_matrix(p: jax.Array) -> jax.Array:
    """A kernel as a matrix: all axes but the last are inputs, (height, width, in, out) -> (height width in, out)."""
    return p.reshape(-1, p.shape[-1])


def product(*factors: jax.Array) -> jax.Array:
    """The matrix product, in the full precision of its dtype on every device."""
    result = factors[0]
    for factor in factors[1:]:
        result = jnp.matmul(result, factor, precision="highest")
    return result


def gram(matrix: jax.Array, axis: int) -> jax.Array:
    """The products of its rows with each other (axis 0), or of its columns (axis 1)."""
    return product(matrix, matrix.T) if axis == 0 else product(matrix.T, matrix)


def along(square: jax.Array, matrix: jax.Array, axis: int) -> jax.Array:
    """The square matrix applied to the rows' axis (0) or, transposed, to the columns' (1)."""
    return product(square, matrix) if axis == 0 else product(matrix, square.T)


def short_sides(p: jax.Array, max_size: int) -> list[int]:
    """The axes of a kernel's matrix that are no longer than that; none of an array with fewer than two axes."""
    return (
        [axis for axis, size in enumerate(as_matrix(p).shape) if size <= max_size]
        if p.ndim >= 2
        else []
    )


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def inverse_power(matrix: jax.Array, exponent: float) -> jax.Array:
    """A^-exponent for a symmetric positive definite matrix, whose derivative is finite where eigenvalues coincide."""
    values, vectors = jnp.linalg.eigh(matrix)
    powers = jnp.maximum(values, _least(values)) ** -exponent
    return product(vectors * powers[None], vectors.T)


@inverse_power.defjvp
def _inverse_power_jvp(
    exponent: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Daleckii & Krein 1965: Q (F ∘ QᵀdA Q) Qᵀ, F the divided differences of x^-exponent at the eigenvalues."""
    (matrix,), (change,) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix)
    values = jnp.maximum(values, _least(values))
    powers = values**-exponent
    gaps, middle = values[:, None] - values[None], (values[:, None] + values[None]) / 2
    apart = jnp.abs(gaps) > 1e-3 * middle
    near = -exponent * middle ** (-exponent - 1)
    slopes = jnp.where(apart, (powers[:, None] - powers[None]) / jnp.where(apart, gaps, 1), near)
    inner = slopes * product(vectors.T, change, vectors)
    return product(vectors * powers[None], vectors.T), product(vectors, inner, vectors.T)


def _least(values: jax.Array) -> jax.Array:
    """Below this share of the largest eigenvalue all is rounding."""
    return jnp.finfo(values.dtype).eps * jnp.abs(values).max() + jnp.finfo(values.dtype).tiny
