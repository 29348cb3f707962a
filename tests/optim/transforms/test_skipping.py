"""Steps that are not finite leave no trace but a count."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import optim
from fnn.errors import ConfigError


def poisoned(grads, steps, value=jnp.nan):
    def one(g):
        return g.at[np.array(steps), 0].set(value) if g.ndim == 2 else g

    return jax.tree.map(one, grads)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_it_is_as_if_the_step_had_not_been(value):
    params, grads = problem(6)
    wrong, right = [1, 4, 5], np.array([0, 2, 3])
    got, opt_state = follow(optim.skip_nonfinite(optim.momentum(0.1)), params, poisoned(grads, wrong, value))
    wanted, inner = follow(optim.momentum(0.1), params, jax.tree.map(lambda g: g[right], grads))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[right], got), wanted)
    chex.assert_trees_all_equal(opt_state.inner, inner)
    chex.assert_trees_all_equal(at(got, 5), at(got, 3))
    assert (opt_state.skipped, opt_state.in_a_row) == (3, 2)


def test_however_many_there_are_none_gets_in():
    params, grads = problem(40)
    got, opt_state = follow(optim.skip_nonfinite(optim.momentum(0.1)), params, poisoned(grads, range(40)))
    chex.assert_trees_all_equal(at(got, 39), params)
    assert (opt_state.skipped, opt_state.in_a_row) == (40, 40)


def test_an_update_that_is_not_finite_is_left_out_as_well():
    """1e38 times 1e38 is infinite in float32."""
    params, grads = {"w": jnp.ones(2)}, {"w": jnp.full((1, 2), 1e38)}
    got, opt_state = follow(optim.skip_nonfinite(optim.sgd(1e38)), params, grads)
    chex.assert_trees_all_equal(at(got, 0), params)
    assert opt_state.skipped == 1


def test_finite_steps_are_as_without():
    params, grads = problem(5)
    got = path(optim.skip_nonfinite(optim.momentum(0.1)), params, grads)
    chex.assert_trees_all_equal(got, path(optim.momentum(0.1), params, grads))


def test_gradients_through_a_skipped_step_are_finite():
    params, grads = problem(4)

    def final(rate):
        optimizer = optim.skip_nonfinite(optim.adam(rate))
        return sum(leaf[-1].sum() for leaf in jax.tree.leaves(path(optimizer, params, poisoned(grads, [1]))))

    slope = jax.grad(final)(0.1)
    step = 1e-2
    central = (final(0.1 + step) - final(0.1 - step)) / (2 * step)
    np.testing.assert_allclose(slope, central, rtol=1e-2)


def test_an_empty_tree_is_finite():
    optimizer = optim.skip_nonfinite(optim.sgd(0.1))
    _, opt_state = optimizer.update({}, optimizer.init({}), {})
    assert opt_state.skipped == 0 and opt_state.inner.step == 1


def test_what_is_no_optimizer_is_told():
    with pytest.raises(ConfigError, match="skip_nonfinite optimizer: expected a pair"):
        optim.skip_nonfinite(optim.adam)
