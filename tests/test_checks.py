"""What an argument may be, at the edges of what it may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError

INSIDE = {
    "[0, 1)": (0, 0.0, 0.5, np.float32(0.999)),
    "(0, inf)": (1e-30, 7),
    "[0, inf]": (0, np.inf),
    "(-inf, inf)": (-3.0,),
}
OUTSIDE = {
    "[0, 1)": (-1e-9, 1, 1.0, np.nan, np.inf),
    "(0, inf)": (0, -1, np.inf),
    "[0, inf]": (-1, np.nan),
    "(-inf, inf)": (np.inf,),
}


@pytest.mark.parametrize(("interval", "value"), [(interval, v) for interval, values in INSIDE.items() for v in values])
def test_a_number_inside_passes_unchanged(interval, value):
    assert checks.number("x", value, interval) is value


@pytest.mark.parametrize(("interval", "value"), [(interval, v) for interval, values in OUTSIDE.items() for v in values])
def test_a_number_outside_is_told(interval, value):
    with pytest.raises(ConfigError, match="x: expected a number in"):
        checks.number("x", value, interval)


@pytest.mark.parametrize("value", ["1", None, True, [1], 1j, np.array([1.0]), np.array("text"), jnp.ones(2)])
def test_what_is_no_single_real_number_is_told(value):
    with pytest.raises(ConfigError, match="x: expected one number"):
        checks.number("x", value, "[0, 1]")


def test_a_traced_number_passes():
    assert jax.jit(lambda x: checks.number("x", x, "[0, 1]"))(5.0) == 5


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_a_whole_number_passes_from_its_minimum_on(value, minimum):
    if value >= minimum:
        assert checks.whole("n", np.int64(value), minimum) == value
    else:
        with pytest.raises(ConfigError, match=f"n: expected >= {minimum}, got {value}"):
            checks.whole("n", value, minimum)


@pytest.mark.parametrize("value", [1.0, "1", None, True, jnp.int32(1)])
def test_what_is_no_static_whole_number_is_told(value):
    with pytest.raises(ConfigError, match="n: expected a whole number"):
        checks.whole("n", value)


def test_a_pair_is_one_for_both_or_one_for_each():
    assert checks.pair("p", 3) == (3, 3)
    assert checks.pair("p", (3, 4)) == checks.pair("p", [3, 4]) == (3, 4)
    with pytest.raises(ConfigError, match="p: expected one int or two"):
        checks.pair("p", (1, 2, 3))


def test_a_key_is_one_typed_key():
    key = jax.random.key(0)
    assert checks.key("key", key) is key
    with pytest.raises(DTypeError, match=r"got uint32\[2\]"):
        checks.key("key", jax.random.key_data(key))
    with pytest.raises(ShapeError, match=r"keys of shape \(2,\); map over keys with jax.vmap"):
        checks.key("key", jax.random.split(key))
