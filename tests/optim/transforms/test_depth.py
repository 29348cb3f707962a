"""Rates by how deep a layer lies."""

import chex
import jax
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError


@pytest.mark.usefixtures("x64")
def test_each_layer_below_the_last_gets_another_factor():
    params, grads = problem(1)
    layers = ("stem/kernel", "stem", "head")
    got = at(path(optim.scale_by_depth(optim.sgd(0.1), 0.7, paths=layers), params, grads), 0)
    rates = {"stem": {"kernel": 0.1 * 0.7**2, "bias": 0.1 * 0.7}, "head": {"kernel": 0.1}}
    chex.assert_trees_all_close(got, jax.tree.map(lambda p, g, r: p - r * g[0], params, grads, rates), rtol=1e-13)


def test_factor_one_is_the_optimizer_and_zero_leaves_the_last_layer_alone():
    params, grads = problem(3)
    one, zero = (
        path(optim.scale_by_depth(optim.momentum(0.1), f, paths=("stem", "*")), params, grads) for f in (1.0, 0.0)
    )
    plain = path(optim.momentum(0.1), params, grads)
    chex.assert_trees_all_equal(one, plain)
    chex.assert_trees_all_equal(zero["head"], plain["head"])
    chex.assert_trees_all_equal(at(zero, 2)["stem"], params["stem"])


def test_mistakes_are_told():
    params, grads = problem(1)

    def with_layers(layers):
        return path(optim.scale_by_depth(optim.sgd(0.1), 0.5, paths=layers), params, grads)

    with pytest.raises(ConfigError, match="scale_by_depth paths: expected one that names stem/bias"):
        with_layers(("stem/kernel", "head"))
    with pytest.raises(ConfigError, match=r"scale_by_depth paths: expected a path among .*, got 'body"):
        with_layers(("stem", "body*", "head"))
    with pytest.raises(ConfigError, match="expected a leaf that no earlier pattern names, got 'head'"):
        with_layers(("*", "head"))
    with pytest.raises(ConfigError, match="scale_by_depth paths: expected patterns of paths, got 'stem'"):
        with_layers("stem")
    with pytest.raises(ConfigError, match=r"scale_by_depth factor: expected a number in \[0, inf\)"):
        optim.scale_by_depth(optim.sgd(0.1), -0.5, paths=("stem",))
