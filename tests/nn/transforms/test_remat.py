"""Tests of rematerialization: equal results, fewer arrays kept."""

from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError
from fnn.nn.flops import count
from fnn.nn.transforms.remat import POLICIES

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
BODY = nn.chain(nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.tanh(), nn.dense(4), nn.tanh())
TOKENS = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
GPT = nn.gpt(12, length=6, width=8, depth=2, heads=2, drop_rate=0.3)
BLOCKS = "body/blocks/body"
IMAGES = jnp.ones((2, 8, 8, 3))
CNN = nn.chain(nn.conv(4), nn.batch_norm(), nn.relu(), nn.conv(4), nn.tanh())
DEEP = nn.chain(*[nn.chain(nn.dense(64), nn.gelu(), nn.dense(64), nn.gelu())] * 4)


def loss(layer, state, params, x, key):
    y, new_state = layer.apply(params, state, x, key=key, train=True)
    return jnp.square(y).sum(), (y, new_state)


slopes = jax.jit(jax.value_and_grad(loss, argnums=2, has_aux=True), static_argnums=0)
slopes_by_x = jax.jit(jax.grad(loss, argnums=3, has_aux=True), static_argnums=0)


@partial(jax.jit, static_argnums=(0, 2))
def start(layer, key, shape):
    return layer.init(key, shape)[:2]


def expect_equal(recomputed, plain, key, shape, x):
    params, state = start(plain, key, shape)
    keys = jax.random.clone(key), jax.random.clone(key)
    got = slopes(recomputed, state, params, x, keys[0])
    chex.assert_trees_all_close(got, slopes(plain, state, params, x, keys[1]), rtol=2e-5, atol=2e-6)


def operations(layer, shape, x):
    """Count the products of a gradient, without those of elementwise functions."""
    params, state = jax.eval_shape(lambda key: layer.init(key, shape)[:2], jax.random.key(0))

    def total(params, state, key):
        return loss(layer, state, params, x, key)[0]

    program = jax.make_jaxpr(jax.grad(total))(params, state, jax.random.key(0))
    return sum(count(program).values())


