"""Curvature and gradient noise at one train state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fnn import diagnose, nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.types import Layer

X = jax.random.normal(jax.random.key(1), (40, 3))
Y = jnp.arange(40) % 2
NETWORK = nn.chain(nn.dense(4), nn.tanh(), nn.dense(2))
RECIPE = train.recipe(NETWORK, optim.sgd(0.1))
START = train.start(jax.random.key(11), RECIPE, (3,))


def hessian(state):
    flat, restore = ravel_pytree(state.params)

    def loss(flat):
        logits, _ = NETWORK.apply(restore(flat), state.state, X)
        return objective.cross_entropy(logits, Y).mean()

    return np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64)


@pytest.mark.slow
def test_sharpness_is_the_largest_eigenvalue_of_the_hessian():
    wanted = np.linalg.eigvalsh(hessian(START))[-1]
    got = diagnose.sharpness(
        jax.random.key(12), RECIPE, START, (X, Y), iterations=400, tolerance=1e-6
    )
    np.testing.assert_allclose(got.eigenvalue, wanted, rtol=1e-3)
    assert got.change <= 1e-6
    assert got.iterations < 400


def quadratic(curvatures):
    """Return a recipe and a state of the loss Σ_i a_i w_i² / 2 + noise · w."""

    def init(key, shape):
        return {"w": jnp.ones(len(curvatures))}, {}, shape

    def apply(params, state, x, *, key=None, train=False):
        w = params["w"]
        value = (jnp.asarray(curvatures) * w**2 / 2).sum() + x @ w
        return value[:, None], state

    def value(outputs, targets):
        return outputs[:, 0]

    recipe = train.recipe(Layer(init, apply), optim.sgd(0.1), loss=value)
    return recipe, train.start(jax.random.key(2), recipe, (len(curvatures),))


def test_sharpness_is_the_largest_eigenvalue_also_where_a_negative_one_is_larger():
    recipe, state = quadratic([-5.0, 1.0, 2.0])
    data = jnp.zeros((4, 3)), jnp.zeros(4)
    got = diagnose.sharpness(jax.random.key(13), recipe, state, data, tolerance=1e-6)
    np.testing.assert_allclose(got.eigenvalue, 2, rtol=1e-4)


def test_noise_scale_of_a_quadratic_with_planted_noise_is_unbiased():
    dim, sigma = 20, 0.5
    recipe, state = quadratic(jnp.full(dim, 2.0))
    noise = sigma * jax.random.normal(jax.random.key(3), (512, dim))
    data = noise, jnp.zeros(512)

    def estimate(key):
        return diagnose.noise_scale(key, recipe, state, data, batch_size=4, batches=8)

    found = jax.vmap(estimate)(jax.random.split(jax.random.key(14), 200))
    # Of these examples, and of their distribution.
    of_data = np.trace(np.cov(np.asarray(noise).T))
    assert of_data == pytest.approx(dim * sigma**2, rel=0.05)
    error = np.asarray(found.noise).std() / np.sqrt(200)
    assert abs(found.noise.mean() - of_data) < 3 * error
    gradient = 2 + np.asarray(noise).mean(0)
    signal = np.sum(gradient**2) - of_data / 512
    error = np.asarray(found.signal).std() / np.sqrt(200)
    assert abs(found.signal.mean() - signal) < 3 * error
    np.testing.assert_allclose(found.scale, found.noise / found.signal, rtol=1e-5)


def test_misuse_raises_an_error():
    with pytest.raises(ConfigError, match="noise_scale batches: expected at most 10 batches"):
        diagnose.noise_scale(jax.random.key(15), RECIPE, START, (X, Y), batch_size=4, batches=11)
    with pytest.raises(ConfigError, match="sharpness iterations"):
        diagnose.sharpness(jax.random.key(16), RECIPE, START, (X, Y), iterations=0)
    with pytest.raises(ConfigError, match="sharpness tolerance"):
        diagnose.sharpness(jax.random.key(17), RECIPE, START, (X, Y), tolerance=-1.0)
    with pytest.raises(ConfigError, match="sharpness recipe"):
        diagnose.sharpness(jax.random.key(18), NETWORK, START, (X, Y))
