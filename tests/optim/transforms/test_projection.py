"""An optimizer within bounds lands where the constraint puts it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import objective, optim
from fnn.errors import ConfigError


def descend(optimizer, steps=5):
    params = {"kernel": jnp.array([[0.1, 3.0], [0.2, 4.0]]), "bias": jnp.zeros(2)}
    opt_state = optimizer.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optim.apply_updates(params, updates)
    return params, opt_state


def test_every_step_ends_on_the_constraint():
    """For plain descent, that is the step followed by the constraint."""
    limit = objective.max_norm(1.0)
    got, _ = descend(optim.project(optim.sgd(0.1), limit))
    wanted = {"kernel": jnp.array([[0.1, 3.0], [0.2, 4.0]]), "bias": jnp.zeros(2)}
    for step in range(5):
        wanted = limit(jax.tree.map(lambda p, step=step: p - 0.1 * jnp.sin(p + step), wanted))
    chex.assert_trees_all_close(got, wanted, rtol=1e-5)
    assert (jnp.linalg.norm(got["kernel"], axis=0) <= 1 + 1e-6).all()


def test_where_nothing_is_bounded_it_is_the_optimizer():
    plain, inside = descend(optim.adam(0.1)), descend(optim.project(optim.adam(0.1), objective.max_norm(100.0)))
    chex.assert_trees_all_close(plain, inside, rtol=1e-6)
    assert plain[1].rate == inside[1].rate == np.float32(0.1)


def test_any_function_of_params_is_a_constraint():
    positive = optim.project(optim.momentum(0.5), lambda params: jax.tree.map(jax.nn.relu, params))
    params, _ = descend(positive)
    assert all((leaf >= 0).all() for leaf in jax.tree.leaves(params))


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match=r"project optimizer: expected a pair \(init, update\)"):
        optim.project(optim.sgd, objective.max_norm(1.0))
    with pytest.raises(ConfigError, match="project constraint: expected a function"):
        optim.project(optim.sgd(0.1), 1.0)
