"""The rate on a plateau, against the rule of torch written as a loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError
from fnn.types import Optimizer

DEFAULTS = {"factor": 0.1, "patience": 10, "threshold": 1e-4, "cooldown": 0, "floor": 0.0}


def reference(losses, factor, patience, threshold, cooldown, floor):
    """torch's ReduceLROnPlateau with the mode "min" and the threshold "rel", for a rate of 1."""
    share, best = 1.0, np.inf
    stalled = waiting = 0
    shares = []
    for loss in losses:
        if loss < best * (1 - threshold):
            best, stalled = loss, 0
        else:
            stalled += 1
        if waiting > 0:
            waiting, stalled = waiting - 1, 0
        if stalled > patience:
            share, waiting, stalled = max(share * factor, floor), cooldown, 0
        shares.append(share)
    return np.array(shares)


def shares_after(optimizer, losses):
    """The share of the rate after each epoch."""
    opt_state = optimizer.init({"w": jnp.ones(2)})

    def one(opt_state, loss):
        opt_state = optim.observe_loss(opt_state, loss)
        return opt_state, opt_state.share

    return jax.lax.scan(one, opt_state, jnp.asarray(losses))[1]


def noisy_descent(epochs):
    draw = np.random.default_rng(0)
    return np.exp(-np.arange(epochs) / 3) + 0.2 + 0.05 * draw.normal(size=epochs)


OPTIONS = {
    "defaults": {},
    "impatient": {"patience": 0, "factor": 0.5},
    "cool": {"patience": 1, "cooldown": 3, "factor": 0.5},
    "floor": {"patience": 0, "factor": 0.3, "floor": 0.05},
    "threshold": {"patience": 2, "threshold": 0.2, "factor": 0.7},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("knobs", OPTIONS.values(), ids=OPTIONS)
def test_the_share_follows_the_rule_of_torch(knobs):
    losses = noisy_descent(200)
    wanted = reference(losses, **DEFAULTS | knobs)
    assert len(set(wanted)) >= 3
    np.testing.assert_allclose(
        shares_after(optim.plateau(optim.sgd(0.1), **knobs), losses), wanted, rtol=1e-13
    )


def test_lower_negative_losses_are_better():
    """torch, with best (1 - threshold), takes -1 for better than -1.05."""
    losses = [-1.0, -1.05, -1.2, -1.0]
    got = shares_after(optim.plateau(optim.sgd(0.1), patience=0, threshold=0.1, factor=0.5), losses)
    np.testing.assert_array_equal(got, [1, 0.5, 0.5, 0.25])


def test_a_loss_of_nan_counts_as_stalled():
    optimizer = optim.plateau(optim.sgd(0.1), patience=0, factor=0.5)
    got = shares_after(optimizer, [jnp.nan, 1.0, jnp.nan, 0.5])
    np.testing.assert_array_equal(got, [0.5, 0.5, 0.25, 0.25])


def test_updates_and_rate_are_multiplied_by_the_share():
    params, grads = problem(1)
    optimizer = optim.plateau(optim.momentum(0.1), patience=0, factor=0.25)
    opt_state = optimizer.init(params)
    for _ in range(2):
        opt_state = optim.observe_loss(opt_state, 1.0)
    updates, opt_state = optimizer.update(at(grads, 0), opt_state, params)
    inner = optim.momentum(0.1)
    wanted, _ = inner.update(at(grads, 0), inner.init(params), params)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda u: 0.25 * u, wanted))
    np.testing.assert_allclose(opt_state.rate, 0.025, rtol=1e-6)


def test_without_observed_losses_it_is_the_optimizer():
    params, grads = problem(3)
    chex.assert_trees_all_equal(
        path(optim.plateau(optim.momentum(0.1)), params, grads),
        path(optim.momentum(0.1), params, grads),
    )


def test_observe_loss_reaches_every_plateau_of_a_nested_state():
    params, _ = problem(1)
    low = {"patience": 0, "factor": 0.5}
    nested = optim.ema(
        optim.plateau(optim.partition({"head": optim.plateau(optim.sgd(0.1), **low)}, None), **low)
    )
    opt_state = nested.init(params)
    for loss in (1.0, 1.0):
        opt_state = optim.observe_loss(opt_state, loss)
    outer = opt_state.inner
    assert outer.share == 0.5 and outer.inner.inner[1].share == 0.5
    plain = optim.momentum(0.1).init(params)
    chex.assert_trees_all_equal(optim.observe_loss(plain, 1.0), plain)


def test_the_rate_is_none_if_the_optimizer_has_none():
    foreign = Optimizer(lambda params: (), lambda grads, opt_state, params: (grads, opt_state))
    params, grads = problem(1)
    optimizer = optim.plateau(foreign)
    _, opt_state = optimizer.update(at(grads, 0), optimizer.init(params), params)
    assert opt_state.rate is None


def test_numbers_may_be_traced_and_lanes_equal_single_runs():
    losses, rows = (
        noisy_descent(30),
        [DEFAULTS | {"patience": 1, "factor": f, "cooldown": c} for f, c in ((0.5, 0), (0.1, 2))],
    )
    stacked = {name: jnp.float32([row[name] for row in rows]) for name in DEFAULTS}
    lanes = jax.jit(
        jax.vmap(lambda knobs: shares_after(optim.plateau(optim.sgd(0.1), **knobs), losses))
    )(stacked)
    np.testing.assert_allclose(lanes, [reference(losses, **row) for row in rows], rtol=1e-5)


def test_numbers_out_of_range_raise():
    for name, wrong in (
        ("factor", 1.5),
        ("patience", -1),
        ("threshold", 1.0),
        ("cooldown", -1),
        ("floor", 2.0),
    ):
        with pytest.raises(ConfigError, match=f"plateau {name}: expected a number in"):
            optim.plateau(optim.sgd(0.1), **{name: wrong})
