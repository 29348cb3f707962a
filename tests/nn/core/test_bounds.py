"""Bounds of integers: errors for concrete values, NaN for traced ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import DTypeError, RangeError
from fnn.nn.core.bounds import nan_outside_bounds


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers_in_bounds_give_one(dtype):
    x = jnp.array([[0, 1], [4, 2]], dtype)
    factor = nan_outside_bounds("x", "0 <= x < 5", x, 0, 5)
    np.testing.assert_array_equal(factor, np.ones((2, 2)))


def test_bound_may_exceed_the_range_of_the_dtype():
    check = jax.jit(lambda x: nan_outside_bounds("x", "", x, 0, 300))
    np.testing.assert_array_equal(check(jnp.array([255], jnp.uint8)), [1])


@pytest.mark.parametrize(
    ("x", "got"), [([0, 5], r"5 at index \(1,\) \(1 of 2\)"), ([-1, -2], r"-1 .*\(2 of 2\)")]
)
def test_concrete_integer_out_of_bounds_raises_with_its_index(x, got):
    with pytest.raises(RangeError, match=f"x: expected 0 <= x < 5, got {got}"):
        nan_outside_bounds("x", "0 <= x < 5", jnp.array(x), 0, 5)


def test_traced_integer_out_of_bounds_gives_nan():
    check = jax.jit(lambda x: nan_outside_bounds("x", "", x, 1, 5))
    factor = check(jnp.array([0, 1, 4, 5, -1]))
    np.testing.assert_array_equal(factor, [np.nan, 1, 1, np.nan, np.nan])


@pytest.mark.parametrize("dtype", [jnp.float32, bool])
def test_other_dtypes_raise(dtype):
    with pytest.raises(DTypeError, match="x: expected an integer dtype"):
        nan_outside_bounds("x", "", jnp.ones(2, dtype), 0, 5)
