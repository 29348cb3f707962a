"""What is out of bounds is told on the host, and is NaN where it is traced: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import DTypeError, RangeError
from fnn.nn.core.bounds import within


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_what_is_within_is_one(dtype):
    x = jnp.array([[0, 1], [4, 2]], dtype)
    np.testing.assert_array_equal(within("x", "0 <= x < 5", x, 0, 5), np.ones((2, 2)))


def test_a_byte_is_held_against_a_bound_that_no_byte_reaches():
    np.testing.assert_array_equal(
        jax.jit(lambda x: within("x", "", x, 0, 300))(jnp.array([255], jnp.uint8)), [1]
    )


@pytest.mark.parametrize(
    ("x", "place"), [([0, 5], r"5 at index \(1,\) \(1 of 2\)"), ([-1, -2], r"-1 .*\(2 of 2\)")]
)
def test_the_first_that_is_not_is_told(x, place):
    with pytest.raises(RangeError, match=f"x: expected 0 <= x < 5, got {place}"):
        within("x", "0 <= x < 5", jnp.array(x), 0, 5)


def test_what_is_traced_is_nan():
    alarm = jax.jit(lambda x: within("x", "", x, 1, 5))(jnp.array([0, 1, 4, 5, -1]))
    np.testing.assert_array_equal(alarm, [np.nan, 1, 1, np.nan, np.nan])


@pytest.mark.parametrize("dtype", [jnp.float32, bool])
def test_only_integers_are_whole_numbers(dtype):
    with pytest.raises(DTypeError, match="x: expected an integer dtype"):
        within("x", "", jnp.ones(2, dtype), 0, 5)
