"""Gradients whose mean is taken off."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import path, problem

from fnn import optim
from fnn.errors import ConfigError


def centered(g, axis):
    """Each unit's gradient less its mean, unit by unit."""
    g = np.moveaxis(np.array(g), axis, 0)
    return np.moveaxis(np.stack([unit - unit.mean() for unit in g]), 0, axis)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axis", [-1, 0])
def test_each_unit_loses_its_mean(axis):
    params, grads = problem(1)
    got = path(optim.centralize(optim.sgd(1.0), axis=axis), params, grads)
    for layer, name in (("stem", "kernel"), ("head", "kernel")):
        wanted = params[layer][name] - centered(grads[layer][name][0], axis)
        np.testing.assert_allclose(got[layer][name][0], wanted, rtol=1e-13)
    chex.assert_trees_all_equal(got["stem"]["bias"][0], params["stem"]["bias"] - grads["stem"]["bias"][0])


@pytest.mark.usefixtures("x64")
def test_twice_is_once():
    params, grads = problem(4)
    once, twice = optim.centralize(optim.momentum(0.1)), optim.centralize(optim.centralize(optim.momentum(0.1)))
    chex.assert_trees_all_close(path(twice, params, grads), path(once, params, grads), rtol=1e-10)


def test_half_precision_is_centered_in_float32():
    """The sum of these numbers overflows in float16."""
    grads = {"kernel": jnp.full((8, 1), 60000.0, jnp.float16)}
    optimizer = optim.centralize(optim.sgd(1.0))
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, grads))


def test_an_axis_that_holds_no_units_is_told():
    with pytest.raises(ConfigError, match="centralize axis: expected one of -1, 0, got 1"):
        optim.centralize(optim.sgd(0.1), axis=1)