def temporary_bytes(layer):
    x = jax.ShapeDtypeStruct((4096, 64), jnp.float32)
    params = jax.eval_shape(lambda key: layer.init(key, (64,))[0], jax.random.key(0))
    program = jax.jit(jax.grad(lambda params, x: loss(layer, {}, params, x, None)[0]))
    return program.lower(params, x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("policy", POLICIES)
def test_outputs_state_and_gradients_equal_those_of_the_layer(key, policy):
    layer = nn.remat(BODY, policy=policy)
    params, state = start(BODY, key, (4,))
    chex.assert_trees_all_equal(start(layer, jax.random.clone(key), (4,)), (params, state))
    expect_equal(layer, BODY, jax.random.clone(key), (4,), X)
    chex.assert_trees_all_equal(layer.apply(params, state, X), BODY.apply(params, state, X))


def test_the_gradient_by_the_input_is_that_of_the_layer(key):
    params, state = start(BODY, key, (4,))
    keys = jax.random.clone(key), jax.random.clone(key)
    got, _ = slopes_by_x(nn.remat(BODY), state, params, X, keys[0])
    wanted, _ = slopes_by_x(BODY, state, params, X, keys[1])
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


KEPT = {
    "nothing": {},
    "all kinds": {"policy": "dots_saveable", "save": ("*/mlp",), "offload": ("*/attention",)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", KEPT)
def test_blocks_of_a_scanned_tower_are_recomputed_with_the_same_noise(key, case):
    expect_equal(nn.remat(GPT, BLOCKS, **KEPT[case]), GPT, key, (6,), TOKENS)


def test_lanes_equal_single_runs(key):
    layer = nn.remat(BODY, policy="offload_dot_with_no_batch_dims")
    params, state = start(BODY, key, (4,))
    xs = jnp.stack([X, 2 * X])

    def slope(x):
        return slopes(layer, state, params, x, jax.random.key(1))

    lanes = jax.vmap(slope)(xs)
    for index, x in enumerate(xs):
        lane = jax.tree.map(lambda leaf, i=index: leaf[i], lanes)
        chex.assert_trees_all_close(lane, slope(x), rtol=2e-5, atol=2e-6)


def test_an_empty_batch_passes(key):
    params, state = start(BODY, key, (4,))
    y, _ = nn.remat(BODY).apply(params, state, X[:0])
    assert y.shape == (0, 4)


def test_no_intermediate_is_kept_for_the_backward_pass(key):
    params, state = start(BODY, key, (4,))

    def count_residuals(layer):
        """Count the numbers that are kept for the backward pass."""
        _, pull = jax.vjp(lambda params, x: layer.apply(params, state, x)[0], params, X)
        kept = {id(leaf): jnp.size(leaf) for leaf in jax.tree.leaves(pull)}
        return sum(kept.values())

    given = sum(leaf.size for leaf in jax.tree.leaves((params, state, X)))
    # A conditional keeps its condition, one number.
    assert count_residuals(nn.remat(BODY)) <= given + 1 < count_residuals(BODY)


@pytest.mark.slow
def test_a_chain_needs_less_than_half_of_the_memory():
    plain = temporary_bytes(DEEP)
    assert temporary_bytes(nn.remat(DEEP, "chain_?")) < plain * 0.4
    assert temporary_bytes(nn.remat(DEEP, "chain_?", policy="dots_saveable")) < plain * 0.7


def test_a_policy_decides_which_products_are_computed_again():
    plain = operations(CNN, (8, 8, 3), IMAGES)
    saved = operations(nn.remat(CNN, policy="dots_saveable"), (8, 8, 3), IMAGES)
    assert operations(nn.remat(CNN), (8, 8, 3), IMAGES) > 1.2 * plain
    # Batch norm and the activations are a tenth of the convolutions.
    assert saved < 1.1 * plain
    assert operations(nn.remat(CNN, policy="everything_saveable"), (8, 8, 3), IMAGES) == plain


def test_saved_outputs_are_not_computed_again():
    def own(**options):
        return operations(nn.remat(DEEP, "chain_?", **options), (64,), jnp.ones((8, 64)))

    plain = operations(DEEP, (64,), jnp.ones((8, 64)))
    one = own(save=("*/dense_0",))
    both = own(save=("*/dense_*",))
    # Of three products of a layer one is that of the forward pass.
    assert own() > 1.3 * plain > one > 1.14 * plain > both > plain
    assert own(save=("*/dense_0",), offload=("chain_?/dense_2",)) == pytest.approx(both, rel=0.01)


def test_it_keeps_the_name_and_the_path_in_errors():
    layer = nn.chain(nn.remat(nn.chain(nn.max_pool())))
    with pytest.raises(FnnError) as caught:
        layer.apply({}, {}, X)
    assert caught.value.__notes__[0] == "in layer chain_0/max_pool_0: x float32[5,4]"
    with pytest.raises(ConfigError, match="remat layer: expected a Layer"):
        nn.remat(nn.relu)


def test_parts_are_replaced_within_it(key):
    network = nn.remat(nn.chain(body=BODY, head=nn.dense(3)), "body", save=("body/dense_0",))
    changed = nn.replace(network, "head", nn.dense(2))
    assert changed.init(key, (4,))[2] == (2,)


INVALID_OPTIONS = {
    "no policy": (
        {"policy": "dots"},
        "remat policy: expected one of nothing_saveable, .*got 'dots'",
    ),
    "name of a policy with arguments": (
        {"policy": "save_only_these_names"},
        "remat policy: expected one of",
    ),
    "one text": ({"save": "dense_0"}, "remat save: expected a sequence of paths, got 'dense_0'"),
    "no such layer": ({"save": ("conv_0",)}, "remat save: expected a path among .*dense_0"),
    "both": ({"save": ("dense_0",), "offload": ("dense_*",)}, "remat offload: expected layers"),
}


@pytest.mark.parametrize("case", INVALID_OPTIONS)
def test_a_wrong_option_raises(case):
    options, message = INVALID_OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        nn.remat(BODY, **options)


def test_a_path_without_a_layer_raises():
    with pytest.raises(ConfigError, match=r"remat path: expected a path among .*got 'blocks'"):
        nn.remat(GPT, "blocks")
    with pytest.raises(ConfigError, match="remat save: expected a path among"):
        nn.remat(GPT, BLOCKS, save=("body/norm",))


def test_a_device_without_memory_of_the_host_raises(monkeypatch, key):
    params, state = start(BODY, key, (4,))
    memory = SimpleNamespace(kind="device")
    device = SimpleNamespace(platform="abacus", addressable_memories=lambda: [memory])
    monkeypatch.setattr(jax, "devices", lambda: [device])
    with pytest.raises(ConfigError, match=r"remat offload: .*pinned_host, got abacus with device"):
        nn.remat(BODY, offload=("dense_0",)).apply(params, state, X)
