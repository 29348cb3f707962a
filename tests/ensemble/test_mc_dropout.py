"""Monte Carlo dropout against the moments of a linear map, and its keys and modes."""

import jax
import numpy as np
import pytest

from fnn import ensemble, nn, optim, train
from fnn.errors import ConfigError, DTypeError
from fnn.types import Layer, Weights

SAMPLES = 4000
RATE = 0.3
INPUTS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(5, 1)).astype(np.float32)


def made(network, shape=(5,)):
    recipe = train.recipe(network, optim.sgd(0.1))
    params, state, _ = network.init(jax.random.key(0), shape)
    return recipe, Weights(params, state)


def linear(network):
    recipe, weights = made(network)
    params = jax.tree.map(lambda leaf: KERNEL if leaf.ndim == 2 else 0 * leaf, weights.params)
    return recipe, weights._replace(params=params)


@pytest.mark.parametrize(
    "network",
    [
        nn.chain(nn.dropout(RATE), nn.dense(1)),
        nn.drop_connect(nn.dense(1), RATE),
        nn.chain(nn.inference(nn.dropout(0.9), params=False), nn.dropout(RATE), nn.dense(1)),
    ],
    ids=["dropout", "drop_connect", "inference"],
)
def test_the_moments_are_those_of_a_linear_map(network):
    recipe, weights = linear(network)
    samples = ensemble.mc_dropout(
        jax.random.key(1), recipe, weights, INPUTS, n=SAMPLES, batch_size=1000
    )
    assert samples.shape == (SAMPLES, 3, 1)
    variance = np.square(INPUTS * KERNEL[:, 0]).sum(1) * RATE / (1 - RATE)
    error = np.sqrt(variance / SAMPLES)
    mean = samples[..., 0].mean(0)
    assert (abs(mean - (INPUTS @ KERNEL)[:, 0]) < 4 * error).all()
    np.testing.assert_allclose(samples[..., 0].var(0), variance, rtol=0.1)


def test_examples_and_samples_have_their_own_masks():
    recipe, weights = linear(nn.chain(nn.dropout(0.5), nn.dense(1)))
    same = np.repeat(INPUTS[:1], 40, 0)
    for batch_size in (16, 256):
        samples = ensemble.mc_dropout(
            jax.random.key(1), recipe, weights, same, n=12, batch_size=batch_size
        )[..., 0]
        # 2^5 masks are 32 outputs; equal rows or columns would be far fewer distinct values.
        assert len(np.unique(samples.round(5))) > 24
        rows = np.corrcoef(samples)[np.triu_indices(12, 1)]
        assert abs(rows).max() < 0.7
        assert len(np.unique(samples.T.round(5), axis=0)) == 40


def test_one_key_gives_one_result_and_more_samples_begin_with_the_same():
    recipe, weights = linear(nn.chain(nn.dropout(0.5), nn.dense(1)))

    def draw(seed, n):
        return ensemble.mc_dropout(jax.random.key(seed), recipe, weights, INPUTS, n=n)

    np.testing.assert_array_equal(draw(0, 4), draw(0, 4))
    np.testing.assert_array_equal(draw(0, 4), draw(0, 7)[:4])
    assert (draw(0, 4) != draw(1, 4)).any()


def test_without_dropping_the_outputs_are_those_of_evaluation():
    """Batch norm uses its running statistics, although dropout acts as in training."""
    network = nn.chain(
        nn.dense(4), nn.batch_norm(), nn.dropout(0.0), nn.channel_dropout(0.0), nn.dense(2)
    )
    recipe, weights = made(network)
    state = jax.tree.map(lambda leaf: leaf + 0.5, weights.state)
    weights = weights._replace(state=state)
    samples = ensemble.mc_dropout(jax.random.key(0), recipe, weights, INPUTS, n=5)
    wanted = train.predict(recipe, weights, INPUTS)
    for sample in samples:
        np.testing.assert_allclose(sample, wanted, rtol=1e-6, atol=1e-7)
    # A CPU may round the lanes of one program differently.
    assert (samples.var(0) < 1e-12).all()


@pytest.mark.parametrize(
    "layer", [nn.channel_dropout(0.5), nn.drop_path(0.5)], ids=lambda x: x.name
)
def test_other_noise_is_drawn_too(layer):
    recipe, weights = made(nn.chain(nn.dense(8), nn.residual(layer), nn.dense(1)))
    samples = ensemble.mc_dropout(jax.random.key(0), recipe, weights, INPUTS, n=8)
    assert (samples.var(0) > 0).all()


def test_gamma_noise_alone_counts_as_a_draw():
    def apply(params, state, x, *, key=None, train=False):
        return (x * jax.random.gamma(key, 2.0, x.shape) if train else x), state

    noise = Layer(lambda key, shape: ({}, {}, shape), apply)
    recipe, weights = made(nn.chain(noise, nn.dense(1)))
    samples = ensemble.mc_dropout(jax.random.key(0), recipe, weights, INPUTS, n=8)
    assert (samples.var(0) > 0).all()


def test_it_takes_a_train_state_and_runs_in_jit():
    recipe = train.recipe(nn.chain(nn.dropout(0.5), nn.dense(2)), optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (5,))

    def draw(key, train_state):
        return ensemble.mc_dropout(key, recipe, train_state, INPUTS, n=3)

    wanted = draw(jax.random.key(1), train_state)
    np.testing.assert_allclose(
        jax.jit(draw)(jax.random.key(1), train_state), wanted, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    "network", [nn.dense(2), nn.inference(nn.chain(nn.dropout(0.5), nn.dense(2)), params=False)]
)
def test_a_network_without_noise_raises(network):
    recipe, weights = made(network)
    with pytest.raises(ConfigError, match="mc_dropout network: expected a layer that draws"):
        ensemble.mc_dropout(jax.random.key(0), recipe, weights, INPUTS, n=3)


def test_wrong_arguments_raise():
    recipe, weights = linear(nn.chain(nn.dropout(0.5), nn.dense(1)))
    with pytest.raises(ConfigError, match="mc_dropout n: expected >= 1"):
        ensemble.mc_dropout(jax.random.key(0), recipe, weights, INPUTS, n=0)
    with pytest.raises(DTypeError, match="mc_dropout key: expected a key"):
        ensemble.mc_dropout(0, recipe, weights, INPUTS, n=2)
