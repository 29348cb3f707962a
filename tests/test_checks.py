"""Checks of arguments, at the limits of valid values."""

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


@pytest.mark.parametrize(
    ("interval", "value"), [(interval, v) for interval, values in INSIDE.items() for v in values]
)
def test_number_inside_is_returned_unchanged(interval, value):
    assert checks.number("x", value, interval) is value


@pytest.mark.parametrize(
    ("interval", "value"), [(interval, v) for interval, values in OUTSIDE.items() for v in values]
)
def test_number_outside_raises(interval, value):
    with pytest.raises(ConfigError, match="x: expected a number in"):
        checks.number("x", value, interval)


@pytest.mark.parametrize(
    "value", ["1", None, True, [1], 1j, np.array([1.0]), np.array("text"), jnp.ones(2)]
)
def test_other_types_than_a_real_number_raise(value):
    with pytest.raises(ConfigError, match="x: expected one number"):
        checks.number("x", value, "[0, 1]")


def test_traced_number_passes():
    assert jax.jit(lambda x: checks.number("x", x, "[0, 1]"))(5.0) == 5


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_whole_number_has_a_minimum(value, minimum):
    if value >= minimum:
        assert checks.whole("n", np.int64(value), minimum) == value
    else:
        with pytest.raises(ConfigError, match=f"n: expected >= {minimum}, got {value}"):
            checks.whole("n", value, minimum)


@pytest.mark.parametrize("value", [1.0, "1", None, True, jnp.int32(1)])
def test_other_types_than_a_static_int_raise(value):
    with pytest.raises(ConfigError, match="n: expected a whole number"):
        checks.whole("n", value)


def test_pair_takes_one_or_two_integers():
    assert checks.pair("p", 3) == (3, 3)
    assert checks.pair("p", (3, 4)) == checks.pair("p", [3, 4]) == (3, 4)
    with pytest.raises(ConfigError, match="p: expected one int or two"):
        checks.pair("p", (1, 2, 3))


def test_each_takes_one_integer_or_one_per_axis():
    assert checks.each("n", 3, 1) == (3,)
    assert checks.each("n", [1, 2, 3], 3) == (1, 2, 3)
    with pytest.raises(ConfigError, match="n: expected one int or three"):
        checks.each("n", (1, 2), 3)
    with pytest.raises(ConfigError, match="n: expected >= 0, got -1"):
        checks.each("n", (0, -1), 2, 0)


def test_image_checks_depend_on_the_number_of_axes():
    assert [checks.layout(axes) for axes in (1, 2, 3)] == ["NLC", "NHWC", "NDHWC"]
    assert checks.image_shape("x", (9, 2), 1) == (9, 2)
    with pytest.raises(
        ShapeError, match=r"x: expected \(depth, height, width, channels\), got \(9, 2\)"
    ):
        checks.image_shape("x", (9, 2), 3)
    with pytest.raises(ShapeError, match=r"x: expected rank 3 \(N, L, C\), got \(9, 2\)"):
        checks.image_batch("x", jnp.ones((9, 2)), 1)


def test_key_must_be_one_typed_key():
    key = jax.random.key(0)
    assert checks.key("key", key) is key
    with pytest.raises(DTypeError, match=r"got uint32\[2\]"):
        checks.key("key", jax.random.key_data(key))
    with pytest.raises(ShapeError, match=r"keys of shape \(2,\); map over keys with jax.vmap"):
        checks.key("key", jax.random.split(key))


def test_flag_must_be_true_or_false():
    assert checks.flag("f", True) is True and checks.flag("f", np.False_) is False
    for wrong in ("no", 1, None):
        with pytest.raises(ConfigError, match="f: expected True or False, got"):
            checks.flag("f", wrong)


def test_choice_must_be_one_of_the_choices():
    assert (
        checks.choice("mode", "edge", ("edge", "constant")) == "edge"
        and checks.choice("depth", 20, (20, 32)) == 20
    )
    for wrong in ("Edge", 0, None, True):
        with pytest.raises(ConfigError, match="mode: expected one of edge, 1, got"):
            checks.choice("mode", wrong, ("edge", 1))


def test_choice_takes_text_and_numbers_of_numpy():
    chosen = checks.choice("mode", np.str_("edge"), ("edge", 1))
    assert chosen == "edge" and type(chosen) is str
    assert type(checks.choice("mode", np.int64(1), ("edge", 1))) is int
    for wrong in (np.str_("Edge"), np.bool(True), np.float32(1), np.ones(1)):
        with pytest.raises(ConfigError, match="mode: expected one of edge, 1, got"):
            checks.choice("mode", wrong, ("edge", 1))


def test_floating_rejects_a_tuple():
    with pytest.raises(
        DTypeError,
        match=r"dense x: expected one array, got tuple \(float32\[2\], .*; take one, as by nn.pick",
    ):
        checks.floating("dense x", (jnp.ones(2), jnp.ones(2)))


def test_a_tree_of_shapes_is_not_the_shape_of_one_array():
    assert checks.one_shape("embed", [3, 4]) == (3, 4)
    for tree, text in [(((3,), ()), r"\(\(3,\), \(\)\)"), ({"a": (3,)}, r"\{a: \(3,\)\}")]:
        with pytest.raises(
            ShapeError, match=f"embed: expected the shape of one array, got {text};"
        ):
            checks.one_shape("embed", tree)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ones((2, 3), np.float32), "float32[2,3]"),
        (np.array(["a"]), "<U1[1]"),
        ((jnp.ones(2), {"a": np.int32(3)}), "(float32[2], {'a': np.int32(3)})"),
        ([np.ones(1, np.float32)] * 20, f"[{', '.join(['float32[1]'] * 8)}, ...]"),
        ("x" * 1000, f"'{'x' * 299}..."),
        (np.zeros((9, 1), int).tolist(), f"[{', '.join(['[0]'] * 8)}, ...]"),
    ],
)
def test_shown_values_are_short(value, text):
    assert checks.show(value) == text


def test_lists_of_lists_are_shown_as_briefly():
    assert len(checks.show(np.zeros((9, 9, 9, 9)).tolist())) < 2 * checks.MAX_TEXT
