"""The transformer block, against an equal chain of residual layers."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError

TIME, WIDTH = 4, 8
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, TIME, WIDTH)), jnp.float32)
MASK = jnp.array([[True, True, True, False], [True, True, False, False]])


def applied(layer, params, x, **options):
    """The output of a layer, compiled as one program, which is faster."""
    return jax.jit(partial(layer.apply, **options))(params, {}, x)[0]


def residual_chain(params, **options):
    """The same block as a chain of other layers, and its params."""
    attention = nn.chain(norm=nn.layer_norm(), attention=nn.attention(2, **options))
    mlp = nn.chain(
        norm=nn.layer_norm(),
        up=nn.dense(4 * WIDTH),
        act=nn.gelu(),
        down=nn.dense(WIDTH),
    )
    attention_params = {"norm": params["attention_norm"], "attention": params["attention"]}
    mlp_params = {"norm": params["mlp_norm"], **params["mlp"]}
    chain_params = {"attention": {"body": attention_params}, "mlp": {"body": mlp_params}}
    return nn.chain(attention=nn.residual(attention), mlp=nn.residual(mlp)), chain_params


@pytest.mark.parametrize("options", [{}, {"causal": True, "rotary": True, "kv_heads": 1}])
def test_block_equals_two_residual_layers(options, key):
    block = nn.transformer_block(2, **options)
    params, state, shape = block.init(key, (TIME, WIDTH))
    chain, chain_params = residual_chain(params, **options)
    y = applied(block, params, X)
    chex.assert_trees_all_close(y, applied(chain, chain_params, X), rtol=1e-5, atol=1e-6)
    assert (state, shape) == ({}, (TIME, WIDTH))


def test_mask_is_passed_on(key):
    block = nn.transformer_block(2)
    params, state, shapes = block.init(key, ((TIME, WIDTH), (TIME,)))
    assert shapes == ((TIME, WIDTH), (TIME,))
    y, mask = applied(block, params, (X, MASK))
    assert state == {} and np.array_equal(mask, MASK)
    # As if the masked steps were absent.
    for example, length in enumerate(MASK.sum(1)):
        alone = applied(block, params, X[example : example + 1, :length])
        np.testing.assert_allclose(y[example, :length], alone[0], rtol=1e-5, atol=1e-6)


def test_blocks_can_be_repeated_with_and_without_a_mask(key):
    stack = nn.repeat(nn.transformer_block(2, expansion=1), 2)
    params, _, shape = stack.init(key, (TIME, WIDTH))
    y = applied(stack, params, X)
    assert y.shape == (2, *shape)
    masked, _ = applied(stack, params, (X, jnp.ones_like(MASK)))
    chex.assert_trees_all_close(masked, y, rtol=1e-5, atol=1e-6)


def test_given_norm_and_activation_are_used(key):
    block = nn.transformer_block(
        2, norm=nn.rms_norm(), activation=nn.relu(), expansion=2, use_bias=False
    )
    params, _, _ = block.init(key, (TIME, WIDTH))
    assert jax.tree.map(jnp.shape, params["mlp_norm"]) == {"scale": (WIDTH,)}
    kernels = {"up": {"kernel": (WIDTH, 2 * WIDTH)}, "down": {"kernel": (2 * WIDTH, WIDTH)}}
    assert jax.tree.map(jnp.shape, params["mlp"]) == kernels
    # Without the MLP, whose relu is 0 for an up of zeros.
    mlp = params["mlp"] | {"up": {"kernel": jnp.zeros((WIDTH, 2 * WIDTH))}}
    y = applied(block, params | {"mlp": mlp}, X)
    normalized = X / jnp.sqrt(jnp.square(X).mean(-1, keepdims=True) + 1e-6)
    branch = applied(nn.attention(2, use_bias=False), params["attention"], normalized)
    chex.assert_trees_all_close(y, X + branch, rtol=1e-5, atol=1e-6)


def test_layer_scale_multiplies_the_branches(key):
    block = nn.transformer_block(2, layer_scale=0.5)
    params, _, shape = block.init(key, (TIME, WIDTH))
    assert shape == (TIME, WIDTH)
    plain, _, _ = nn.transformer_block(2).init(jax.random.clone(key), (TIME, WIDTH))
    scales = {"attention_scale": {"scale": (WIDTH,)}, "mlp_scale": {"scale": (WIDTH,)}}
    assert jax.tree.map(jnp.shape, {name: params.pop(name) for name in scales}) == scales
    # The other parts draw the same.
    chex.assert_trees_all_equal(params, plain)
    factors = jnp.arange(1.0, WIDTH + 1)
    y = applied(
        block,
        params | {"attention_scale": {"scale": factors}, "mlp_scale": {"scale": jnp.zeros(WIDTH)}},
        X,
    )
    no_mlp = plain | {"mlp": jax.tree.map(jnp.zeros_like, plain["mlp"])}
    branch = applied(nn.transformer_block(2), no_mlp, X) - X
    chex.assert_trees_all_close(y, X + branch * factors[None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_key_is_needed_only_with_drop_rates(key):
    params, _, _ = nn.transformer_block(2).init(key, (TIME, WIDTH))
    plain = applied(nn.transformer_block(2), params, X, train=True)
    for rates in ({"drop_rate": 0.5}, {"drop_path_rate": 0.5}):
        noisy = nn.transformer_block(2, **rates)
        np.testing.assert_array_equal(applied(noisy, params, X), plain)
        trained = applied(noisy, params, X, key=jax.random.key(1), train=True)
        assert not np.array_equal(trained, plain)


def test_example_with_dropped_paths_is_unchanged(key):
    block = nn.transformer_block(2, drop_path_rate=0.9)
    params, _, _ = block.init(key, (TIME, WIDTH))
    many = jnp.broadcast_to(X[:1], (64, TIME, WIDTH))
    y = applied(block, params, many, key=jax.random.key(1), train=True)
    kept = np.abs(y - many).max((1, 2)) > 0
    assert 0 < kept.sum() < 64 * 0.5  # 1 - 0.9² = 0.19 of them keep a branch on average


def test_branches_draw_independently(key):
    """If both branches shared their draws, an example would lose both or none."""
    block = nn.transformer_block(2, drop_path_rate=0.5)
    params, _, _ = block.init(key, (TIME, WIDTH))
    many = jnp.broadcast_to(X[:1], (64, TIME, WIDTH))
    y = applied(block, params, many, key=jax.random.key(1), train=True)
    assert len(np.unique(np.round(np.asarray(y), 4), axis=0)) == 4


ERRORS = {
    "heads": (
        {"heads": 3},
        (TIME, WIDTH),
        "attention width: expected a width that 3 divides, got 8",
    ),
    "vector": ({"heads": 2}, (WIDTH,), r"attention x: expected a shape \(time, width\)"),
    "narrow": (
        {"heads": 2, "activation": nn.dense(9), "expansion": 2},
        (TIME, WIDTH),
        "hidden width: expected .* got 9",
    ),
    "ends": (
        {"heads": 2, "activation": nn.dense(4)},
        (TIME, WIDTH),
        r"a branch to end in \(4, 8\), got \(4, 1\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_shapes_raise(case, key):
    options, shape, message = ERRORS[case]
    with pytest.raises(ShapeError, match=message):
        nn.transformer_block(**options).init(key, shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expansion": 0}, "transformer_block expansion: expected >= 1"),
        ({"drop_rate": 1.5}, "drop_rate: expected"),
        ({"drop_path_rate": -0.1}, "transformer_block drop_path_rate: expected"),
        ({"norm": nn.layer_norm}, "transformer_block attention_norm: expected a Layer"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ConfigError, match=message):
        nn.transformer_block(2, **options)
