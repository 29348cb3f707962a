"""Statistics of a network, compared with their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.diagnose.observation import layer_kinds, leaf_paths, observe
from fnn.diagnose.update_lines import FRACTIONS

X = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
Y = X.sum(1, keepdims=True)
RATE = 0.05


RECIPE = train.recipe(
    nn.chain(nn.dense(8), nn.relu(), nn.dense(1)),
    optim.sgd(RATE),
    loss=objective.squared_error,
    regularizer=objective.l2(0.1),
)
STATE = train.start(jax.random.key(0), RECIPE, (5,))
# Half of the units are below 0 for all inputs.
STATE.params["dense_0"]["bias"] = jnp.where(jnp.arange(8) < 4, -100.0, 0.0)
FOUND = observe(RECIPE, STATE, (X, Y), (X[:7], Y[:7]), np.arange(64), 64)


def loss(params):
    outputs, _ = RECIPE.network.apply(params, {}, X)
    return objective.squared_error(outputs, Y).mean()


def test_the_layers_are_named_in_order():
    assert leaf_paths(RECIPE) == ("dense_0", "relu_1", "dense_2")
    assert list(layer_kinds(RECIPE.network).values()) == ["dense", "relu", "dense"]


def test_outputs_and_losses_are_those_of_evaluation():
    outputs, _ = RECIPE.network.apply(STATE.params, {}, X)
    np.testing.assert_allclose(FOUND.outputs, outputs, rtol=1e-5)
    np.testing.assert_allclose(FOUND.losses.mean(), loss(STATE.params), rtol=1e-5)
    assert FOUND.valid_losses.shape == (7,)


def test_layers_have_the_moments_of_their_outputs():
    kernel, bias = (np.asarray(STATE.params["dense_0"][name]) for name in ("kernel", "bias"))
    hidden = X @ kernel + bias
    active = np.maximum(hidden, 0)
    np.testing.assert_allclose(FOUND.activation_mean[1], active.mean(), rtol=1e-4)
    np.testing.assert_allclose(FOUND.activation_std[1], active.std(), rtol=1e-4)
    assert FOUND.dead_share[1] == 0.5
    assert np.isnan(FOUND.dead_share[[0, 2]]).all()


def test_gradients_and_updates_are_those_of_their_definitions():
    grads = jax.tree.leaves(jax.jit(jax.grad(loss))(STATE.params))
    rms = [np.sqrt(np.square(leaf).mean()) for leaf in grads]
    np.testing.assert_allclose(FOUND.grad_rms, rms, rtol=1e-4)
    penalty = jax.tree.leaves(jax.jit(jax.grad(RECIPE.regularizer))(STATE.params))
    whole = [np.sqrt(np.square(a + b).mean()) for a, b in zip(grads, penalty, strict=True)]
    sizes = [np.sqrt(np.square(leaf).mean()) for leaf in jax.tree.leaves(STATE.params)]
    # The update of gradient descent is rate x gradient of loss and penalty.
    kernels = [1, 3]
    expected = RATE * np.array(whole)[kernels] / np.array(sizes)[kernels]
    np.testing.assert_allclose(FOUND.update_ratio[kernels], expected, rtol=1e-3)


def test_the_gradient_by_a_layer_is_that_by_its_output():
    # The batch is the whole data: dL / dy = 2 (y - t) / n.
    by_output = 2 * (FOUND.outputs - Y) / len(X)
    kernel = np.asarray(STATE.params["dense_2"]["kernel"])
    norms = [np.linalg.norm(by_output @ kernel.T), np.linalg.norm(by_output)]
    np.testing.assert_allclose(FOUND.gradient_norm[1:], norms, rtol=1e-4)


def test_the_line_is_the_loss_along_an_update():
    state = train.step(RECIPE, STATE, (X, Y))[0]
    for fraction in (0.0, 1.0, 4.0):
        moved = jax.tree.map(lambda p, q, s=fraction: p + s * (q - p), STATE.params, state.params)
        column = FRACTIONS.index(fraction)
        assert FOUND.line[0, column] == pytest.approx(float(loss(moved)), rel=1e-3)
