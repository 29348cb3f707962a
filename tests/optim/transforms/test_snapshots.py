"""Averages of snapshots against means of the params of a run, in float64."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, problem

from fnn import optim
from fnn.errors import ConfigError, TreeMismatchError
from fnn.optim.transform import find_states
from fnn.optim.transforms.snapshots import SwagState

float64 = pytest.mark.usefixtures("x64")
close = partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-13)


@partial(jax.jit, static_argnums=0)
def averages(make, **numbers):
    """The params and the average after each step, with these numbers."""
    optimizer = make(optim.momentum(0.1), **numbers)

    def one(carry, grads):
        params, opt_state = optim.step(optimizer, grads, carry[1], carry[0])
        return (params, opt_state), (params, optim.averaged_params(opt_state, params))

    params, grads = problem(9)
    return jax.lax.scan(one, (params, optimizer.init(params)), grads)[1]


def mean_of(path, steps):
    """The mean of the params after these steps, counted from 1."""
    return jax.tree.map(lambda leaf: leaf[np.array(steps) - 1].mean(0), path)


def swag_of_two(optimizer, **numbers):
    return optim.swag(optimizer, rank=2, **numbers)


def lawa_of_three(optimizer, **numbers):
    return optim.lawa(optimizer, window=3, **numbers)


@float64
@pytest.mark.parametrize(
    ("start", "every", "taken"),
    [
        (0.0, 1.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (3.0, 1.0, [3, 4, 5, 6, 7, 8, 9]),
        (0.0, 3.0, [3, 6, 9]),
        (2.0, 3.0, [2, 5, 8]),
        (2.5, 2.0, [3, 5, 7, 9]),
        (12.0, 1.0, []),
    ],
)
@pytest.mark.parametrize("make", [optim.swa, swag_of_two])
def test_the_average_is_the_mean_of_the_snapshots(make, start, every, taken):
    got, average = averages(make, start=start, every=every)
    for step in range(1, 10):
        # Before the first snapshot, the average is the last params.
        close(at(average, step - 1), mean_of(got, [t for t in taken if t <= step] or [step]))


@float64
@pytest.mark.parametrize(
    ("every", "taken"), [(1.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (2.0, [2, 4, 6, 8]), (20.0, [])]
)
def test_lawa_is_the_mean_of_the_latest_snapshots(every, taken):
    got, average = averages(lawa_of_three, every=every)
    for step in range(1, 10):
        latest = [t for t in taken if t <= step][-3:]
        close(at(average, step - 1), mean_of(got, latest or [step]))


@float64
def test_snapshots_do_not_change_the_steps():
    got, _ = averages(swag_of_two, start=2.0, every=1.0)
    close(got, follow(optim.momentum(0.1), *problem(9))[0])


@pytest.mark.parametrize(
    "average",
    [
        optim.swa,
        partial(optim.swa, start=2, every=2),
        partial(optim.lawa, every=1, window=3),
        partial(optim.swag, rank=2),
        partial(optim.ema, decay=optim.ema_warmup()),
    ],
    ids=["polyak", "swa", "lawa", "swag", "ema"],
)
def test_the_average_of_constant_params_is_the_params_to_the_last_bit(average):
    """Weights sum to 1."""
    params, grads = problem(5)
    _, opt_state = follow(average(optim.sgd(0.0)), params, grads)
    chex.assert_trees_all_equal(optim.averaged_params(opt_state, params), params)
    fresh = average(optim.sgd(0.0)).init(params)
    chex.assert_trees_all_equal(optim.averaged_params(fresh, params), params)


@float64
@pytest.mark.parametrize(("rank", "steps"), [(3, 7), (5, 4)])
def test_swag_collects_the_variance_and_deviations_from_the_mean_so_far(rank, steps):
    params, grads = problem(steps)
    got, opt_state = follow(optim.swag(optim.momentum(0.1), rank=rank), params, grads)
    posterior = opt_state.posterior(at(got, -1))
    assert posterior.taken == steps
    close(posterior.mean, jax.tree.map(lambda leaf: leaf.mean(0), got))
    close(posterior.var, jax.tree.map(lambda leaf: leaf.var(0), got))

    def columns(leaf):
        ring = np.zeros((rank, *leaf.shape[1:]))
        for step in range(steps):
            ring[step % rank] = leaf[step] - leaf[: step + 1].mean(0)
        return ring

    close(posterior.deviations, jax.tree.map(columns, got))


@pytest.mark.slow
@float64
def test_the_mean_of_noisy_iterates_has_the_variance_of_polyak_and_juditsky():
    """SGD on w²/2 with noise: the last iterate varies by rate / (2 - rate), the mean by 1 / n."""
    steps, rate = 2000, 0.2
    noise = jax.random.normal(jax.random.key(0), (steps, 1000))

    def one(carry, noise):
        params, opt_state = carry
        params, opt_state = optim.step(optimizer, params + noise, opt_state, params)
        return (params, opt_state), None

    optimizer = optim.swa(optim.sgd(rate))
    first = jnp.zeros(1000)
    (params, opt_state), _ = jax.jit(
        lambda: jax.lax.scan(one, (first, optimizer.init(first)), noise)
    )()
    np.testing.assert_allclose(jnp.square(params).mean(), rate / (2 - rate), rtol=0.15)
    average = optim.averaged_params(opt_state, params)
    np.testing.assert_allclose(jnp.square(average).mean() * steps, 1, rtol=0.15)


def test_infinite_params_between_snapshots_do_not_reach_the_average():
    params, grads = problem(4)
    grads = jax.tree.map(lambda g: g.at[1].set(jnp.inf).at[2:].set(jnp.nan), grads)
    got, opt_state = follow(optim.swag(optim.sgd(0.1), start=1, every=9, rank=2), params, grads)
    chex.assert_trees_all_close(optim.averaged_params(opt_state, at(got, -1)), at(got, 0))


def test_snapshots_of_half_precision_are_collected_in_float32():
    params, grads = problem(3, jnp.bfloat16)
    got, opt_state = follow(optim.swag(optim.sgd(0.1), rank=2), params, grads)
    (found,) = find_states(opt_state, SwagState)
    for tree in (found.mean, found.var, found.deviations):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(jnp.float32)}
    average = optim.averaged_params(opt_state, at(got, -1))
    chex.assert_trees_all_equal_shapes_and_dtypes(average, params)


def test_numbers_out_of_range_raise():
    with pytest.raises(ConfigError, match=r"swa start: expected a number in \[0, inf\), got -1"):
        optim.swa(optim.sgd(0.1), start=-1)
    with pytest.raises(ConfigError, match=r"lawa every: expected a number in \[1, inf\), got 0"):
        optim.lawa(optim.sgd(0.1), every=0)
    with pytest.raises(ConfigError, match="lawa window: expected >= 1, got 0"):
        optim.lawa(optim.sgd(0.1), every=1, window=0)
    with pytest.raises(ConfigError, match="swag rank: expected >= 2, got 1"):
        optim.swag(optim.sgd(0.1), rank=1)


@pytest.mark.parametrize("make", [optim.swa, optim.swag, optim.ema, partial(optim.lawa, every=1)])
def test_params_of_another_shape_raise(make):
    params, _ = problem(1)
    opt_state = make(optim.sgd(0.1)).init(params)
    wide = {**params, "stem": {**params["stem"], "bias": jnp.ones(5)}}
    message = r"averaged_params params stem/bias: expected the shape \(3,\), got the shape \(5,\)"
    with pytest.raises(TreeMismatchError, match=message):
        optim.averaged_params(opt_state, wide)
    with pytest.raises(TreeMismatchError, match=r"head/kernel: expected the shape .*, got no such"):
        optim.averaged_params(opt_state, {"stem": params["stem"]})
