"""The masks of dropout follow the binomial distribution, for fixed keys."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

RATES = (0.1, 0.5, 0.9)
every_rate = pytest.mark.parametrize("drop_rate", RATES)


def drop(drop_rate, x, key, train=True):
    return nn.dropout(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@every_rate
def test_numbers_are_dropped_at_the_rate(drop_rate, key):
    y = drop(drop_rate, jnp.ones((100, 200)), key)
    dropped = int((y == 0).sum())
    assert stats.binomtest(dropped, y.size, drop_rate).pvalue > 1e-3


@every_rate
def test_the_other_numbers_are_scaled_to_keep_the_mean(drop_rate, key):
    x = np.float32(np.random.default_rng(0).normal(size=(50, 40)))
    y = np.asarray(drop(drop_rate, jnp.array(x), key))
    np.testing.assert_allclose(y[y != 0], x[y != 0] / (1 - drop_rate), rtol=1e-6)


@every_rate
def test_rows_columns_and_examples_are_dropped_independently(drop_rate, key):
    """Counts in rows and columns are binomial too; a shared mask would change their variance."""
    y = drop(drop_rate, jnp.ones((200, 200)), key)
    for axis in (0, 1):
        counts = np.asarray((y == 0).sum(axis))
        expected = 200 * drop_rate * (1 - drop_rate)
        assert stats.chi2(199).sf(199 * counts.var(ddof=1) / expected) > 1e-3
        assert stats.chi2(199).cdf(199 * counts.var(ddof=1) / expected) > 1e-3


def test_rate_zero_drops_nothing(key):
    x = jnp.arange(6.0)
    chex.assert_trees_all_equal(drop(0.0, x, key), x)


@every_rate
def test_dropout_is_the_identity_outside_of_training(drop_rate):
    x = jnp.arange(6.0)
    chex.assert_trees_all_equal(drop(drop_rate, x, None, train=False), x)
    chex.assert_trees_all_equal(nn.dropout(drop_rate).apply({}, {}, x)[0], x)


def test_the_same_key_drops_the_same_numbers(key):
    first, again, other = (
        drop(0.5, jnp.ones(100), k) for k in (key, jax.random.clone(key), jax.random.key(1))
    )
    chex.assert_trees_all_equal(first, again)
    assert (first != other).any()


def test_rates_share_one_compilation_and_a_lane_equals_a_single_call():
    x = jnp.arange(1.0, 9.0)

    def apply(drop_rate):
        return drop(drop_rate, x, jax.random.key(2))

    rates = (0.0, *RATES)
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(apply, n=1))
    looped = jnp.stack([traced(rate) for rate in rates])
    chex.assert_trees_all_close(looped, jnp.stack([apply(rate) for rate in rates]), rtol=1e-6)
    chex.assert_trees_all_close(jax.vmap(apply)(jnp.array(rates)), looped, rtol=1e-6)


def test_gradients_pass_through_the_kept_numbers_alone(key):
    x = jnp.arange(1.0, 9.0)
    y = drop(0.25, x, key)
    differentiate = jax.jit(jax.grad(lambda rate, x, key: drop(rate, x, key).sum(), (0, 1)))
    by_rate, by_x = differentiate(0.25, x, jax.random.clone(key))
    np.testing.assert_allclose(by_x, np.where(y == 0, 0, 1 / 0.75), rtol=1e-6)
    np.testing.assert_allclose(by_rate, y.sum() / 0.75, rtol=1e-6)


def test_dropped_infinities_become_zero(key):
    x = jnp.full(64, jnp.inf)
    y = drop(0.5, x, key)
    assert set(np.unique(y)) == {0, np.inf}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_shape_and_dtype_are_kept(dtype, key):
    layer = nn.dropout(0.5)
    assert layer.init(key, (2, 3)) == ({}, {}, (2, 3))
    y, state = layer.apply(
        {}, {}, jnp.ones((4, 2, 3), dtype), key=jax.random.clone(key), train=True
    )
    assert (y.shape, y.dtype, state) == ((4, 2, 3), jnp.dtype(dtype), {})


@pytest.mark.parametrize("drop_rate", [1.5, 1.0, -0.5, float("nan"), "half", None, [0.5, 0.5]])
def test_an_invalid_rate_raises(drop_rate):
    with pytest.raises(ConfigError, match=r"dropout drop_rate: expected"):
        nn.dropout(drop_rate)


KEYS = {
    "none": (None, DTypeError),
    "int": (0, DTypeError),
    "raw": (np.array([0, 1], np.uint32), DTypeError),
    "many": (jax.random.split(jax.random.key(0), 3), ShapeError),
}


@pytest.mark.parametrize("case", KEYS)
def test_training_without_a_single_key_raises(case):
    key, error = KEYS[case]
    with pytest.raises(error, match="dropout key: expected"):
        drop(0.5, jnp.ones(3), key)


def test_training_without_a_key_is_a_type_error():
    with pytest.raises(TypeError):
        drop(0.5, jnp.ones(3), None)


@pytest.mark.parametrize("train", [True, False])
def test_integers_raise(train, key):
    with pytest.raises(DTypeError, match=r"dropout x: expected floating.*got int32"):
        drop(0.5, jnp.ones(3, jnp.int32), key, train)


@partial(jax.jit, static_argnames="train")
def drop_channels(drop_rate, x, key, train=True):
    return nn.channel_dropout(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@pytest.mark.parametrize("shape", [(100, 60), (100, 3, 60), (100, 3, 2, 60), (100, 2, 2, 2, 60)])
def test_channel_dropout_drops_whole_channels_at_the_rate(shape, key):
    x = np.float32(np.random.default_rng(0).uniform(1, 2, shape))
    y = np.asarray(drop_channels(0.3, jnp.array(x), key))
    places = tuple(range(1, len(shape) - 1))
    kept = (y != 0).any(places)  # (example, channel)
    np.testing.assert_allclose(y, x / 0.7 * np.expand_dims(kept, places), rtol=1e-6)
    assert stats.binomtest(int(kept.sum()), kept.size, 0.7).pvalue > 1e-3


def test_channel_dropout_is_independent_over_examples_and_channels(key):
    kept = np.asarray(drop_channels(0.3, jnp.ones((200, 2, 200)), key))[:, 0] != 0
    for axis in (0, 1):
        spread = 199 * kept.sum(axis).var(ddof=1) / (200 * 0.3 * 0.7)
        assert 1e-3 < stats.chi2(199).sf(spread) < 1 - 1e-3


def test_channel_dropout_is_the_identity_outside_of_training_and_at_rate_zero(key):
    x = jnp.arange(12.0).reshape(2, 3, 2)
    chex.assert_trees_all_equal(drop_channels(0.5, x, None, train=False), x)
    chex.assert_trees_all_equal(drop_channels(0.0, x, key), x)


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_an_invalid_rate_of_channel_dropout_raises(drop_rate):
    with pytest.raises(ConfigError, match=r"channel_dropout drop_rate: expected"):
        nn.channel_dropout(drop_rate)


def test_wrong_inputs_of_channel_dropout_raise(key):
    with pytest.raises(
        ShapeError, match=r"channel_dropout: expected a shape \(\.\.\., channels\), got \(\)"
    ):
        nn.channel_dropout(0.5).init(key, ())
    with pytest.raises(
        ShapeError, match=r"channel_dropout: expected a shape \(\.\.\., channels\), got \(\)"
    ):
        drop_channels(0.5, jnp.ones(3), key)
    with pytest.raises(DTypeError, match="channel_dropout key: expected a key"):
        drop_channels(0.5, jnp.ones((2, 3)), None)
    with pytest.raises(DTypeError, match=r"channel_dropout x: expected floating.*got int32"):
        drop_channels(0.5, jnp.ones((2, 3), jnp.int32), key)


@partial(jax.jit, static_argnames="train")
def drop_examples(drop_rate, x, key, train=True):
    return nn.drop_path(drop_rate).apply({}, {}, x, key=key, train=train)[0]


@pytest.mark.parametrize("shape", [(5000,), (5000, 3), (5000, 2, 2, 3)])
def test_drop_path_drops_whole_examples_at_the_rate(shape, key):
    x = np.float32(np.random.default_rng(0).uniform(1, 2, shape))
    y = np.asarray(drop_examples(0.3, jnp.array(x), key))
    kept = y.reshape(5000, -1)[:, 0] != 0
    np.testing.assert_allclose(y, x / 0.7 * kept.reshape(-1, *[1] * (len(shape) - 1)), rtol=1e-6)
    assert stats.binomtest(int(kept.sum()), 5000, 0.7).pvalue > 1e-3


def test_a_dropped_example_skips_the_body_of_a_residual(key):
    layer = nn.residual(nn.chain(nn.dense(4), nn.drop_path(0.5)))
    params, state, _ = layer.init(key, (4,))
    x = jnp.float32(np.random.default_rng(0).normal(size=(64, 4)))
    y, _ = layer.apply(params, state, x, key=jax.random.clone(key), train=True)
    body, _ = nn.dense(4).apply(params["body"]["dense_0"], {}, x)
    skipped = np.asarray((y == x).all(1))
    assert 16 < skipped.sum() < 48
    np.testing.assert_allclose(y, x + np.where(skipped[:, None], 0, 2 * body), rtol=1e-5, atol=1e-6)


def test_the_rate_of_drop_path_may_be_traced():
    """Bodies with a traced rate each, in one compilation: each is skipped at its rate."""
    depths = jnp.arange(1, 5) / 4

    def kept(depth, key):
        return (drop_examples(0.4 * depth, jnp.ones((5000, 1)), key) != 0).sum()

    counts = jax.jit(jax.vmap(kept))(depths, jax.random.split(jax.random.key(1), 4))
    for depth, count in zip(depths, counts, strict=True):
        assert stats.binomtest(int(count), 5000, 1 - 0.4 * float(depth)).pvalue > 1e-3


def test_drop_path_is_the_identity_outside_of_training_and_at_rate_zero(key):
    x = jnp.arange(12.0).reshape(2, 3, 2)
    chex.assert_trees_all_equal(drop_examples(0.5, x, None, train=False), x)
    chex.assert_trees_all_equal(drop_examples(0.0, x, key), x)


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_an_invalid_rate_of_drop_path_raises(drop_rate):
    with pytest.raises(ConfigError, match=r"drop_path drop_rate: expected"):
        nn.drop_path(drop_rate)


def test_wrong_inputs_of_drop_path_raise(key):
    with pytest.raises(DTypeError, match="drop_path key: expected a key"):
        drop_examples(0.5, jnp.ones((2, 3)), None)
    with pytest.raises(DTypeError, match=r"drop_path x: expected floating.*got int32"):
        drop_examples(0.5, jnp.ones((2, 3), jnp.int32), key)


IDENTITY = jnp.eye(40)  # an input whose output is the weights


def weights(layer, key, train=True):
    shapes = jax.eval_shape(lambda key: layer.init(key, (40,))[0], jax.random.key(5))
    params = jax.tree.map(
        lambda leaf: np.float32(np.random.default_rng(0).normal(size=leaf.shape)), shapes
    )
    return jax.jit(lambda params, key: layer.apply(params, {}, IDENTITY, key=key, train=train)[0])(
        params, key
    )


@pytest.mark.parametrize("drop_rate", [0.1, 0.5])
def test_drop_connect_drops_weights_at_the_rate_and_scales_the_others(drop_rate, key):
    bare = nn.dense(50, use_bias=False)
    kernel, got = weights(bare, None), np.asarray(weights(nn.drop_connect(bare, drop_rate), key))
    assert stats.binomtest(int((got == 0).sum()), got.size, drop_rate).pvalue > 1e-3
    np.testing.assert_allclose(got, np.where(got == 0, 0, kernel / (1 - drop_rate)), rtol=1e-6)


def test_drop_connect_keeps_biases(key):
    layer = nn.drop_connect(nn.dense(3), 0.5)
    params = {"kernel": jnp.ones((4, 3)), "bias": jnp.arange(3.0)}
    y, _ = layer.apply(params, {}, jnp.zeros((2, 4)), key=key, train=True)
    chex.assert_trees_all_equal(y, jnp.tile(jnp.arange(3.0), (2, 1)))


def test_drop_connect_drops_the_same_weights_for_the_whole_batch(key):
    layer = nn.drop_connect(nn.conv(2), 0.5)
    params = {"kernel": jnp.ones((3, 3, 1, 2)), "bias": jnp.ones(2)}
    one = np.float32(np.random.default_rng(0).normal(size=(1, 4, 4, 1)))
    y, _ = layer.apply(params, {}, jnp.array(np.tile(one, (3, 1, 1, 1))), key=key, train=True)
    chex.assert_trees_all_close(y, jnp.tile(y[:1], (3, 1, 1, 1)), rtol=1e-6)


def test_drop_connect_is_independent_over_the_layers_of_a_chain(key):
    layer = nn.drop_connect(
        nn.chain(nn.dense(40, use_bias=False), nn.dense(40, use_bias=False)), 0.5
    )
    ones = {name: {"kernel": jnp.eye(40)} for name in ("dense_0", "dense_1")}
    kept = np.diag(layer.apply(ones, {}, IDENTITY, key=key, train=True)[0]) != 0
    assert stats.binomtest(int(kept.sum()), 40, 0.25).pvalue > 1e-3


def test_dropout_inside_of_drop_connect_draws_as_without_it():
    """It gets the key that it has without drop_connect."""
    noise = nn.chain(nn.dense(40, use_bias=False), nn.dropout(0.5))
    ones = {"dense_0": {"kernel": jnp.ones((40, 40))}}
    alone, wrapped = (
        jax.jit(lambda key, layer=layer: layer.apply(ones, {}, IDENTITY, key=key, train=True)[0])(
            jax.random.key(3)
        )
        for layer in (noise, nn.drop_connect(noise, 0.0))
    )
    chex.assert_trees_all_equal(alone, wrapped)


def test_the_same_key_drops_the_same_weights(key):
    layer = nn.drop_connect(nn.dense(20), 0.5)
    params = {"kernel": jnp.ones((40, 20)), "bias": jnp.ones(20)}
    apply = jax.jit(lambda key: layer.apply(params, {}, IDENTITY, key=key, train=True)[0])
    first, again, other = (apply(k) for k in (key, jax.random.clone(key), jax.random.key(1)))
    chex.assert_trees_all_equal(first, again)
    assert (first != other).any()


def test_drop_connect_is_the_layer_outside_of_training_and_at_rate_zero(key):
    bare = nn.dense(3)
    chex.assert_trees_all_equal(
        weights(nn.drop_connect(bare, 0.5), None, train=False), weights(bare, None)
    )
    chex.assert_trees_all_equal(weights(nn.drop_connect(bare, 0.0), key), weights(bare, None))


def test_drop_connect_has_the_params_of_the_layer(key):
    bare = nn.chain(nn.dense(3), nn.batch_norm())
    wanted, got = (
        jax.jit(lambda key, layer=layer: layer.init(key, (4,))[:2])(jax.random.clone(key))
        for layer in (bare, nn.drop_connect(bare, 0.5))
    )
    chex.assert_trees_all_equal(got, wanted)
    assert nn.chain(nn.drop_connect(nn.dense(3), 0.5)).init(jax.random.key(1), (4,))[0].keys() == {
        "dense_0"
    }


@pytest.mark.parametrize("drop_rate", [1.0, -0.5, float("nan"), "half"])
def test_an_invalid_rate_of_drop_connect_raises(drop_rate):
    with pytest.raises(ConfigError, match=r"drop_connect drop_rate: expected"):
        nn.drop_connect(nn.dense(3), drop_rate)


def test_drop_connect_in_training_without_a_key_raises():
    with pytest.raises(DTypeError, match="drop_connect key: expected a key"):
        weights(nn.drop_connect(nn.dense(3), 0.5), None)
