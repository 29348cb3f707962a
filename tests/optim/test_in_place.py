"""A step is params + updates, and on CPU is taken in place."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.optim.in_place import LARGE, finished
from fnn.types import Optimizer

OPTIMIZERS = {
    "adam": optim.adam(0.1),
    "momentum": optim.momentum(0.1),
    "of another library": Optimizer(optim.sgd(0.1).init, lambda g, s, p: (jax.tree.map(lambda g: -0.1 * g, g), s)),
}


def problem(size):
    draw = np.random.default_rng(3)
    params, grads = ({"w": jnp.float32(draw.normal(size=(size // 64, 64))), "b": jnp.ones(3)} for _ in range(2))
    return params, grads


def two_steps(optimizer, params, grads, step=optim.step):
    opt_state = optimizer.init(params)
    for _ in range(2):
        params, opt_state = step(optimizer, grads, opt_state, params)
    return params, opt_state


def by_hand(optimizer, grads, opt_state, params):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optim.apply_updates(params, updates), opt_state


@pytest.mark.parametrize("size", [64, LARGE])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_adds_the_updates(name, size):
    got, wanted = (
        jax.jit(lambda *problem, step=step: two_steps(OPTIMIZERS[name], *problem, step))(*problem(size))
        for step in (optim.step, by_hand)
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-6)


def test_a_large_step_has_derivatives_and_lanes():
    """The conditional that makes it so is no obstacle."""
    params, grads = problem(LARGE)

    def length(rate):
        params_after, _ = two_steps(optim.adam(rate), params, grads)
        return sum(jnp.square(p).mean() for p in jax.tree.leaves(params_after))

    both = jax.jit(lambda rate: (jax.grad(length)(rate), jax.jvp(length, (rate,), (1.0,))[1]))
    reverse, forward = both(0.1)
    difference = (length(0.1 + 1e-2) - length(0.1 - 1e-2)) / 2e-2
    np.testing.assert_allclose([reverse, forward], [difference] * 2, rtol=1e-3)
    lanes = jax.jit(jax.vmap(length))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(lanes, [length(0.1), length(0.2)], rtol=1e-5)


def test_a_run_of_steps_keeps_no_copy_of_large_params():
    params, grads = problem(4 * LARGE)
    adam = optim.adam(0.1)

    def steps(params, opt_state, grads):
        return jax.lax.scan(
            lambda carry, _: (optim.step(adam, grads, *carry[::-1]), None), (params, opt_state), length=3
        )

    program = jax.jit(steps, donate_argnums=(0, 1)).lower(params, adam.init(params), grads).compile()
    assert program.memory_analysis().temp_size_in_bytes < params["w"].nbytes / 10


@pytest.mark.parametrize("size", [8, LARGE])
def test_what_is_finished_is_what_the_function_gives(size):
    kept, other = (jnp.arange(float(size)), jnp.ones(size)), jnp.full(size, 2.0)

    def function(kept, other):
        return kept[0] + other, kept[1] * other

    got = jax.jit(lambda: finished(function, jnp.int32(0), kept, other))()
    chex.assert_trees_all_equal(got, function(kept, other))
