"""Stochastic rounding: its mean, its exactness, and the optimizer inside of it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError, DTypeError
from fnn.types import Optimizer

KEY = jax.random.key(1)
half_precision = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])


def descend(optimizer, params, grads, steps):
    def one(carry, _):
        params, opt_state = carry
        return optim.step(optimizer, grads, opt_state, params), None

    start = params, optimizer.init(params)
    return jax.lax.scan(one, start, length=steps)[0]


@half_precision
def test_the_mean_of_many_small_steps_is_their_sum(dtype):
    """Each is a tenth of the gap between two numbers, which the nearest number never leaves."""
    gap = float(jnp.finfo(dtype).eps)
    params = jnp.array([1.0, -1.0, 1.5], dtype)[:, None] * jnp.ones((1, 4000), dtype)
    grads = jnp.full_like(params, 0.1 * gap)
    stuck, _ = descend(optim.sgd(1.0), params, -grads, 100)
    chex.assert_trees_all_equal(stuck[::2], params[::2])
    got, _ = descend(optim.stochastic_rounding(KEY, optim.sgd(1.0)), params, grads, 100)
    assert got.dtype == dtype
    moved = (got.astype(jnp.float32) - params.astype(jnp.float32)).mean(1)
    # The deviation of one number is below √100 gaps.
    np.testing.assert_allclose(moved, -10 * gap, atol=5 * 10 * gap / np.sqrt(4000))


@half_precision
def test_a_parameter_becomes_one_of_the_two_nearest_numbers(dtype):
    draw = np.random.default_rng(0)
    params = jnp.asarray(draw.normal(size=3000), dtype)
    grads = jnp.asarray(draw.normal(size=3000), dtype)
    got, _ = descend(optim.stochastic_rounding(KEY, optim.sgd(0.5)), params, grads, 1)
    exact = params.astype(jnp.float32) - 0.5 * grads.astype(jnp.float32)
    nearest = exact.astype(dtype)
    error = exact - nearest.astype(jnp.float32)
    other = jnp.nextafter(nearest, jnp.where(error > 0, jnp.inf, -jnp.inf).astype(dtype))
    is_other = got == other
    assert bool(((got == nearest) | is_other).all())
    # Of numbers a quarter of the gap away, a quarter is rounded to the farther one.
    gap = jnp.abs(other.astype(jnp.float32) - nearest.astype(jnp.float32))
    inexact = error != 0
    wanted = (jnp.abs(error) / gap)[inexact].mean()
    np.testing.assert_allclose(is_other[inexact].mean(), wanted, atol=0.03)


@half_precision
def test_numbers_without_a_rounding_error_stay(dtype):
    optimizer = optim.stochastic_rounding(KEY, optim.sgd(1.0))
    params = jnp.array([1.0, -2.0, 0.0, jnp.inf], dtype)
    got, _ = descend(optimizer, params, jnp.array([0.5, 1.0, 0.0, 0.0], dtype), 1)
    np.testing.assert_array_equal(got, [0.5, -3.0, 0.0, jnp.inf])
    wrong, _ = descend(optimizer, params, jnp.full(4, jnp.nan, dtype), 1)
    assert jnp.isnan(wrong).all()


def test_parameters_in_float32_follow_the_optimizer():
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.ones((2, 2))}
    got, _ = descend(optim.stochastic_rounding(KEY, optim.adam(0.1)), params, params, 3)
    wanted, _ = descend(optim.adam(0.1), params, params, 3)
    chex.assert_trees_all_equal(got, wanted)


def test_leaves_and_steps_draw_different_numbers():
    params = {name: jnp.ones(200, jnp.bfloat16) for name in ("a", "b")}
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-3), params)
    optimizer = optim.stochastic_rounding(KEY, optim.sgd(1.0))
    opt_state = optimizer.init(params)
    first, opt_state = optim.step(optimizer, grads, opt_state, params)
    second, _ = optim.step(optimizer, grads, opt_state, params)
    assert (first["a"] != first["b"]).any() and (first["a"] != second["a"]).any()
    again, _ = optim.step(optimizer, grads, optimizer.init(params), params)
    chex.assert_trees_all_equal(again, first)


def test_updates_lead_to_the_rounded_parameters():
    params = jnp.asarray(np.random.default_rng(0).normal(size=300), jnp.bfloat16)
    optimizer = optim.stochastic_rounding(KEY, optim.sgd(0.01))
    opt_state = optimizer.init(params)
    updates, _ = optimizer.update(params, opt_state, params)
    stepped, _ = optim.step(optimizer, params, opt_state, params)
    chex.assert_trees_all_equal(optim.apply_updates(params, updates), stepped)


def test_the_loss_is_evaluated_at_parameters_of_their_own_dtype():
    def value_fn(params):
        assert params["w"].dtype == jnp.bfloat16
        return jnp.square(params["w"].astype(jnp.float32)).sum()

    def update(grads, opt_state, params, *, value_fn, grad):
        assert params["w"].dtype == grad["w"].dtype == jnp.float32
        return jax.tree.map(jnp.negative, jax.grad(value_fn)(params)), opt_state

    params = {"w": jnp.ones(2, jnp.bfloat16)}
    optimizer = optim.stochastic_rounding(KEY, Optimizer(lambda params: (), update))
    got, _ = optim.step(
        optimizer, params, optimizer.init(params), params, value_fn=value_fn, grad=params
    )
    np.testing.assert_array_equal(got["w"].astype(np.float32), -1)


def test_derivatives_through_steps_are_those_without_rounding():
    params = jnp.ones(3, jnp.bfloat16)

    def end(rate):
        got, _ = descend(optim.stochastic_rounding(KEY, optim.sgd(rate)), params, params, 2)
        return got.astype(jnp.float32).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(end))(0.01), -6, rtol=1e-2)


def test_wrong_arguments_raise():
    with pytest.raises(DTypeError, match="stochastic_rounding key"):
        optim.stochastic_rounding(jnp.zeros(2), optim.sgd(0.1))
    with pytest.raises(ConfigError, match="stochastic_rounding optimizer: expected a pair"):
        optim.stochastic_rounding(KEY, optim.sgd)
