"""Gradients by the outputs of layers: against the derivative of the rest of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.diagnose.layer_gradients import differentiate


@pytest.mark.slow
def test_gradients_by_outputs_and_parameters_are_those_of_the_loss():
    network = nn.chain(nn.dense(3), nn.tanh(), nn.dense(1))
    recipe = train.recipe(network, optim.sgd(0.1), loss=objective.squared_error)
    state = train.start(jax.random.key(0), recipe, (4,))
    x = jax.random.normal(jax.random.key(1), (5, 4))
    targets = jnp.ones((5, 1))
    found = differentiate(recipe, state, x, targets, ("dense_0", "tanh_1", "dense_2"))
    # NumPy promotes ranks.
    first, last = (jax.tree.map(np.asarray, state.params[name]) for name in ("dense_0", "dense_2"))
    x = np.asarray(x)
    hidden = np.tanh(x @ first["kernel"] + first["bias"])
    error = hidden @ last["kernel"] + last["bias"] - 1
    np.testing.assert_allclose(found.loss, np.square(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(found.outputs["tanh_1"].y, hidden, rtol=1e-5)
    by_output = 2 * error / 5
    np.testing.assert_allclose(found.by_outputs["dense_2"].y, by_output, rtol=1e-5)
    by_hidden = by_output @ last["kernel"].T
    np.testing.assert_allclose(found.by_outputs["tanh_1"].y, by_hidden, rtol=1e-5)
    by_first = by_hidden * (1 - np.square(hidden))
    np.testing.assert_allclose(found.by_outputs["dense_0"].y, by_first, rtol=1e-4)
    np.testing.assert_allclose(found.grads["dense_0"]["kernel"], x.T @ by_first, rtol=1e-4)
