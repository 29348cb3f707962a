"""Tests of chain and residual: composition, names, keys, state and the paths in errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, FnnError, ShapeError, TreeMismatchError
from fnn.types import Layer

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
IMAGES = jnp.float32(np.random.default_rng(0).normal(size=(2, 4, 4, 2)))


def ones(key, shape):
    """A cheap initializer."""
    return jnp.ones(shape)


def spy(calls):
    """A layer that records its keys and returns x."""

    def init(key, shape):
        calls.append(key)
        return {}, {}, shape

    def apply(params, state, x, *, key=None, train=False):
        calls.append((key, train))
        return x, state

    return Layer(init, apply)


def counter():
    """A layer whose state counts the calls in training."""

    def apply(params, state, x, *, key=None, train=False):
        return x, {"count": state["count"] + int(train)}

    return Layer(lambda key, shape: ({}, {"count": jnp.array(0)}, shape), apply, "counter")


def assert_same_keys(got, wanted):
    chex.assert_trees_all_equal(jax.random.key_data(got), jax.random.key_data(wanted))


def test_a_chain_composes_its_layers(key):
    first, second = nn.dense(5), nn.dense(2)
    params = {
        "dense_0": first.init(key, (4,))[0],
        "dense_2": second.init(jax.random.key(1), (5,))[0],
    }
    y, state = nn.chain(first, nn.tanh(), second).apply(params, {}, X)
    hidden = np.tanh(X @ params["dense_0"]["kernel"])
    np.testing.assert_allclose(y, hidden @ params["dense_2"]["kernel"], rtol=1e-5, atol=1e-6)
    assert state == {}


def test_an_empty_chain_is_the_identity(key):
    layer = nn.chain()
    assert layer.init(key, (4,)) == ({}, {}, (4,))
    chex.assert_trees_all_equal(layer.apply({}, {}, X), (X, {}))


def test_params_are_named_by_position_or_keyword(key):
    head = nn.chain(nn.dense(5, kernel_init=ones), out=nn.dense(2, kernel_init=ones))
    layer = nn.chain(
        nn.conv(3, kernel_init=ones), nn.batch_norm(), nn.relu(), nn.flatten(), head=head
    )
    params, state, out_shape = layer.init(key, (4, 4, 2))
    assert list(params) == ["conv_0", "batch_norm_1", "head"]
    assert list(params["head"]) == ["dense_0", "out"]
    assert list(state) == ["batch_norm_1"]
    assert out_shape == (2,)


MAKERS = {
    "dense": nn.dense(2),
    "conv": nn.conv(2),
    "batch_norm": nn.batch_norm(),
    "dropout": nn.dropout(0.5),
    "max_pool": nn.max_pool(),
    "avg_pool": nn.avg_pool(),
    "global_avg_pool": nn.global_avg_pool(),
    "chain": nn.chain(nn.conv(2)),
    "residual": nn.residual(nn.conv(2)),
    **{
        name: getattr(nn, name)()
        for name in ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh")
    },
    "softplus": nn.softplus(),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_positional_layer_is_named_after_its_maker_and_index(maker):
    layer = nn.chain(nn.flatten(), MAKERS[maker])
    with pytest.raises(FnnError) as caught:
        layer.apply({}, {}, jnp.ones((2, 3), jnp.int32), train=True)
    assert caught.value.__notes__[0].startswith(f"in layer {maker}_1")


def test_a_name_equal_to_that_of_a_positional_layer_raises():
    with pytest.raises(ConfigError, match="dense_0"):
        nn.chain(nn.dense(3), dense_0=nn.dense(2))


def test_shapes_flow_through_init(key):
    convs = nn.conv(3, stride=2, kernel_init=ones), nn.max_pool(), nn.flatten()
    layer = nn.chain(*convs, nn.dense(7, kernel_init=ones), nn.dense(2, kernel_init=ones))
    params, state, out_shape = layer.init(key, (8, 8, 1))
    assert params["dense_3"]["kernel"].shape == (2 * 2 * 3, 7)
    assert out_shape == (2,)
    y, _ = jax.jit(layer.apply)(params, state, jnp.ones((5, 8, 8, 1)))
    assert y.shape == (5, 2)


def test_layer_i_gets_the_key_folded_with_i(key):
    inits, applies = [[], []], [[], []]
    nn.chain(spy(inits[0]), named=spy(inits[1])).init(key, (4,))
    nn.chain(spy(applies[0]), named=spy(applies[1])).apply(
        {}, {}, X, key=jax.random.clone(key), train=True
    )
    for index in range(2):
        wanted = jax.random.fold_in(jax.random.clone(key), index)
        assert_same_keys(inits[index][0], wanted)
        assert_same_keys(applies[index][0][0], wanted)


def test_train_and_a_missing_key_reach_every_layer():
    calls = []
    nn.chain(spy(calls), nn.residual(spy(calls), spy(calls))).apply({}, {}, X, train=True)
    nn.chain(spy(calls)).apply({}, {}, X)
    assert calls == [(None, True)] * 3 + [(None, False)]


def test_renaming_a_layer_keeps_its_draws(key):
    plain, _, _ = nn.chain(nn.dense(3), nn.dense(2)).init(key, (4,))
    named, _, _ = nn.chain(nn.dense(3), head=nn.dense(2)).init(jax.random.clone(key), (4,))
    chex.assert_trees_all_equal(named, {"dense_0": plain["dense_0"], "head": plain["dense_1"]})


def test_layers_draw_independently(key):
    params, _, _ = nn.chain(nn.dense(4), nn.dense(4), nn.residual(nn.dense(4), nn.dense(4))).init(
        key, (4,)
    )
    kernels = [leaf.ravel() for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len(np.unique(jnp.concatenate(kernels))) == 4 * 16


def test_dropouts_of_a_chain_are_independent(key):
    layer = nn.chain(nn.dropout(0.5), nn.dropout(0.5))
    y, _ = layer.apply({}, {}, jnp.ones((100, 100)), key=key, train=True)
    assert abs(float((y != 0).mean()) - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5


def test_each_layer_updates_its_state(key):
    layer = nn.chain(
        counter(), nn.relu(), nn.residual(nn.chain(counter(), nn.relu())), last=counter()
    )
    params, state, _ = layer.init(key, (4,))
    state["last"] = {"count": jnp.array(5)}
    _, moved = layer.apply(params, state, X, train=True)
    chex.assert_trees_all_equal_structs(moved, state)
    assert [int(count) for count in jax.tree.leaves(moved)] == [1, 6, 1]
    _, kept = layer.apply(params, moved, X, train=False)
    chex.assert_trees_all_equal(kept, moved)


def test_an_error_names_the_path_and_the_shapes(key):
    body = nn.chain(nn.conv(2), nn.batch_norm())
    layer = nn.chain(nn.conv(2), nn.relu(), nn.relu(), nn.relu(), nn.residual(body))
    params, state, _ = layer.init(key, (4, 4, 2))
    params["residual_4"]["body"]["conv_0"]["kernel"] = jnp.ones((3, 3, 5, 2))
    with pytest.raises(ShapeError) as caught:
        layer.apply(params, state, IMAGES, train=True)
    shapes = "x float32[2,4,4,2], kernel float32[3,3,5,2], bias float32[2]"
    assert [note for note in caught.value.__notes__ if note.startswith("in layer")] == [
        f"in layer residual_4/body/conv_0: {shapes}"
    ]


def test_an_error_in_init_names_the_path_and_the_shape(key):
    layer = nn.chain(nn.flatten(), head=nn.chain(nn.dense(3), nn.max_pool()))
    with pytest.raises(ShapeError) as caught:
        layer.init(key, (4, 4, 2))
    assert caught.value.__notes__[0] == "in layer head/max_pool_1: shape (3,)"


def test_an_error_of_another_library_gets_the_path_too(key):
    layer = nn.chain(nn.relu(), broken=nn.elementwise(lambda x: x @ x))
    with pytest.raises(TypeError) as caught:
        layer.apply({}, {}, X)
    assert "in layer broken: x float32[3,4]" in caught.value.__notes__


def test_an_error_under_jit_names_the_path():
    layer = nn.chain(nn.relu(), nn.max_pool(9))
    with pytest.raises(ShapeError) as caught:
        jax.jit(lambda x: layer.apply({}, {}, x)[0])(IMAGES)
    assert caught.value.__notes__[0] == "in layer max_pool_1: x float32[2,4,4,2]"


def edit_params(params, path, leaf):
    """Return the params with a leaf set at a path, or removed."""
    *way, name = path.split("/")
    params = jax.tree.map(lambda leaf: leaf, params)
    branch = params
    for part in way:
        branch = branch.setdefault(part, {})
    branch.pop(name, None)
    if leaf is not None:
        branch[name] = leaf
    return params


ONE = jnp.ones(1)
EDITS = {
    "missing leaf": (
        "residual_1/body/dense_0/bias",
        None,
        "dense bias: expected shape .* no such leaf",
    ),
    "missing layer": (
        "residual_1/body/dense_0",
        None,
        "dense kernel: expected shape .* no such leaf",
    ),
    "missing branch": ("residual_1", None, "dense kernel: expected shape .* no such leaf"),
    "extra leaf": ("dense_0/scale", ONE, "dense scale: expected no such leaf"),
    "extra layer": ("dense_7/kernel", ONE, r"chain: expected entries among .*dense_7"),
    "extra branch": ("residual_1/head/kernel", ONE, r"residual: expected entries among .*head"),
    "extra deep": ("residual_1/body/conv_0/kernel", ONE, r"chain: expected entries among .*conv_0"),
    "wrong shape": (
        "residual_1/body/dense_0/bias",
        ONE,
        r"dense bias: expected shape \(4,\), got shape \(1,\)",
    ),
    "leaf for a layer": ("dense_0", ONE, "dense: expected a dict of arrays by name"),
    "leaf for a branch": ("residual_1", ONE, "residual: expected entries among"),
}


@pytest.mark.parametrize("case", EDITS)
def test_params_of_another_structure_raise(case, key):
    layer = nn.chain(nn.dense(4), nn.residual(nn.chain(nn.dense(4), nn.relu())))
    params, state, _ = layer.init(key, (4,))
    path, leaf, message = EDITS[case]
    with pytest.raises(TreeMismatchError, match=message):
        layer.apply(edit_params(params, path, leaf), state, X)


def test_state_of_another_structure_raises(key):
    layer = nn.chain(nn.dense(4), nn.batch_norm())
    params, state, _ = layer.init(key, (4,))
    for wrong, message in (
        ({}, "batch_norm mean"),
        (state | {"dense_9": {"mean": ONE}}, "chain: expected entries"),
    ):
        with pytest.raises(TreeMismatchError, match=message):
            layer.apply(params, wrong, X, train=False)


def test_params_for_a_layer_without_params_raise(key):
    layer = nn.chain(first=nn.relu(), last=nn.dense(2))
    params, state, _ = layer.init(key, (4,))
    with pytest.raises(TreeMismatchError, match="kernel"):
        layer.apply(params | {"first": {"kernel": ONE}}, state, X)


@pytest.mark.parametrize("thing", [nn.relu, jax.nn.relu, None, "relu", (1, 2)])
def test_an_argument_of_chain_that_is_not_a_layer_raises(thing):
    advice = r"call the maker, as in nn.relu\(\)"
    if isinstance(thing, tuple):
        advice = r"got a tuple of 2; unpack it, as in nn.chain\(\*layers\)"
    with pytest.raises(ConfigError, match=f"chain .*_0: expected a Layer.*{advice}"):
        nn.chain(thing)
    with pytest.raises(ConfigError, match="chain head: expected a Layer"):
        nn.chain(head=thing)


@pytest.mark.parametrize("key", [0, None, np.array([0, 1], np.uint32)])
def test_a_key_that_is_not_a_typed_key_raises(key):
    with pytest.raises(DTypeError, match=r"key: expected a key from jax.random.key"):
        nn.chain(nn.dense(2)).init(key, (4,))


def test_vmap_over_params_equals_each_network_alone(key):
    layer = nn.chain(nn.dense(4), nn.residual(nn.chain(nn.dense(4), nn.tanh())))
    params = jax.jit(jax.vmap(lambda key: layer.init(key, (4,))[0]))(jax.random.split(key, 3))

    @jax.jit
    def apply(params):
        return layer.apply(params, {}, X)[0]

    alone = [apply(jax.tree.map(lambda leaf, lane=lane: leaf[lane], params)) for lane in range(3)]
    chex.assert_trees_all_close(jax.vmap(apply)(params), jnp.stack(alone), rtol=1e-5, atol=1e-6)


def test_residual_adds_x(key):
    layer = nn.residual(nn.dense(4))
    params, state, out_shape = layer.init(key, (4,))
    assert (params.keys(), state, out_shape) == ({"body"}, {}, (4,))
    y, _ = layer.apply(params, state, X)
    np.testing.assert_allclose(y, X + X @ params["body"]["kernel"], rtol=1e-5, atol=1e-6)


def test_residual_adds_its_shortcut(key):
    layer = nn.residual(nn.dense(5), nn.dense(5, use_bias=False))
    params, state, out_shape = layer.init(key, (4,))
    assert params.keys() == {"body", "shortcut"}
    assert params["shortcut"].keys() == {"kernel"}
    assert out_shape == (5,)
    y, _ = layer.apply(params, state, X)
    wanted = X @ (params["body"]["kernel"] + params["shortcut"]["kernel"])
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shortcut", [None, nn.dense(3)])
def test_branches_with_different_output_shapes_raise(shortcut, key):
    wanted = r"\(4,\)" if shortcut is None else r"\(3,\)"
    with pytest.raises(
        ShapeError, match=rf"residual body: expected to end in {wanted}, got \(5,\)"
    ):
        nn.residual(nn.dense(5), shortcut).init(key, (4,))


def test_branches_that_would_broadcast_raise(key):
    with pytest.raises(
        ShapeError, match=r"residual body: expected to end in \(4, 4, 2\), got \(4, 4, 1\)"
    ):
        nn.residual(nn.conv(1)).init(key, (4, 4, 2))


@pytest.mark.parametrize("thing", [nn.relu, None, "relu", (1, 2)])
def test_an_argument_of_residual_that_is_not_a_layer_raises(thing):
    with pytest.raises(ConfigError, match="residual body: expected a Layer"):
        nn.residual(thing)


@pytest.mark.parametrize("name", ["a/b", "/", ""])
def test_a_name_that_would_break_paths_raises(name):
    dense = nn.dense(2)
    makes = {
        "chain": lambda: nn.chain(a=nn.chain(b=dense), **{name: dense}),
        "parallel": lambda: nn.parallel(**{name: dense}),
        "switch": lambda: nn.switch(**{name: dense}),
        "graph": lambda: nn.graph(**{name: (dense, "x")}),
    }
    for where, make in makes.items():
        with pytest.raises(ConfigError, match=f"{where}: expected names without /, got '{name}'"):
            make()
    with pytest.raises(ConfigError, match="chain: expected names without /"):
        nn.chain(Layer(dense.init, dense.apply, "a/b"))
