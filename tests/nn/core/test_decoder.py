"""A sequence processed part by part has the outputs of the whole sequence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError
from fnn.nn.core.decoder import decode, join_cache, per_position, split_cache
from fnn.types import Layer, Span

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6)), jnp.float32)
LAYERS = {
    "attention": nn.attention(3, causal=True, kv_heads=1),
    "rotary": nn.attention(3, causal=True, rotary=True, head_width=4),
    "learned positions": nn.learned_positions(7),
    "sinusoidal positions": nn.sinusoidal_positions(),
    "lstm": nn.lstm(4),
    "gru": nn.gru(4),
    "rnn": nn.rnn(4),
    "blocks": nn.repeat(nn.transformer_block(2, causal=True, expansion=2, drop_rate=0.1), 2),
    "shared": nn.shared(nn.dense(6), lambda tied: nn.chain(tied, nn.lstm(6), tied)),
    "frozen": nn.freeze(nn.chain(nn.batch_norm(), nn.gru(3))),
}


def initialized(layer, key):
    """The params and state for X."""
    return jax.jit(lambda key: layer.init(key, X.shape[1:])[:2])(key)


@partial(jax.jit, static_argnums=(0, 4, 5))
def in_parts(layer, params, state, x, sizes, padding=0):
    """The outputs of all parts; zeros or, in the first part, noise are appended as padding."""
    outputs, cache, start = [], {}, 0
    for size in sizes:
        part = jnp.pad(x[:, start : start + size], ((0, 0), (0, padding), (0, 0)))
        capacity = x.shape[1] + padding if padding else x.shape[1]
        starts = jnp.full(len(x), start, jnp.int32)
        span = Span(starts, jnp.full_like(starts, size), capacity, start == 0)
        y, new_state = decode(layer, span).apply(
            params, join_cache(state, cache), part, train=False
        )
        cache = split_cache(new_state, state)
        outputs.append(y[:, :size])
        start += size
        padding = 0
    return jnp.concatenate(outputs, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_parts_equal_the_whole(name, key):
    layer = LAYERS[name]
    params, state = initialized(layer, key)
    params = jax.tree.map(lambda p: p + 0.1, params)
    whole, _ = jax.jit(partial(layer.apply, train=False))(params, state, X)
    for sizes in ((7,), (3, 1, 2, 1)):
        parts = in_parts(layer, params, state, X, sizes)
        np.testing.assert_allclose(parts, whole, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("name", ["rotary", "lstm"])
def test_padding_of_the_first_part_does_not_matter(name, key):
    layer = LAYERS[name]
    params, state = initialized(layer, key)
    whole, _ = jax.jit(layer.apply)(params, state, X)
    parts = in_parts(layer, params, state, X, (3, 1, 1, 2), padding=2)
    np.testing.assert_allclose(parts, whole, atol=2e-6, rtol=2e-5)


SPAN = Span(jnp.zeros(2, jnp.int32), jnp.full(2, 7, jnp.int32), 7, is_first=True)


def test_an_own_layer_declares_its_decoder(key):
    def apply(params, state, x, *, key=None, train=False):
        return jnp.square(x), state

    own = Layer(lambda key, shape: ({}, {}, shape), apply)
    with pytest.raises(ConfigError, match=r"expected layers that can .* got nn\.layer"):
        decode(nn.chain(own), SPAN)
    network = nn.chain(per_position(own))
    np.testing.assert_array_equal(decode(network, SPAN).apply({}, {}, X)[0], jnp.square(X))


@pytest.mark.parametrize(
    "layer",
    [
        nn.concat(axis=1),
        nn.concat(axis=-2),
        nn.parallel(nn.tanh(), nn.relu(), axis=1),
        nn.flatten(),
    ],
)
def test_layers_over_the_time_have_no_decoder(layer):
    assert layer.decoder is None
    assert nn.concat(axis=2).decoder and nn.parallel(nn.tanh(), join="tuple").decoder


def test_the_cache_is_the_state_without_that_of_the_network():
    state = {"norm": {"mean": 1}, "other": 2}
    cache = {"norm": {"more": 3}, "attention": {"key": 4}}
    joined = join_cache(state, cache)
    assert joined == {"norm": {"mean": 1, "more": 3}, "other": 2, "attention": {"key": 4}}
    assert split_cache(joined, state) == cache
    assert state == {"norm": {"mean": 1}, "other": 2}
