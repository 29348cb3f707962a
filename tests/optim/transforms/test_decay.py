"""Weight decay beside the step or in the gradient, on all or some of the parameters."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError
from fnn.types import Optimizer

float64 = pytest.mark.usefixtures("x64")
foreign = Optimizer(lambda params: (), lambda grads, opt_state, params: (grads, opt_state))


@float64
def test_decoupled_from_adam_it_is_adamw():
    params, grads = problem(20)
    schedule = optim.cosine(0.1, steps=20, warmup_steps=5)
    got = path(optim.weight_decay(optim.adam(schedule), 0.2), params, grads)
    wanted = path(optim.adamw(schedule, weight_decay=0.2), params, grads)
    chex.assert_trees_all_close(got, wanted, rtol=1e-13, atol=1e-13)


@float64
def test_in_the_gradient_it_is_the_slope_of_half_the_squared_length():
    params, grads = problem(1)
    got = path(optim.weight_decay(optim.sgd(0.1), 0.2, decoupled=False), params, grads)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * (g[0] + 0.2 * p), params, grads)
    chex.assert_trees_all_close(at(got, 0), wanted, rtol=1e-14)


@float64
def test_for_plain_descent_both_are_one_and_for_adam_they_are_not():
    params, grads = problem(5)
    for inner, same in ((optim.sgd, True), (optim.adam, False)):
        one, other = (path(optim.weight_decay(inner(0.1), 0.2, decoupled=way), params, grads) for way in (True, False))
        kernels = one["stem"]["kernel"], other["stem"]["kernel"]
        assert bool(jnp.allclose(*kernels, rtol=1e-12, atol=1e-12)) is same


@float64
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("on", [("*kernel",), ["stem/kernel", "head"]])
def test_only_what_is_named_decays(on, decoupled):
    params, grads = problem(5)
    got = path(optim.weight_decay(optim.momentum(0.1), 0.3, paths=on, decoupled=decoupled), params, grads)
    every = path(optim.weight_decay(optim.momentum(0.1), 0.3, decoupled=decoupled), params, grads)
    plain = path(optim.momentum(0.1), params, grads)
    chex.assert_trees_all_equal(got["stem"]["bias"], plain["stem"]["bias"])
    chex.assert_trees_all_equal((got["stem"]["kernel"], got["head"]), (every["stem"]["kernel"], every["head"]))
    assert not jnp.allclose(got["head"]["kernel"], plain["head"]["kernel"])


@pytest.mark.parametrize("decoupled", [True, False])
def test_no_strength_is_no_decay(decoupled):
    params, grads = problem(5)
    got = path(optim.weight_decay(optim.adam(0.1), 0.0, decoupled=decoupled), params, grads)
    chex.assert_trees_all_close(got, path(optim.adam(0.1), params, grads), rtol=1e-6, atol=1e-6)


@float64
def test_it_commutes_with_accumulation():
    """In between, no step is taken, and nothing decays."""
    params, grads = problem(7)
    decay, accumulate = partial(optim.weight_decay, strength=0.3), partial(optim.accumulate, steps=3)
    got, wanted = (
        path(outer(inner(optim.adam(0.1))), params, grads)
        for outer, inner in ((decay, accumulate), (accumulate, decay))
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-13)


@float64
def test_the_rate_that_counts_is_what_a_plateau_left_of_it():
    optimizer = optim.weight_decay(optim.plateau(optim.sgd(0.1), factor=0.5, patience=0), 0.3)
    params, grads = problem(1)
    opt_state = optimizer.init(params)
    for loss in (1.0, 1.0, 1.0):
        opt_state = optim.observe(opt_state, loss)
    updates, _ = optimizer.update(at(grads, 0), opt_state, params)
    wanted = jax.tree.map(lambda p, g: -0.025 * (g[0] + 0.3 * p), params, grads)
    chex.assert_trees_all_close(updates, wanted, rtol=1e-13)


def test_mistakes_are_told():
    params, _ = problem(1)
    with pytest.raises(ConfigError, match="weight_decay optimizer: expected one that tells its rate, got 0 rates"):
        optim.weight_decay(foreign, 0.1).init(params)
    for several in (
        optim.partition({"head": optim.sgd(0.1)}, optim.sgd(0.2)),
        optim.chain(optim.sgd(0.1), optim.sgd(0.1)),
    ):
        with pytest.raises(ConfigError, match="expected one that tells its rate, got 2 rates; let each part decay"):
            optim.weight_decay(several, 0.1).init(params)
    with pytest.raises(ConfigError, match="weight_decay optimizer: expected one that tells its rate, got 0"):
        optim.weight_decay(optim.plateau(foreign), 0.1).init(params)
    for way in (True, False):
        with pytest.raises(ConfigError, match=r"weight_decay paths: expected a path among .*got 'kernel'"):
            path(optim.weight_decay(optim.sgd(0.1), 0.1, paths=("kernel",), decoupled=way), *problem(1))
    with pytest.raises(ConfigError, match="weight_decay paths: expected patterns of paths, got 'head'"):
        optim.weight_decay(optim.sgd(0.1), 0.1, paths="head")
    with pytest.raises(ConfigError, match=r"weight_decay strength: expected a number in \[0, inf\)"):
        optim.weight_decay(optim.sgd(0.1), -0.1)
    optim.weight_decay(foreign, 0.1, decoupled=False).init(params)
