"""Padding modes against numpy.pad, also farther outside than the length of the image."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.resample.borders import MODES, border_index, is_inside

FAR = 17


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "constant"])
def test_indices_equal_numpys_padding(mode, length):
    index = jnp.arange(-FAR, length + FAR, dtype=jnp.int32)
    found = border_index(index, length, mode)
    np.testing.assert_array_equal(found, np.pad(np.arange(length), FAR, mode))


@pytest.mark.parametrize("length", [1, 5])
def test_constant_gives_valid_indices_and_the_mask_of_those_inside(length):
    index = jnp.arange(-FAR, length + FAR, dtype=jnp.int32)
    found = np.asarray(border_index(index, length, "constant"))
    inside = np.asarray(is_inside(index, length))
    np.testing.assert_array_equal(inside, np.pad(np.ones(length, bool), FAR))
    np.testing.assert_array_equal(found[inside], np.arange(length))
    assert found.min() >= 0
    assert found.max() < length


def test_the_modes_are_modes_of_numpy():
    for mode in MODES:
        assert np.pad(np.arange(3), 1, mode).shape == (5,)
