"""The moving average of parameters, against the sum that it is."""

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


def weighted(path, decay, steps):
    """Σ decay^(t - i) θᵢ / Σ decay^(t - i) over the steps i = 1..t."""
    weights = decay ** np.arange(steps - 1, -1, -1.0)
    return jax.tree.map(lambda leaf: np.tensordot(weights / weights.sum(), leaf[:steps], 1), path)


@float64
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_average_is_the_weighted_sum_of_the_path(decay, steps):
    params, grads = problem(9)
    got, opt_state = follow(optim.ema(optim.momentum(0.1), decay), params, jax.tree.map(lambda g: g[:steps], grads))
    mean = optim.averaged(opt_state, at(got, -1))
    chex.assert_trees_all_close(mean, weighted(got, decay, steps), rtol=1e-12, atol=1e-14)


@float64
def test_without_debias_it_begins_at_the_first_parameters():
    params, grads = problem(6)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), 0.8, debias=False), params, grads)
    mean = params
    for step in range(6):
        mean = jax.tree.map(lambda a, p: 0.8 * a + 0.2 * p, mean, at(got, step))
    chex.assert_trees_all_close(optim.averaged(opt_state, at(got, -1)), mean, rtol=1e-13)


def test_the_steps_are_as_without():
    params, grads = problem(5)
    chex.assert_trees_all_equal(
        path(optim.ema(optim.momentum(0.1)), params, grads), path(optim.momentum(0.1), params, grads)
    )


def test_before_the_first_step_the_parameters_are_their_average():
    params, _ = problem(1)
    chex.assert_trees_all_equal(optim.averaged(optim.ema(optim.momentum(0.1)).init(params), params), params)


def test_without_an_average_the_parameters_stand_for_it():
    params, _ = problem(1)
    assert optim.averaged(optim.momentum(0.1).init(params), params) is params


@float64
@pytest.mark.parametrize(
    "outer",
    [
        partial(optim.project, constraint=objective.max_norm(0.5)),
        partial(optim.weight_decay, strength=0.5),
        partial(optim.scale_by_depth, factor=0.5, paths=("stem", "head")),
    ],
)
def test_what_is_averaged_are_the_parameters_wherever_the_average_is_kept(outer):
    params, grads = problem(6)
    inside, outside = outer(optim.ema(optim.momentum(0.1), 0.8)), optim.ema(outer(optim.momentum(0.1)), 0.8)
    means = []
    for optimizer in (inside, outside):
        got, opt_state = follow(optimizer, params, grads)
        means.append(optim.averaged(opt_state, at(got, -1)))
        chex.assert_trees_all_close(means[-1], weighted(got, 0.8, 6), rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(*means, rtol=1e-13)


def test_half_precision_is_averaged_in_float32():
    params, grads = problem(3, jnp.bfloat16)
    got, opt_state = follow(optim.ema(optim.sgd(0.1), 0.9), params, grads)
    assert opt_state.mean["stem"]["bias"].dtype == jnp.float32
    mean = optim.averaged(opt_state, at(got, -1))
    assert mean["stem"]["bias"].dtype == jnp.bfloat16
    exact = weighted(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), got), 0.9, 3)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mean), exact, rtol=2**-8)


def test_a_decay_out_of_range_is_told():
    with pytest.raises(ConfigError, match=r"ema decay: expected a number in \[0, 1\), got 1.0"):
        optim.ema(optim.sgd(0.1), 1.0)
