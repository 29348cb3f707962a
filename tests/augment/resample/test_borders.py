"""What stands outside of an image, against numpy.pad, farther out than one image's length too."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.resample.borders import MODES, inside, is_inside

FAR = 17


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "constant"])
def test_the_places_are_those_of_numpys_padding(mode, length):
    places = jnp.arange(-FAR, length + FAR, dtype=jnp.int32)
    np.testing.assert_array_equal(
        inside(places, length, mode), np.pad(np.arange(length), FAR, mode)
    )


@pytest.mark.parametrize("length", [1, 5])
def test_with_a_constant_any_place_is_had_and_those_inside_are_told(length):
    places = jnp.arange(-FAR, length + FAR, dtype=jnp.int32)
    had = np.asarray(inside(places, length, "constant"))
    shown = np.asarray(is_inside(places, length))
    np.testing.assert_array_equal(shown, np.pad(np.ones(length, bool), FAR))
    np.testing.assert_array_equal(had[shown], np.arange(length))
    assert had.min() >= 0
    assert had.max() < length


def test_the_modes_are_numpys():
    for mode in MODES:
        assert np.pad(np.arange(3), 1, mode).shape == (5,)
