"""Tests of the sample of a normal distribution, and of an autoencoder made with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import DTypeError, ShapeError

MEAN = jnp.linspace(-1, 1, 6, dtype=jnp.float32).reshape(2, 3)
LOG_VARIANCE = jnp.linspace(-2, 1, 6, dtype=jnp.float32).reshape(2, 3)
PAIR = {"mean": MEAN, "log_variance": LOG_VARIANCE}


def test_draws_have_the_mean_and_the_variance_of_the_input(key):
    layer = nn.sample_normal()
    keys = jax.random.split(key, 20_000)
    draws = jax.vmap(lambda key: layer.apply({}, {}, PAIR, key=key, train=True)[0])(keys)
    np.testing.assert_allclose(draws.mean(0), MEAN, atol=0.05)
    np.testing.assert_allclose(draws.var(0), jnp.exp(LOG_VARIANCE), rtol=0.05)


def test_it_is_the_mean_in_evaluation_and_takes_a_pair_or_a_dict(key):
    layer = nn.sample_normal()
    assert layer.apply({}, {}, PAIR)[0] is MEAN
    same = layer.apply({}, {}, (MEAN, LOG_VARIANCE), key=jax.random.clone(key), train=True)[0]
    np.testing.assert_array_equal(same, layer.apply({}, {}, PAIR, key=key, train=True)[0])
    assert layer.init(key, {"mean": (3,), "log_variance": (3,)})[2] == (3,)


def test_it_draws_in_evaluation_on_request(key):
    layer = nn.sample_normal(always=True)
    drawn = layer.apply({}, {}, PAIR, key=jax.random.clone(key))[0]
    same = layer.apply({}, {}, PAIR, key=key, train=True)[0]
    np.testing.assert_array_equal(drawn, same)
    with pytest.raises(DTypeError, match="sample_normal key"):
        layer.apply({}, {}, PAIR)


def test_gradients_are_those_of_the_formula(key):
    layer = nn.sample_normal()
    y, pull = jax.vjp(lambda x: layer.apply({}, {}, x, key=key, train=True)[0], PAIR)
    (slopes,) = pull(jnp.ones_like(y))
    np.testing.assert_array_equal(slopes["mean"], jnp.ones_like(MEAN))
    # d y / d log_variance = (y - mean) / 2
    np.testing.assert_allclose(slopes["log_variance"], (y - MEAN) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), ((3,), (4,)), {"mean": (3,)}, ((3,), (3,), (3,))])
def test_other_shapes_raise(key, shape):
    with pytest.raises(ShapeError, match="sample_normal: expected a"):
        nn.sample_normal().init(key, shape)


def test_other_arrays_raise(key):
    layer = nn.sample_normal()
    with pytest.raises(DTypeError, match="sample_normal mean"):
        layer.apply({}, {}, (MEAN.astype(int), LOG_VARIANCE))
    with pytest.raises(DTypeError, match="sample_normal key"):
        layer.apply({}, {}, PAIR, train=True)
    with pytest.raises(ShapeError, match="sample_normal"):
        layer.apply({}, {}, (MEAN, LOG_VARIANCE[:, :2]))


def negative_elbo(outputs, x):
    image, latent = outputs["image"], outputs["latent"]
    mean, log_variance = latent["mean"], latent["log_variance"]
    divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum(-1)
    return 50 * ((image - x) ** 2).sum(-1) + divergence


@pytest.mark.slow
def test_a_variational_autoencoder_needs_no_layer_of_its_own(key):
    heads = nn.parallel(mean=nn.dense(2), log_variance=nn.dense(2), join="dict")
    network = nn.graph(
        encoder=(nn.chain(nn.dense(16), nn.tanh(), heads), "x"),
        decoder=(nn.chain(nn.sample_normal(), nn.dense(16), nn.tanh(), nn.dense(4)), "encoder"),
        y=(nn.chain(), {"image": "decoder", "latent": "encoder"}),
    )
    # Points on a curve in four dimensions.
    t = jnp.linspace(-1, 1, 64)
    x = jnp.stack([t, t**2, jnp.sin(3 * t), jnp.cos(3 * t)], 1)
    recipe = train.recipe(network, optim.adam(1e-2), loss=negative_elbo, metrics={})
    result = train.run(key, recipe, (x, x), epochs=100, batch_size=64)
    assert result.history.loss[-1] < 0.3 * result.history.loss[0]
