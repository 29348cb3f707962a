"""Lookahead against its formula."""

import chex
import jax
import jax.numpy as jnp
import pytest
from following import at, follow, path, problem

from fnn import optim
from fnn.errors import ConfigError

float64 = pytest.mark.usefixtures("x64")


@float64
@pytest.mark.parametrize(("steps", "share"), [(5, 0.5), (3, 0.2), (1, 0.7)])
def test_it_goes_back_to_a_point_on_the_way(steps, share):
    params, grads = problem(13)
    inner = optim.momentum(0.1)
    got, opt_state = follow(optim.lookahead(inner, steps=steps, share=share), params, grads)
    fast = slow = params
    own = inner.init(params)
    for step in range(13):
        updates, own = inner.update(at(grads, step), own, fast)
        fast = optim.apply_updates(fast, updates)
        if (step + 1) % steps == 0:
            fast = slow = jax.tree.map(lambda s, f: s + share * (f - s), slow, fast)
        chex.assert_trees_all_close(at(got, step), fast, rtol=1e-13, atol=1e-14)
    chex.assert_trees_all_close(optim.averaged(opt_state, fast), slow, rtol=1e-13, atol=1e-14)


@float64
def test_the_whole_way_it_is_the_optimizer_and_none_of_it_stays():
    params, grads = problem(6)
    whole = path(optim.lookahead(optim.momentum(0.1), steps=2, share=1.0), params, grads)
    chex.assert_trees_all_close(whole, path(optim.momentum(0.1), params, grads), rtol=1e-13, atol=1e-14)
    none = path(optim.lookahead(optim.momentum(0.1), steps=2, share=0.0), params, grads)
    chex.assert_trees_all_close(at(none, -1), params, rtol=1e-14)


def test_the_slow_parameters_are_those_of_the_run_to_the_last_bit():
    params, grads = problem(4)
    got, opt_state = follow(optim.lookahead(optim.momentum(0.1), steps=2), params, grads)
    chex.assert_trees_all_equal(opt_state.slow, at(got, 3))
    assert opt_state.counted == 0


def test_numbers_may_be_traced():
    params, grads = problem(4)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(steps, share):
        return path(optim.lookahead(optim.momentum(0.1), steps=steps, share=share), params, grads)

    for steps, share in ((2, 0.5), (3, 0.25)):
        wanted = path(optim.lookahead(optim.momentum(0.1), steps=steps, share=share), params, grads)
        chex.assert_trees_all_close(run(steps, share), wanted, rtol=1e-5)


def test_half_precision_keeps_its_dtype():
    params, grads = problem(4, jnp.bfloat16)
    got, opt_state = follow(optim.lookahead(optim.sgd(0.1), steps=2), params, grads)
    chex.assert_trees_all_equal(opt_state.slow, at(got, 3))
    assert got["stem"]["bias"].dtype == jnp.bfloat16


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match=r"lookahead steps: expected a number in \[1, inf\)"):
        optim.lookahead(optim.sgd(0.1), steps=0)
    with pytest.raises(ConfigError, match=r"lookahead share: expected a number in \[0, 1\]"):
        optim.lookahead(optim.sgd(0.1), share=1.5)
