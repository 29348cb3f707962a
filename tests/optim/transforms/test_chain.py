"""Composition of optimizers: the updates of each are the gradients of the next."""

import chex
import jax
import pytest
from following import at, follow, path, problem

from fnn import optim
from fnn.errors import ConfigError
from fnn.types import Optimizer

float64 = pytest.mark.usefixtures("x64")


def doubled(grads, opt_state, params):
    return jax.tree.map(lambda g: 2 * g, grads), opt_state


twice = Optimizer(lambda params: (), doubled)


@float64
def test_each_link_gets_the_updates_of_the_one_before():
    """The same steps by hand."""
    params, grads = problem(4)
    first, second = optim.momentum(0.1), optim.momentum(0.5)
    states = first.init(params), second.init(params)
    got, wanted = path(optim.chain(first, twice, second), params, grads), params
    for step in range(4):
        updates, one = first.update(at(grads, step), states[0], wanted)
        updates, other = second.update(jax.tree.map(lambda u: 2 * u, updates), states[1], wanted)
        wanted, states = optim.apply_updates(wanted, updates), (one, other)
        chex.assert_trees_all_close(at(got, step), wanted, rtol=1e-13)


@float64
def test_one_link_is_the_optimizer_and_nested_chains_are_flat():
    params, grads = problem(4)
    a, b, c = optim.momentum(0.1), twice, optim.momentum(0.2)
    chex.assert_trees_all_equal(path(optim.chain(a), params, grads), path(a, params, grads))
    wanted = path(optim.chain(a, b, c), params, grads)
    chex.assert_trees_all_equal(path(optim.chain(optim.chain(a, b), c), params, grads), wanted)
    chex.assert_trees_all_equal(path(optim.chain(a, optim.chain(b, c)), params, grads), wanted)


def test_an_empty_chain_returns_the_gradients():
    params, grads = problem(1)
    updates, _ = optim.chain().update(at(grads, 0), optim.chain().init(params), params)
    chex.assert_trees_all_equal(updates, at(grads, 0))


def test_keywords_are_passed_to_every_link():
    def update(grads, opt_state, params, *, value):
        return jax.tree.map(lambda g: value * g, grads), opt_state

    by_value = Optimizer(lambda params: (), update)
    params, grads = problem(1)
    got, _ = follow(optim.chain(by_value, twice, by_value), params, grads, value=3.0, grad=None)
    wanted = jax.tree.map(lambda p, g: p + 18 * g[0], params, grads)
    chex.assert_trees_all_close(at(got, 0), wanted, rtol=1e-6)


def test_invalid_arguments_raise():
    with pytest.raises(ConfigError, match=r"chain link 1: expected a pair \(init, update\)"):
        optim.chain(twice, optim.adam)
    with pytest.raises(ConfigError, match="chain link 1: expected true gradients"):
        optim.chain(twice, optim.loss_scale(optim.sgd(0.1))).init(problem(1)[0])
    optim.chain(optim.loss_scale(optim.sgd(0.1)), twice).init(problem(1)[0])
