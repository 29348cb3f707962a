"""Tests of repeat and ensemble: copies with stacked arrays against the layers alone."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError, ShapeError, TreeMismatchError
from fnn.nn.combinators.repeat import init_stacked, unpack_stacked
from fnn.types import Layer

BODY = nn.chain(nn.dense(3), nn.batch_norm())


def test_stacked_arrays_equal_those_of_each_copy_alone(key):
    params, state, out_shape = init_stacked(lambda index: BODY, 3, key, (4,))
    for index in range(3):
        alone = BODY.init(jax.random.fold_in(jax.random.clone(key), index), (4,))
        arrays = jax.tree.map(
            lambda leaf, index=index: leaf[index], (params["body"], state["body"])
        )
        chex.assert_trees_all_equal((*arrays, out_shape), alone)


def test_stacks_of_another_size_raise(key):
    params, state, _ = init_stacked(lambda index: BODY, 3, key, (4,))
    chex.assert_trees_all_equal(
        unpack_stacked("ensemble", 3, params, state), [params["body"], state["body"]]
    )
    assert unpack_stacked("ensemble", 3, {}, {}) == [{}, {}]
    message = r"ensemble body/batch_norm_1/bias: expected a leading axis of 2, got float32\[3,3\]"
    with pytest.raises(TreeMismatchError, match=message):
        unpack_stacked("ensemble", 2, params, state)
    with pytest.raises(TreeMismatchError, match=r"got float32\[\]"):
        unpack_stacked("ensemble", 2, {"body": {"scale": jnp.ones(())}}, {})
    with pytest.raises(TreeMismatchError, match="ensemble: expected entries among"):
        unpack_stacked("ensemble", 3, params["body"], state)


DRAWN = np.random.default_rng(0).normal(size=(6, 4))
N = 3


def block(drop_rate):
    return nn.residual(nn.chain(nn.dense(4), nn.batch_norm(), nn.tanh(), nn.dropout(drop_rate)))


def unstacked(tree):
    """The arrays of each copy, by the names in a chain of the copies."""
    return {
        f"residual_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], tree["body"]) for i in range(N)
    }


def stacked(tree):
    return {"body": jax.tree.map(lambda *leaves: jnp.stack(leaves), *tree.values())}


def train_step(layer, params, state, key, x):
    """Return, in training, y, the new state, and the gradients of a function of y."""

    def total(params, x):
        y, new_state = layer.apply(params, state, x, key=key, train=True)
        return jnp.sin(y).sum(), (y, new_state)

    slopes, (y, new_state) = jax.grad(total, (0, 1), has_aux=True)(params, x)
    return y, new_state, *slopes


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_repeat_equals_the_chain_of_its_copies():
    repeated = nn.repeat(lambda depth: block(0.3 * depth), N)
    chain = nn.chain(*(block(0.3 * (i + 1) / N) for i in range(N)))
    key, x = jax.random.key(0), jnp.asarray(DRAWN)
    params, state, out_shape = repeated.init(key, (4,))
    wanted = jax.jit(lambda key: chain.init(key, (4,))[:2])(key)
    chex.assert_trees_all_close((unstacked(params), unstacked(state)), wanted, rtol=1e-15)
    assert out_shape == (4,)
    y, new_state, by_params, by_x = jax.jit(partial(train_step, repeated))(params, state, key, x)
    wanted = jax.jit(partial(train_step, chain))(unstacked(params), unstacked(state), key, x)
    wanted = wanted[0], stacked(wanted[1]), stacked(wanted[2]), wanted[3]
    chex.assert_trees_all_close((y, new_state, by_params, by_x), wanted, rtol=1e-12, atol=1e-13)


def test_one_copy_equals_the_layer(key):
    layer = nn.repeat(nn.dense(4), 1)
    x = jnp.float32(DRAWN)
    params, state, _ = layer.init(key, (4,))
    assert params["body"]["kernel"].shape == (1, 4, 4)
    np.testing.assert_allclose(
        layer.apply(params, state, x)[0], x @ params["body"]["kernel"][0], rtol=1e-5, atol=1e-6
    )


def test_a_layer_without_params_is_repeated(key):
    layer = nn.repeat(nn.tanh(), 2)
    assert layer.init(key, (4,)) == ({}, {}, (4,))
    x = jnp.float32(DRAWN)
    np.testing.assert_allclose(layer.apply({}, {}, x)[0], np.tanh(np.tanh(x)), rtol=1e-5)


def test_a_body_may_take_and_return_several_arrays():
    swap = nn.parallel(*(nn.graph(y=(select(index), "x")) for index in (1, 0)), join="tuple")
    y, _ = nn.repeat(swap, 3).apply({}, {}, (jnp.zeros(2), jnp.ones((2, 3))[:, 0]))
    chex.assert_trees_all_equal(y, (jnp.ones(2), jnp.zeros(2)))
    with pytest.raises(ShapeError, match="repeat body: expected to end as it begins"):
        nn.repeat(select(0), 2).apply({}, {}, (jnp.zeros(2), jnp.ones(2)))


def select(index):
    """A layer that returns one of its input arrays."""
    return Layer(nn.tanh().init, lambda params, state, x, **_: (x[index], state))


def test_a_lane_of_vmap_equals_the_repeated_layer_alone(key):
    layer = nn.repeat(block(0.3), N)
    x, keys = jnp.float32(DRAWN), jax.random.split(key, 2)
    lanes = jax.jit(jax.vmap(lambda key: layer.init(key, (4,))[:2]))(keys)

    @jax.jit
    def apply(arrays, key):
        return layer.apply(*arrays, x, key=key, train=True)

    alone = [
        apply(jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes), keys[lane])
        for lane in range(2)
    ]
    chex.assert_trees_all_close(
        jax.jit(jax.vmap(apply))(lanes, keys),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone),
        rtol=1e-5,
    )


def test_the_program_does_not_grow_with_the_depth():
    """The compiled program holds the body once for every n."""
    sizes = []
    for n in (2, 48):
        layer = nn.repeat(lambda depth: block(0.3 * depth), n)
        params, state, _ = jax.eval_shape(
            lambda layer=layer: (*layer.init(jax.random.key(0), (4,))[:2], 0)
        )
        program = jax.jit(partial(train_step, layer)).lower(
            params, state, jax.random.key(0), jnp.float32(DRAWN)
        )
        sizes.append(len(program.as_text().splitlines()))
    assert sizes[1] == sizes[0]


def test_a_body_that_changes_shape_or_dtype_raises(key):
    with pytest.raises(
        ShapeError, match=r"repeat body: expected to end as it begins, in \(4,\), got \(5,\)"
    ):
        nn.repeat(nn.dense(5), 2).init(key, (4,))
    params = {"body": {"kernel": jnp.ones((2, 4, 5)), "bias": jnp.ones((2, 5))}}
    with pytest.raises(ShapeError, match=r"in float32\[6,4\], got float32\[6,5\]"):
        nn.repeat(nn.dense(5), 2).apply(params, {}, jnp.float32(DRAWN))
    narrowing = nn.elementwise(lambda x: x.astype(jnp.bfloat16))
    with pytest.raises(ShapeError, match=r"in float32\[6,4\], got bfloat16\[6,4\]"):
        nn.repeat(narrowing, 2).apply({}, {}, jnp.float32(DRAWN))


def test_an_error_names_the_path_in_the_body(key):
    with pytest.raises(ShapeError) as caught:
        nn.chain(nn.repeat(nn.chain(nn.max_pool()), 2)).init(key, (4,))
    assert caught.value.__notes__[0] == "in layer repeat_0/body/max_pool_0: shape (4,)"
    with pytest.raises(FnnError) as caught:
        nn.chain(nn.repeat(nn.chain(nn.max_pool()), 2)).apply({}, {}, jnp.float32(DRAWN))
    assert caught.value.__notes__[0] == "in layer repeat_0/body/max_pool_0: x float32[6,4]"


def test_params_of_another_depth_raise(key):
    params, state, _ = nn.repeat(nn.dense(4), 2).init(key, (4,))
    with pytest.raises(
        TreeMismatchError,
        match=r"repeat body/bias: expected a leading axis of 3, got float32\[2,4\]",
    ):
        nn.repeat(nn.dense(4), 3).apply(params, state, jnp.float32(DRAWN))


def test_wrong_arguments_of_repeat_raise():
    for n, message in ((0, "repeat n: expected >= 1"), (2.0, "repeat n: expected a whole number")):
        with pytest.raises(ConfigError, match=message):
            nn.repeat(nn.dense(4), n)
    for layer in (None, "dense", lambda depth: nn.relu):
        with pytest.raises(ConfigError, match="repeat body: expected a Layer"):
            nn.repeat(layer, 2)
    assert isinstance(nn.repeat(nn.dense(4), np.int64(2)), Layer)


X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
MEMBER = nn.chain(nn.dense(3), nn.batch_norm(), nn.dropout(0.5))


def test_each_member_equals_the_layer_alone(key):
    layer = nn.ensemble(MEMBER, 3)
    params, state, out_shape = layer.init(key, (4,))
    trained = jax.jit(partial(MEMBER.apply, train=True))
    y, new_state = jax.jit(partial(layer.apply, train=True))(
        params, state, X, key=jax.random.clone(key)
    )
    assert y.shape[1:] == out_shape == (3, 3)
    for index in range(3):
        copy_params, copy_state, new = jax.tree.map(
            lambda leaf, i=index: leaf[i], (params, state, new_state)
        )
        copy_key = jax.random.fold_in(jax.random.clone(key), index)
        alone = trained(copy_params["body"], copy_state["body"], X, key=copy_key)
        chex.assert_trees_all_close((y[:, index], new["body"]), alone, rtol=1e-5, atol=1e-6)


def test_members_differ_in_their_initial_params(key):
    kernels = nn.ensemble(nn.dense(3), 2).init(key, (4,))[0]["body"]["kernel"]
    assert not np.any(kernels[0] == kernels[1])


def test_each_of_several_outputs_has_a_member_axis(key):
    layer = nn.ensemble(nn.parallel(a=nn.dense(3), b=nn.tanh(), join="dict"), 2)
    params, state, out_shape = layer.init(key, (4,))
    y, _ = layer.apply(params, state, X)
    assert out_shape == {"a": (2, 3), "b": (2, 4)} == jax.tree.map(lambda y: y.shape[1:], y)


def test_wrong_arguments_of_ensemble_raise(key):
    with pytest.raises(ConfigError, match="ensemble n: expected >= 1"):
        nn.ensemble(MEMBER, 0)
    with pytest.raises(ConfigError, match="ensemble body: expected a Layer"):
        nn.ensemble(nn.relu, 2)
    with pytest.raises(FnnError) as caught:
        nn.chain(nn.ensemble(nn.max_pool(), 2)).init(key, (4,))
    assert caught.value.__notes__[0] == "in layer ensemble_0/body: shape (4,)"
