"""Pytree arithmetic, paths and comparison."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import trees
from fnn.errors import ConfigError, TreeMismatchError

TREE = {"a": {"b": jnp.ones(2), "c": [jnp.zeros(()), jnp.arange(3)]}}


def test_leaves_are_named_by_path():
    assert list(trees.named_leaves(TREE)) == ["a/b", "a/c/0", "a/c/1"]
    assert trees.map_named(lambda name, leaf: name, "tree", {"x": 1, "y": (2,)}) == {
        "x": "tree/x",
        "y": ("tree/y/0",),
    }
    assert trees.map_named(lambda name, leaf: name, "tree", 1) == "tree"


def test_select_returns_all_of_one_tree():
    other = {"a": jnp.full(2, 7.0)}
    for condition, wanted in ((True, 1.0), (False, 7.0)):
        np.testing.assert_array_equal(
            trees.select(jnp.array(condition), {"a": jnp.ones(2)}, other)["a"], wanted
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_leaves_marks_non_finite_leaves(bad):
    tree = {"good": jnp.ones(2), "bad": jnp.array([1.0, bad]), "count": jnp.arange(2)}
    assert {path: bool(finite) for path, finite in trees.finite_leaves(tree).items()} == {
        "good": True,
        "bad": False,
    }
    assert not trees.all_finite(tree)
    assert trees.all_finite({"good": tree["good"], "count": tree["count"]}) and trees.all_finite({})


def test_knob_has_the_dtype_of_the_array():
    half = jnp.ones(2, jnp.bfloat16)
    assert trees.knob(0.1, half) == 0.1
    assert (
        trees.knob(jnp.float32(0.1), half).dtype
        == trees.knob(np.float64(0.1), half).dtype
        == jnp.bfloat16
    )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": jnp.ones(2)}, r"grads b: expected float32\[3\], got no such leaf"),
        (
            {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(1)},
            r"grads c: expected no such leaf, got float32\[1\]",
        ),
        (
            {"a": jnp.ones((2, 1)), "b": jnp.ones(3)},
            r"grads a: expected float32\[2\], got float32\[2,1\]",
        ),
        (
            {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3)},
            r"grads a: expected float32\[2\], got bfloat16\[2\]",
        ),
        ([jnp.ones(2)], r"grads a: expected float32\[2\], got no such leaf"),
    ],
)
def test_first_difference_is_named(tree, message):
    with pytest.raises(TreeMismatchError, match=message):
        trees.expect_like("grads", tree, {"a": jnp.ones(2), "b": jnp.ones(3)})


def test_other_containers_raise():
    with pytest.raises(TreeMismatchError, match="use the containers that init returned"):
        trees.expect_like("grads", [jnp.ones(2)], (jnp.ones(2),))


def test_patterns_match_paths_and_beginnings_of_paths():
    named = {"stem": {"kernel": 1, "bias": 2}, "stem_2": {"kernel": 3}, "norm": {"bias": 4}}
    got = trees.matching("freeze", named, ["stem", "*/bias"])
    assert [path for path, chosen in got.items() if chosen] == [
        "norm/bias",
        "stem/bias",
        "stem/kernel",
    ]
    assert not any(trees.matching("freeze", named, []).values())


def test_pattern_without_a_match_raises():
    with pytest.raises(
        ConfigError, match=r"freeze: expected a path among \['a/b', .*\], got 'a/d'"
    ):
        trees.matching("freeze", TREE, ["a/b", "a/d"])
