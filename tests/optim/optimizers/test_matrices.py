"""Functions of symmetric matrices and their derivatives, and kernels as matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.optim.optimizers.matrices import apply_along, as_matrix, gram, inverse_power, short_axes

float64 = pytest.mark.usefixtures("x64")


def positive_definite(values):
    """A symmetric matrix with these eigenvalues."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(len(values),) * 2))[0]
    return turn * np.array(values) @ turn.T


@float64
@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_inverse_powers_multiply_to_the_inverse(exponent):
    matrix = positive_definite([0.5, 1.0, 2.0, 30.0])
    root = np.array(inverse_power(jnp.array(matrix), exponent))
    np.testing.assert_allclose(
        np.linalg.matrix_power(root, round(1 / exponent)) @ matrix, np.eye(4), atol=1e-13
    )


@float64
@pytest.mark.parametrize("values", [[0.5, 1.0, 2.0], [1.0, 1.0, 2.0], [1.0, 1.0, 1.0]], ids=str)
def test_the_derivative_equals_finite_differences_for_equal_eigenvalues_too(values):
    matrix, change = positive_definite(values), np.random.default_rng(1).normal(size=(3, 3))
    change = change + change.T
    _, slope = jax.jvp(lambda a: inverse_power(a, 0.25), (jnp.array(matrix),), (jnp.array(change),))
    ahead, behind = (inverse_power(jnp.array(matrix + h * change), 0.25) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, atol=1e-8)


@float64
def test_powers_and_derivatives_of_a_singular_matrix_are_finite():
    matrix = jnp.array(positive_definite([0.0, 0.0, 1.0]))
    value, slope = jax.jvp(lambda a: inverse_power(a, 0.5), (matrix,), (jnp.eye(3),))
    assert jnp.isfinite(value).all() and jnp.isfinite(slope).all()


def test_a_kernel_is_a_matrix_of_inputs_and_outputs():
    kernel = jnp.arange(24.0).reshape(2, 1, 3, 4)
    assert as_matrix(kernel).shape == (6, 4)
    np.testing.assert_array_equal(as_matrix(kernel)[4], kernel[1, 0, 1])
    assert (short_axes(kernel, 6), short_axes(kernel, 5), short_axes(kernel, 3)) == (
        [0, 1],
        [1],
        [],
    )
    assert short_axes(jnp.ones(3), 6) == short_axes(jnp.float32(1), 6) == []


def test_axis_0_is_of_rows_and_axis_1_of_columns():
    draw = np.random.default_rng(0)
    matrix, rows, columns = (
        jnp.float32(draw.normal(size=shape)) for shape in ((2, 3), (2, 2), (3, 3))
    )
    np.testing.assert_allclose(gram(matrix, 0), matrix @ matrix.T, rtol=1e-5)
    np.testing.assert_allclose(gram(matrix, 1), matrix.T @ matrix, rtol=1e-5)
    np.testing.assert_allclose(apply_along(rows, matrix, 0), rows @ matrix, rtol=1e-5)
    np.testing.assert_allclose(apply_along(columns, matrix, 1), matrix @ columns.T, rtol=1e-5)
