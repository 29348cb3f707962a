"""The block is held to the chain of residuals that it is."""

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
    """What a layer gives, compiled as one: quicker for shapes that come once."""
    return jax.jit(partial(layer.apply, **options))(params, {}, x)[0]


def residuals(params, **looks):
    """The same, built from other layers, and its params."""
    mlp = nn.chain(
        norm=nn.layer_norm(), up=nn.dense(4 * WIDTH), act=nn.gelu(), down=nn.dense(WIDTH)
    )
    look = nn.chain(norm=nn.layer_norm(), look=nn.attention(2, **looks))
    own = {
        "look": {"body": {"norm": params["attention_norm"], "look": params["attention"]}},
        "mlp": {"body": {"norm": params["mlp_norm"], **params["mlp"]}},
    }
    return nn.chain(look=nn.residual(look), mlp=nn.residual(mlp)), own


@pytest.mark.parametrize("looks", [{}, {"causal": True, "rotary": True, "kv_heads": 1}])
def test_it_is_two_residuals(looks, key):
    block = nn.transformer_block(2, **looks)
    params, state, shape = block.init(key, (TIME, WIDTH))
    chained, own = residuals(params, **looks)
    y = applied(block, params, X)
    chex.assert_trees_all_close(y, applied(chained, own, X), rtol=1e-5, atol=1e-6)
    assert (state, shape) == ({}, (TIME, WIDTH))


def test_a_mask_goes_through_for_the_next_block(key):
    block = nn.transformer_block(2)
    params, state, shapes = block.init(key, ((TIME, WIDTH), (TIME,)))
    assert shapes == ((TIME, WIDTH), (TIME,))
    y, mask = applied(block, params, (X, MASK))
    assert state == {} and np.array_equal(mask, MASK)
    for example, length in enumerate(MASK.sum(1)):  # as if what is not seen were not there
        alone = applied(block, params, X[example : example + 1, :length])
        np.testing.assert_allclose(y[example, :length], alone[0], rtol=1e-5, atol=1e-6)


def test_blocks_follow_each_other_with_and_without_a_mask(key):
    stack = nn.repeat(nn.transformer_block(2, expansion=1), 2)
    params, _, shape = stack.init(key, (TIME, WIDTH))
    y = applied(stack, params, X)
    assert y.shape == (2, *shape)
    told, _ = applied(stack, params, (X, jnp.ones_like(MASK)))
    chex.assert_trees_all_close(told, y, rtol=1e-5, atol=1e-6)


def test_norm_and_activation_are_those_given(key):
    block = nn.transformer_block(
        2, norm=nn.rms_norm(), activation=nn.relu(), expansion=2, use_bias=False
    )
    params, _, _ = block.init(key, (TIME, WIDTH))
    assert jax.tree.map(jnp.shape, params["mlp_norm"]) == {"scale": (WIDTH,)}
    kernels = {"up": {"kernel": (WIDTH, 2 * WIDTH)}, "down": {"kernel": (2 * WIDTH, WIDTH)}}
    assert jax.tree.map(jnp.shape, params["mlp"]) == kernels
    silent = params | {"mlp": params["mlp"] | {"up": {"kernel": jnp.zeros((WIDTH, 2 * WIDTH))}}}
    normal = X / jnp.sqrt(jnp.square(X).mean(-1, keepdims=True) + 1e-6)
    looked = applied(nn.attention(2, use_bias=False), params["attention"], normal)
    chex.assert_trees_all_close(applied(block, silent, X), X + looked, rtol=1e-5, atol=1e-6)


def test_without_rates_it_needs_no_key_and_with_them_it_draws(key):
    params, _, _ = nn.transformer_block(2).init(key, (TIME, WIDTH))
    plain = applied(nn.transformer_block(2), params, X, train=True)
    for rates in ({"drop_rate": 0.5}, {"drop_path_rate": 0.5}):
        noisy = nn.transformer_block(2, **rates)
        np.testing.assert_array_equal(applied(noisy, params, X), plain)
        trained = applied(noisy, params, X, key=jax.random.key(1), train=True)
        assert not np.array_equal(trained, plain)


def test_a_dropped_path_leaves_an_example_as_it_is(key):
    block = nn.transformer_block(2, drop_path_rate=0.9)
    params, _, _ = block.init(key, (TIME, WIDTH))
    many = jnp.broadcast_to(X[:1], (64, TIME, WIDTH))
    y = applied(block, params, many, key=jax.random.key(1), train=True)
    kept = np.abs(y - many).max((1, 2)) > 0
    assert 0 < kept.sum() < 64 * 0.5  # 0.19 of them are expected to lose not both


def test_each_branch_draws_its_own_noise(key):
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
def test_what_does_not_fit_is_told(case, key):
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
def test_options_out_of_range_are_told_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        nn.transformer_block(2, **options)
