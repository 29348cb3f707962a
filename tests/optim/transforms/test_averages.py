"""Exponential moving averages against weighted sums, and lookahead against its rule."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import objective, optim
from fnn.errors import ConfigError

float64 = pytest.mark.usefixtures("x64")


def weighted_mean(path, decay, steps):
    """Σ decay^(t - i) θᵢ / Σ decay^(t - i) over the steps i = 1..t."""
    weights = decay ** np.arange(steps - 1, -1, -1.0)
    return jax.tree.map(lambda leaf: np.tensordot(weights / weights.sum(), leaf[:steps], 1), path)


@float64
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_average_is_the_weighted_mean_of_all_params(decay, steps):
    params, grads = problem(9)
    got, opt_state = follow(
        optim.ema(optim.momentum(0.1), decay), params, jax.tree.map(lambda g: g[:steps], grads)
    )
    mean = optim.averaged_params(opt_state, at(got, -1))
    chex.assert_trees_all_close(mean, weighted_mean(got, decay, steps), rtol=1e-12, atol=1e-14)


@float64
def test_without_debias_the_average_begins_at_the_first_params():
    params, grads = problem(6)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), 0.8, debias=False), params, grads)
    mean = params
    for step in range(6):
        mean = jax.tree.map(lambda a, p: 0.8 * a + 0.2 * p, mean, at(got, step))
    chex.assert_trees_all_close(optim.averaged_params(opt_state, at(got, -1)), mean, rtol=1e-13)


def test_ema_does_not_change_the_steps():
    params, grads = problem(5)
    chex.assert_trees_all_equal(
        path(optim.ema(optim.momentum(0.1)), params, grads),
        path(optim.momentum(0.1), params, grads),
    )


def test_before_the_first_step_the_average_is_the_params():
    params, _ = problem(1)
    chex.assert_trees_all_equal(
        optim.averaged_params(optim.ema(optim.momentum(0.1)).init(params), params), params
    )


def test_averaged_params_without_an_average_are_the_params():
    params, _ = problem(1)
    assert optim.averaged_params(optim.momentum(0.1).init(params), params) is params


@float64
@pytest.mark.parametrize(
    "outer",
    [
        partial(optim.project, constraint=objective.max_norm(0.5)),
        partial(optim.weight_decay, strength=0.5),
        partial(optim.scale_by_depth, factor=0.5, paths=("stem", "head")),
    ],
)
def test_ema_averages_the_final_params_inside_of_other_transforms_too(outer):
    params, grads = problem(6)
    inside, outside = (
        outer(optim.ema(optim.momentum(0.1), 0.8)),
        optim.ema(outer(optim.momentum(0.1)), 0.8),
    )
    means = []
    for optimizer in (inside, outside):
        got, opt_state = follow(optimizer, params, grads)
        means.append(optim.averaged_params(opt_state, at(got, -1)))
        chex.assert_trees_all_close(means[-1], weighted_mean(got, 0.8, 6), rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(*means, rtol=1e-13)


def test_ema_averages_half_precision_in_float32():
    params, grads = problem(3, jnp.bfloat16)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), 0.9), params, grads)
    assert opt_state.mean["stem"]["bias"].dtype == jnp.float32
    mean = optim.averaged_params(opt_state, at(got, -1))
    assert mean["stem"]["bias"].dtype == jnp.bfloat16
    exact = weighted_mean(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), got), 0.9, 3)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mean), exact, rtol=2**-8
    )


def test_ema_decay_out_of_range_raises():
    with pytest.raises(ConfigError, match=r"ema decay: expected a number in \[0, 1\), got 1.0"):
        optim.ema(optim.sgd(0.1), 1.0)


# Decays that change along the run.


@float64
@pytest.mark.parametrize(
    ("power", "steps", "wanted"),
    [
        (2 / 3, 31_622, 0.999),
        (2 / 3, 1e6, 0.9999),
        (3 / 4, 10_000, 0.999),
        (3 / 4, 215_443, 0.9999),
    ],
)
def test_the_warmup_reaches_the_decays_of_timm(power, steps, wanted):
    decay = optim.ema_warmup(0.99999, power=power)
    np.testing.assert_allclose(1 - decay(steps), 1 - wanted, rtol=1e-4)
    assert optim.ema_warmup(0.99, power=power)(steps) == 0.99
    assert decay(0) == 0


@float64
@pytest.mark.parametrize("debias", [True, False])
def test_an_average_with_warmup_follows_the_rule_of_timm(debias):
    params, grads = problem(6)
    decay = optim.ema_warmup(0.5, gamma=2.0, power=0.8)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), decay, debias=debias), params, grads)
    mean = params
    for step in range(6):
        now = min(1 - (1 + step / 2) ** -0.8, 0.5)
        mean = jax.tree.map(lambda a, p, d=now: d * a + (1 - d) * p, mean, at(got, step))
    chex.assert_trees_all_close(optim.averaged_params(opt_state, at(got, -1)), mean, rtol=1e-12)


def test_an_average_with_a_schedule_prints_and_compares_as_a_value():
    optimizer = optim.ema(optim.sgd(0.1), optim.ema_warmup(0.99))
    assert repr(optimizer) == "optim.ema(optim.sgd(0.1), optim.ema_warmup(0.99))"
    assert optimizer == optim.ema(optim.sgd(0.1), optim.ema_warmup(0.99))
    assert optimizer["decay.decay"] == 0.99


@float64
def test_a_warmup_of_power_one_gives_the_plain_mean():
    params, grads = problem(7)
    decay = optim.ema_warmup(0.9999, power=1.0)
    got, opt_state = follow(optim.ema(optim.momentum(0.1), decay), params, grads)
    mean = jax.tree.map(lambda leaf: leaf.mean(0), got)
    chex.assert_trees_all_close(optim.averaged_params(opt_state, at(got, -1)), mean, rtol=1e-12)


@float64
@pytest.mark.torch
@pytest.mark.parametrize("decay", [None, 0.8])
def test_averages_are_those_of_torch(decay):
    import torch
    from torch.optim import swa_utils

    params, grads = problem(6)
    if decay is None:
        optimizer, multi = optim.swa(optim.sgd(0.1)), None
    else:
        # torch copies the first params that it is given.
        optimizer = optim.ema(optim.sgd(0.1), lambda count: jnp.where(count == 0, 0.0, decay))
        multi = swa_utils.get_ema_multi_avg_fn(decay)
    got, opt_state = follow(optimizer, params, grads)
    leaves = jax.tree.leaves(got)
    model = torch.nn.ParameterList([torch.tensor(np.array(leaf[0])) for leaf in leaves])
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=multi)
    for step in range(6):
        with torch.no_grad():
            for parameter, leaf in zip(model, leaves, strict=True):
                parameter.copy_(torch.tensor(np.array(leaf[step])))
        averaged.update_parameters(model)
    average = jax.tree.leaves(optim.averaged_params(opt_state, at(got, -1)))
    for ours, theirs in zip(average, averaged.module, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12)


# Lookahead.


@float64
@pytest.mark.parametrize(("steps", "share"), [(5, 0.5), (3, 0.2), (1, 0.7)])
def test_lookahead_follows_its_rule(steps, share):
    params, grads = problem(13)
    inner = optim.momentum(0.1)
    got, opt_state = follow(optim.lookahead(inner, steps=steps, share=share), params, grads)
    fast = slow = params
    inner_state = inner.init(params)
    for step in range(13):
        updates, inner_state = inner.update(at(grads, step), inner_state, fast)
        fast = optim.apply_updates(fast, updates)
        if (step + 1) % steps == 0:
            fast = slow = jax.tree.map(lambda s, f: s + share * (f - s), slow, fast)
        chex.assert_trees_all_close(at(got, step), fast, rtol=1e-13, atol=1e-14)
    chex.assert_trees_all_close(
        optim.averaged_params(opt_state, fast), slow, rtol=1e-13, atol=1e-14
    )


@float64
def test_lookahead_with_share_one_is_the_optimizer_and_with_share_zero_keeps_the_params():
    params, grads = problem(6)
    whole = path(optim.lookahead(optim.momentum(0.1), steps=2, share=1.0), params, grads)
    chex.assert_trees_all_close(
        whole, path(optim.momentum(0.1), params, grads), rtol=1e-13, atol=1e-14
    )
    none = path(optim.lookahead(optim.momentum(0.1), steps=2, share=0.0), params, grads)
    chex.assert_trees_all_close(at(none, -1), params, rtol=1e-14)


def test_lookahead_slow_params_equal_the_params_bitwise():
    params, grads = problem(4)
    got, opt_state = follow(optim.lookahead(optim.momentum(0.1), steps=2), params, grads)
    chex.assert_trees_all_equal(opt_state.slow, at(got, 3))
    assert opt_state.counted == 0


def test_lookahead_numbers_may_be_traced():
    params, grads = problem(4)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(steps, share):
        return path(optim.lookahead(optim.momentum(0.1), steps=steps, share=share), params, grads)

    for steps, share in ((2, 0.5), (3, 0.25)):
        wanted = path(optim.lookahead(optim.momentum(0.1), steps=steps, share=share), params, grads)
        chex.assert_trees_all_close(run(steps, share), wanted, rtol=1e-5)


def test_lookahead_keeps_half_precision():
    params, grads = problem(4, jnp.bfloat16)
    got, opt_state = follow(optim.lookahead(optim.sgd(0.1), steps=2), params, grads)
    chex.assert_trees_all_equal(opt_state.slow, at(got, 3))
    assert got["stem"]["bias"].dtype == jnp.bfloat16


def test_lookahead_numbers_out_of_range_raise():
    with pytest.raises(ConfigError, match=r"lookahead steps: expected a number in \[1, inf\)"):
        optim.lookahead(optim.sgd(0.1), steps=0)
    with pytest.raises(ConfigError, match=r"lookahead share: expected a number in \[0, 1\]"):
        optim.lookahead(optim.sgd(0.1), share=1.5)
