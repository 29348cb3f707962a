"""The 3 x 3 matrices of coordinates, against NumPy and by their effect on points."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment import matrices

DRAW = np.random.default_rng(0)


def random_matrix():
    return jnp.asarray(DRAW.normal(size=(3, 3)) + 3 * np.eye(3), jnp.float32)


def test_a_product_equals_numpy_and_its_last_factor_is_applied_first():
    a, b, c = (random_matrix() for _ in range(3))
    expected = np.asarray(a, np.float64) @ np.asarray(b, np.float64) @ np.asarray(c, np.float64)
    np.testing.assert_allclose(matrices.product(a, b, c), expected, rtol=1e-5)
    moved = matrices.product(matrices.translation(1, 0), matrices.scaling(2, 2))
    np.testing.assert_array_equal(matrices.carry(moved, jnp.array([3.0, 4.0])), [7, 8])


def test_an_inverse_equals_numpy():
    m = random_matrix()
    expected = np.linalg.inv(np.asarray(m, np.float64))
    np.testing.assert_allclose(matrices.inverse(m), expected, rtol=1e-4, atol=1e-6)


INTEGRAL = {
    "flip": [[1, 0, 0], [0, -1, 223], [0, 0, 1]],
    "quarter turn": [[0, 1, 0], [-1, 0, 31], [0, 0, 1]],
    "window": [[1, 0, -4], [0, 1, 3], [0, 0, 1]],
    "slant": [[1, 5, -7], [0, 1, 2], [0, 0, 1]],
}


@pytest.mark.parametrize("case", INTEGRAL)
def test_the_inverse_of_whole_numbers_with_determinant_1_is_exact(case):
    m = np.array(INTEGRAL[case])
    found = matrices.inverse(jnp.asarray(m, jnp.float32))
    np.testing.assert_array_equal(found, np.rint(np.linalg.inv(m)))


def test_a_rotation_is_counter_clockwise_as_displayed():
    right = jnp.array([0.0, 1.0])
    up = [-1, 0]
    np.testing.assert_allclose(matrices.carry(matrices.rotation(90.0), right), up, atol=1e-6)
    turned = matrices.carry(matrices.rotation(30.0), right)
    np.testing.assert_allclose(turned, [-0.5, 3**0.5 / 2], atol=1e-6)
    np.testing.assert_array_equal(matrices.rotation(0.0), np.eye(3))


def test_shears_translations_and_scalings_of_a_point():
    point = jnp.array([2.0, 5.0])
    np.testing.assert_allclose(matrices.carry(matrices.shearing(0.5, 0), point), [4.5, 5])
    np.testing.assert_allclose(matrices.carry(matrices.shearing(0, 0.5), point), [2, 6])
    np.testing.assert_allclose(matrices.carry(matrices.translation(3, -1), point), [5, 4])
    np.testing.assert_allclose(matrices.carry(matrices.scaling(3, 2), point), [6, 10])


def test_a_transform_around_a_center_keeps_the_center():
    center = matrices.middle((7, 4, 3))
    assert center == (3, 1.5)
    linear = matrices.product(matrices.rotation(40.0), matrices.scaling(2, 3))
    m = matrices.around(center, linear)
    np.testing.assert_allclose(matrices.carry(m, jnp.array(center)), center, atol=1e-5)
    np.testing.assert_allclose(m[:2, :2], linear[:2, :2])


def test_coordinates_are_mapped_in_perspective():
    m = random_matrix()
    points = jnp.asarray(DRAW.uniform(0, 0.5, (4, 5, 2)), jnp.float32)
    homogeneous = np.concatenate([points, np.ones((4, 5, 1))], -1)
    mapped = homogeneous @ np.asarray(m, np.float64).T
    expected = mapped[..., :2] / mapped[..., 2:]
    np.testing.assert_allclose(matrices.carry(m, points), expected, rtol=1e-4)
