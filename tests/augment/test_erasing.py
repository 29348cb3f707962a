"""What is hidden, against the definition, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fnn import augment


def draws(size, shape, count=800):
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(jax.jit(jax.vmap(augment.cutout(size), (0, None)))(keys, jnp.full(shape, 7, jnp.uint8)))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20])
def test_what_is_hidden_is_a_square_cut_off_by_the_edges(size):
    height, width = 6, 5
    masks = {tuple(m) for m in (draws(size, (height, width, 2))[..., 0] == 0).reshape(800, -1)}
    expected = set()
    for row, column in np.ndindex(height, width):
        mask = np.zeros((height, width), bool)
        top, left = row - size // 2, column - size // 2
        mask[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = True
        expected.add(tuple(mask.reshape(-1)))
    assert masks == expected


def test_every_center_is_as_likely():
    hidden = (draws(1, (4, 4, 1))[..., 0] == 0).sum(0).reshape(-1)
    assert hidden.sum() == 800
    assert scipy.stats.chisquare(hidden).pvalue > 1e-4


def test_all_channels_are_hidden_alike_and_the_rest_stays():
    images = draws(3, (6, 6, 3))
    assert set(np.unique(images)) == {0, 7}
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
