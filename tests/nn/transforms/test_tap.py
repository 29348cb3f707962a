"""Taps: outputs of inner layers equal those of the network cut there, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.types import Layer

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
BLOCK = nn.residual(nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dropout(0.3)))
NETWORK = nn.chain(
    nn.dense(4),
    nn.tanh(),
    nn.repeat(BLOCK, 2),
    nn.freeze(nn.chain(nn.dense(4), nn.batch_norm()), "dense_0"),
    nn.cast(nn.chain(nn.dense(4), nn.relu())),
    nn.remat(nn.chain(nn.relu(), nn.dense(4))),
    nn.shared(nn.chain(nn.dense(4), nn.batch_norm()), lambda s: nn.chain(s, nn.tanh(), s)),
    nn.ensemble(nn.chain(nn.dense(2), nn.tanh()), 2),
)


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), a, b))


@pytest.mark.slow
def test_all_taps_change_neither_params_nor_state_nor_output_bitwise(key):
    tapped = nn.tap(NETWORK, "*")
    params, state, out_shape = NETWORK.init(jax.random.clone(key), (4,))
    tapped_params, tapped_state, (y_shape, shapes) = tapped.init(jax.random.clone(key), (4,))
    assert jax.tree.structure((params, state)) == jax.tree.structure((tapped_params, tapped_state))
    assert same((params, state), (tapped_params, tapped_state)) and y_shape == out_shape

    def apply(network, key):
        return network.apply(params, state, X, key=key, train=True)

    for transform in (lambda f: f, lambda f: jax.jit(f, static_argnums=0)):
        y, new_state = transform(apply)(NETWORK, jax.random.clone(key))
        (tapped_y, outputs), tapped_new = transform(apply)(tapped, jax.random.clone(key))
        assert same(y, tapped_y)
        assert jax.tree.structure(new_state) == jax.tree.structure(tapped_new)
        assert same(new_state, tapped_new)
    assert {path: y.shape[1:] for path, y in outputs.items()} == shapes
    assert all(y.shape[0] == 3 for y in outputs.values())
    # Each layer of the network but that of `shared`, which has its two positions instead.
    positions = {"chain_0", "chain_0/dense_0", "chain_0/batch_norm_1", "tanh_1"}
    positions |= {"chain_2", "chain_2/dense_0", "chain_2/batch_norm_1"}
    in_shared = {path for path in outputs if path.startswith("shared_6/")}
    assert in_shared == {"shared_6/body", *(f"shared_6/body/{name}" for name in positions)}
    assert outputs["chain_4/relu_1"].dtype == jnp.bfloat16


def test_an_output_is_that_of_the_network_cut_there(key):
    body = nn.chain(nn.dense(3), nn.tanh(), nn.dense(2))
    network = nn.chain(body=body, head=nn.dense(2))
    params, state, _ = network.init(key, (4,))
    (_, outputs), _ = nn.tap(network, "body/*_0", "body/tanh_1", "head").apply(params, state, X)
    assert list(outputs) == ["body/dense_0", "body/tanh_1", "head"]
    x = X
    for name in ("dense_0", "tanh_1"):
        part = nn.take(network, f"body/{name}")
        x, _ = part.apply(params["body"].get(name, {}), {}, x)
        np.testing.assert_array_equal(outputs[f"body/{name}"], x)
    np.testing.assert_array_equal(outputs["head"], network.apply(params, state, X)[0])


def test_outputs_of_copies_are_in_order_after_the_batch(key):
    network = nn.repeat(nn.chain(nn.dense(4), nn.tanh()), 3)
    params, _, _ = network.init(key, (4,))
    (_, outputs), _ = nn.tap(network, "body/tanh_1").apply(params, {}, X)
    x = X
    for index in range(3):
        own = jax.tree.map(lambda leaf, i=index: leaf[i], params["body"]["dense_0"])
        x = jnp.tanh(nn.dense(4).apply(own, {}, x)[0])
        np.testing.assert_allclose(outputs["body/tanh_1"][:, index], x, rtol=1e-6, atol=1e-7)


def test_a_network_of_tuples_and_dicts_is_tapped(key):
    heads = nn.parallel(a=nn.dense(2), b=nn.dense(3), join="dict")
    network = nn.graph(heads=(heads, "x"), y=(nn.concat(), "heads/a", "heads/b"))
    params, _, _ = network.init(key, (4,))
    (y, outputs), _ = nn.tap(network, "heads").apply(params, {}, X)
    np.testing.assert_array_equal(y, jnp.concatenate(list(outputs["heads"].values()), 1))
    assert nn.tap(network, "heads").init(key, (4,))[2][1] == {"heads": {"a": (2,), "b": (3,)}}


def test_lanes_of_a_vmap_equal_single_calls(key):
    network = nn.repeat(nn.chain(nn.dense(4), nn.dropout(0.5)), 2)
    tapped = nn.tap(network, "body/dropout_1")
    params, _, _ = tapped.init(key, (4,))
    keys = jax.random.split(key, 2)

    def run(key):
        return tapped.apply(params, {}, X, key=key, train=True)[0][1]["body/dropout_1"]

    for lane, own in zip(jax.vmap(run)(keys), keys, strict=True):
        np.testing.assert_allclose(lane, run(own), rtol=1e-6, atol=1e-7)


def test_a_layer_with_a_state_of_its_own_kind_is_tapped(key):
    def apply(params, state, x, *, key=None, train=False):
        return x + 1, state + 1

    counter = Layer(lambda key, shape: ({}, jnp.zeros(()), shape), apply, "counter")
    network = nn.chain(counter, nn.tanh())
    (y, outputs), state = nn.tap(network, "counter_0").apply({}, {"counter_0": jnp.ones(())}, X)
    np.testing.assert_array_equal(y, jnp.tanh(X + 1))
    np.testing.assert_array_equal(outputs["counter_0"], X + 1)
    assert state == {"counter_0": 2}


def test_a_pretrained_network_is_tapped_also_inside_of_copies(key):
    network = nn.chain(nn.repeat(nn.chain(nn.dense(4), nn.batch_norm()), 2), nn.dense(2))
    params, state, _ = network.init(key, (4,))
    given = nn.pretrained(network, params, state)
    tapped = nn.tap(given, "repeat_0/body/dense_0")
    own_params, own_state, (_, shapes) = tapped.init(jax.random.key(1), (4,))
    assert same((params, state), (own_params, own_state))
    assert shapes == {"repeat_0/body/dense_0": (2, 4)}


@pytest.mark.slow
def test_a_training_step_has_taps_and_trains_as_without(key):
    network = nn.chain(nn.dense(4), nn.relu(), nn.dense(2))
    labels = jnp.array([0, 1, 1])

    def loss(outputs, labels):
        y, _ = outputs
        return objective.cross_entropy(y, labels)

    def dead_units(outputs, labels):
        _, inner = outputs
        return (inner["relu_1"] == 0).mean(1)

    plain = train.recipe(network, optim.sgd(0.1), loss=objective.cross_entropy, metrics={})
    tapped = train.recipe(
        nn.tap(network, "relu_1"), optim.sgd(0.1), loss=loss, metrics={"dead": dead_units}
    )
    expected = train.run(jax.random.clone(key), plain, (X, labels), epochs=2, batch_size=3)
    result = train.run(key, tapped, (X, labels), epochs=2, batch_size=3)
    np.testing.assert_array_equal(result.history.loss, expected.history.loss)
    assert same(result.train_state.params, expected.train_state.params)
    assert result.history.dead.shape == (2,) and (result.history.dead > 0).all()


@pytest.mark.parametrize("paths", [(), ("conv_9",), ("dense",), ("",), (3,)])
def test_a_path_without_a_layer_raises_and_lists_the_layers(paths):
    with pytest.raises(
        ConfigError, match=r"tap paths?: expected .*'dense_0', 'tanh_1', 'repeat_2'"
    ):
        nn.tap(NETWORK, *paths)
