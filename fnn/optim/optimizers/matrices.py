"""Parameter arrays as matrices (inputs, outputs), and functions of matrices."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from fnn.xla import in_sequence

# (n, n) -> ascending eigenvalues (n,), eigenvectors (n, n).
eigh = in_sequence(jnp.linalg.eigh)
qr = in_sequence(jnp.linalg.qr)


def as_matrix(p: Array) -> Array:
    """Reshape a kernel to a matrix: (height, width, in, out) -> (height * width * in, out)."""
    return p.reshape(-1, p.shape[-1])


def matmul(*factors: Array) -> Array:
    """Multiply matrices from left to right, in full precision on every device."""
    result = factors[0]
    for factor in factors[1:]:
        # By default, GPU and TPU round float32 factors to
        # fewer bits, which roots of matrices amplify.
        result = jnp.matmul(result, factor, precision="highest")
    return result


def gram(matrix: Array, axis: int) -> Array:
    """The inner products of the rows (axis 0), or of the columns (axis 1)."""
    if axis == 0:
        return matmul(matrix, matrix.T)
    return matmul(matrix.T, matrix)


def apply_along(square: Array, matrix: Array, axis: int) -> Array:
    """Apply a square matrix to each column of a matrix (axis 0), or to each row (axis 1)."""
    if axis == 0:
        return matmul(square, matrix)
    return matmul(matrix, square.T)


def short_axes(p: Array, max_size: int) -> list[int]:
    """List the axes of a kernel's matrix of at most this size; none for fewer than two."""
    # An array without numbers has no shape as a matrix.
    if p.ndim < 2 or p.size == 0:
        return []
    sizes = as_matrix(p).shape
    return [axis for axis in (0, 1) if sizes[axis] <= max_size]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def inverse_power(matrix: Array, exponent: float) -> Array:
    """A^-exponent of a symmetric positive definite matrix, differentiable at equal eigenvalues."""
    values, vectors = eigh(matrix)
    values = jnp.maximum(values, _floor(values))
    powers = values**-exponent
    # Q diag(powers) Qᵀ: the scaling of columns replaces one product.
    return matmul(vectors * powers[None], vectors.T)


@inverse_power.defjvp
def _inverse_power_jvp(
    exponent: float, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """Q (F ∘ QᵀdA Q) Qᵀ with F the divided differences of x^-exponent at the eigenvalues.

    The derivative of eigh itself divides by differences of eigenvalues, which may be 0
    [Daleckii & Krein 1965].
    """
    (matrix,) = primals
    (change,) = tangents
    values, vectors = eigh(matrix)
    values = jnp.maximum(values, _floor(values))
    powers = values**-exponent
    # (n, n): for each pair of eigenvalues, their difference and their mean.
    gaps = values[:, None] - values[None]
    middle = (values[:, None] + values[None]) / 2
    # Where two are nearly equal the divided difference
    # cancels; there it is the slope at their mean.
    apart = jnp.abs(gaps) > 1e-3 * middle
    near = -exponent * middle ** (-exponent - 1)
    power_gaps = powers[:, None] - powers[None]
    divided = power_gaps / jnp.where(apart, gaps, 1)
    slopes = jnp.where(apart, divided, near)
    inner = slopes * matmul(vectors.T, change, vectors)
    value = matmul(vectors * powers[None], vectors.T)
    return value, matmul(vectors, inner, vectors.T)


def _floor(values: Array) -> Array:
    """The least eigenvalue that is not rounding error, relative to the largest; never 0."""
    info = jnp.finfo(values.dtype)
    largest = jnp.abs(values).max()
    return info.eps * largest + info.tiny
