"""The 3 x 3 matrices of places, against NumPy and by what they do to points."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment import matrices

DRAW = np.random.default_rng(0)


def random_matrix():
    return jnp.asarray(DRAW.normal(size=(3, 3)) + 3 * np.eye(3), jnp.float32)


def test_a_product_is_numpys_and_the_last_factor_is_applied_first():
    a, b, c = (random_matrix() for _ in range(3))
    expected = np.asarray(a, np.float64) @ np.asarray(b, np.float64) @ np.asarray(c, np.float64)
    np.testing.assert_allclose(matrices.product(a, b, c), expected, rtol=1e-5)
    moved = matrices.product(matrices.translation(1, 0), matrices.scaling(2, 2))
    np.testing.assert_array_equal(matrices.carry(moved, jnp.array([3.0, 4.0])), [7, 8])


def test_an_inverse_is_numpys():
    m = random_matrix()
    np.testing.assert_allclose(
        matrices.inverse(m), np.linalg.inv(np.asarray(m, np.float64)), rtol=1e-4, atol=1e-6
    )


WHOLE = {
    "flip": [[1, 0, 0], [0, -1, 223], [0, 0, 1]],
    "quarter turn": [[0, 1, 0], [-1, 0, 31], [0, 0, 1]],
    "window": [[1, 0, -4], [0, 1, 3], [0, 0, 1]],
    "slant": [[1, 5, -7], [0, 1, 2], [0, 0, 1]],
}


@pytest.mark.parametrize("case", WHOLE)
def test_the_inverse_of_a_whole_matrix_of_determinant_1_is_exact(case):
    m = np.array(WHOLE[case])
    np.testing.assert_array_equal(
        matrices.inverse(jnp.asarray(m, jnp.float32)), np.rint(np.linalg.inv(m))
    )


def test_a_rotation_is_counter_clockwise_as_one_sees_the_image():
    right = jnp.array([0.0, 1.0])
    np.testing.assert_allclose(
        matrices.carry(matrices.rotation(90.0), right), [-1, 0], atol=1e-6
    )  # up
    np.testing.assert_allclose(
        matrices.carry(matrices.rotation(30.0), right), [-0.5, 3**0.5 / 2], atol=1e-6
    )
    np.testing.assert_array_equal(matrices.rotation(0.0), np.eye(3))


def test_shears_and_moves_send_a_pixel_where_they_say():
    place = jnp.array([2.0, 5.0])
    np.testing.assert_allclose(matrices.carry(matrices.shearing(0.5, 0), place), [4.5, 5])
    np.testing.assert_allclose(matrices.carry(matrices.shearing(0, 0.5), place), [2, 6])
    np.testing.assert_allclose(matrices.carry(matrices.translation(3, -1), place), [5, 4])
    np.testing.assert_allclose(matrices.carry(matrices.scaling(3, 2), place), [6, 10])


def test_around_a_center_that_center_stays():
    center = matrices.middle((7, 4, 3))
    assert center == (3, 1.5)
    m = matrices.around(center, matrices.product(matrices.rotation(40.0), matrices.scaling(2, 3)))
    np.testing.assert_allclose(matrices.carry(m, jnp.array(center)), center, atol=1e-5)
    np.testing.assert_allclose(
        m[:2, :2], matrices.product(matrices.rotation(40.0), matrices.scaling(2, 3))[:2, :2]
    )


def test_places_are_carried_in_perspective():
    m, places = random_matrix(), jnp.asarray(DRAW.uniform(0, 0.5, (4, 5, 2)), jnp.float32)
    lifted = np.concatenate([places, np.ones((4, 5, 1))], -1) @ np.asarray(m, np.float64).T
    np.testing.assert_allclose(
        matrices.carry(m, places), lifted[..., :2] / lifted[..., 2:], rtol=1e-4
    )
