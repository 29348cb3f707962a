"""Gradient accumulation over micro-batches."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import optim
from fnn.errors import ConfigError
from fnn.types import Optimizer

float64 = pytest.mark.usefixtures("x64")


def means(grads, steps):
    """The mean of each group of `steps` gradients, (n * steps, ...) -> (n, ...)."""
    return jax.tree.map(lambda g: g.reshape(-1, steps, *g.shape[1:]).mean(1), grads)


@float64
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_several_micro_batches_are_one_step_on_their_mean(steps):
    params, grads = problem(8)
    schedule = optim.cosine(0.1, steps=8)
    got, opt_state = follow(optim.accumulate(optim.adam(schedule), steps), params, grads)
    wanted, inner = follow(optim.adam(schedule), params, means(grads, steps))
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[steps - 1 :: steps], got), wanted, rtol=1e-12
    )
    chex.assert_trees_all_close(opt_state.inner, inner, rtol=1e-12)


def test_between_steps_no_bit_changes():
    params, grads = {"w": jnp.array([-0.0, 0.0, 1.0])}, {"w": jnp.ones((5, 3))}
    got, opt_state = follow(optim.accumulate(optim.momentum(0.1), 3), params, grads)
    for step, before in ((0, params), (1, params), (3, at(got, 2)), (4, at(got, 2))):
        chex.assert_trees_all_equal(at(got, step), before)
        assert (jnp.signbit(at(got, step)["w"]) == jnp.signbit(before["w"])).all()
    assert opt_state.counted == 2 and opt_state.inner.step == 1


def test_the_rate_is_zero_where_no_step_is_made():
    optimizer = optim.accumulate(optim.sgd(0.5), 3)
    params, grads = problem(1)
    opt_state, rates = optimizer.init(params), []
    for _ in range(6):
        _, opt_state = optimizer.update(at(grads, 0), opt_state, params)
        rates.append(float(opt_state.rate))
    assert rates == [0, 0, 0.5, 0, 0, 0.5]


def test_the_optimizer_runs_only_when_it_steps():
    """Its update is in a branch of the program."""
    calls = []

    def update(grads, opt_state, params):
        jax.debug.callback(lambda: calls.append(1))
        return grads, opt_state

    optimizer = optim.accumulate(Optimizer(lambda params: (), update), 3)
    jax.block_until_ready(path(optimizer, *problem(7)))
    jax.effects_barrier()
    assert len(calls) == 2


@pytest.mark.slow
@float64
def test_the_number_of_steps_may_be_traced():
    params, grads = problem(6)
    program = jax.jit(
        chex.assert_max_traces(
            lambda n: path(optim.accumulate(optim.momentum(0.1), n), params, grads), n=1
        )
    )
    for steps in (1, 2, 3, 2.5, np.float64(6)):
        wanted = path(optim.accumulate(optim.momentum(0.1), int(np.ceil(steps))), params, grads)
        chex.assert_trees_all_close(program(jnp.asarray(steps, float)), wanted, rtol=1e-13)


@float64
def test_lanes_with_different_numbers_of_steps_equal_single_runs():
    params, grads = problem(6)
    lanes = jax.jit(
        jax.vmap(lambda n: path(optim.accumulate(optim.momentum(0.1), n), params, grads))
    )(jnp.arange(1, 4))
    for lane in range(3):
        chex.assert_trees_all_close(
            at(lanes, lane),
            path(optim.accumulate(optim.momentum(0.1), lane + 1), params, grads),
            rtol=1e-13,
        )


def test_half_precision_is_summed_in_float32():
    """In float16, 1 + 2⁻¹¹ rounds to 1."""
    params, grads = (
        {"w": jnp.ones(1, jnp.float16)},
        {"w": jnp.float16([[1.0], *[[2.0**-11]] * 1023])},
    )
    got, opt_state = follow(optim.accumulate(optim.sgd(1.0), 1024), params, grads)
    assert opt_state.sum["w"].dtype == jnp.float32 and got["w"].dtype == jnp.float16
    np.testing.assert_allclose(got["w"][-1], 1 - (1 + 1023 * 2.0**-11) / 1024, rtol=1e-3)


def test_an_empty_tree_is_counted():
    optimizer = optim.accumulate(optim.sgd(0.1), 2)
    _, opt_state = optimizer.update({}, optimizer.init({}), {})
    assert opt_state.counted == 1


def test_invalid_arguments_raise():
    with pytest.raises(
        ConfigError, match=r"accumulate steps: expected a number in \[1, inf\), got 0"
    ):
        optim.accumulate(optim.sgd(0.1), 0)
    with pytest.raises(
        ConfigError, match="accumulate optimizer: expected true gradients, got those of"
    ):
        optim.accumulate(optim.loss_scale(optim.sgd(0.1)), 2).init({"w": jnp.ones(2)})
