"""SAM against its formula for the neighbor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError

PARAMS = {"a": np.array([1.0, -2.0]), "b": np.array([[0.5]])}


def f(params):
    return jnp.sin(params["a"]).sum() + jnp.square(params["b"]).sum() * params["a"][0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_gradient_is_taken_at_the_worst_neighbor(adaptive):
    params = jax.tree.map(jnp.array, PARAMS)
    grads = jax.jit(jax.grad(f))(params)
    weights = jax.tree.map(lambda p: np.abs(p) if adaptive else np.ones_like(p), PARAMS)
    length = np.sqrt(sum(np.sum((weights[name] * grads[name]) ** 2) for name in PARAMS))
    neighbor = {
        name: PARAMS[name] + 0.3 * weights[name] ** 2 * grads[name] / length for name in PARAMS
    }
    optimizer = optim.sam(optim.sgd(1.0), 0.3, adaptive=adaptive)
    updates, _ = optimizer.update(grads, optimizer.init(params), params, value_fn=f)
    for name, wanted in jax.grad(f)(jax.tree.map(jnp.array, neighbor)).items():
        np.testing.assert_allclose(updates[name], -wanted, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_radius_zero_or_a_gradient_of_zero_is_the_optimizer():
    params = jax.tree.map(jnp.array, PARAMS)
    grads = jax.jit(jax.grad(f))(params)
    optimizer = optim.sam(optim.sgd(1.0), 0.0)
    updates, _ = optimizer.update(grads, optimizer.init(params), params, value_fn=f)
    assert all(np.array_equal(updates[name], -grads[name]) for name in PARAMS)
    flat = jax.tree.map(jnp.zeros_like, params)
    optimizer = optim.sam(optim.sgd(1.0))
    updates, _ = optimizer.update(
        flat, optimizer.init(params), params, value_fn=lambda p: p["a"].sum() * 0.0
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))


def test_an_update_without_value_fn_raises():
    optimizer = optim.sam(optim.sgd(1.0))
    with pytest.raises(ConfigError, match=r"sam value_fn: .*train\.run gives it"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))


def test_sam_around_loss_scale_raises():
    with pytest.raises(ConfigError, match="sam optimizer: expected true gradients"):
        optim.sam(optim.loss_scale(optim.sgd(1.0))).init(jnp.ones(2))
