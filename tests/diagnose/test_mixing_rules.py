"""Independence of the examples of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.diagnose.mixing_rules import mixing_findings

X = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)


def softmax_over_the_batch(x):
    return jax.nn.softmax(x, axis=0)


def swap_rows(x):
    """A reshape that takes the batch for another axis."""
    return x.swapaxes(0, 1).reshape(x.shape)


def own_moments(x):
    return (x - x.mean()) / x.std()


def found(network, inputs=X, prepare=data.to_float):
    recipe = train.recipe(network, optim.sgd(0.1), prepare=prepare)
    shape = jax.tree.map(lambda leaf: leaf.shape[1:], inputs)
    train_state = train.start(jax.random.key(0), recipe, shape)
    findings = mixing_findings(recipe, train_state, inputs, jax.random.key(1))
    return [one.layer for one in findings]


@pytest.mark.slow
def test_networks_of_separate_examples_have_no_finding():
    # In training batch norm mixes by design; this is inference.
    assert found(nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.flatten(), nn.dense(3))) == []
    tokens = np.arange(20, dtype=np.int32).reshape(5, 4)
    text = nn.chain(nn.embed(20, 4), nn.attention(2))
    assert found(text, tokens, prepare=lambda x: x) == []
    pair = {"a": X, "b": X[:, 0]}
    assert found(nn.chain(nn.pick("b"), nn.dense(3)), pair) == []
    assert found(nn.dense(3)) == []


@pytest.mark.parametrize("function", [softmax_over_the_batch, swap_rows])
def test_the_layer_where_examples_mix_is_named(function):
    body = nn.chain(nn.dense(4), nn.elementwise(function), nn.relu())
    network = nn.chain(nn.flatten(), nn.dense(4), body=body, head=nn.dense(3))
    assert found(network) == [f"body/{function.__name__}_1"]


def test_statistics_of_each_batch_in_prepare_are_named():
    assert found(nn.chain(nn.flatten(), nn.dense(3)), prepare=own_moments) == ["prepare"]


def test_a_single_layer_has_no_inner_place():
    mixing = nn.elementwise(lambda x: x - x.mean(0, keepdims=True))
    (finding,) = mixing_findings(
        train.recipe(mixing, optim.sgd(0.1)),
        train.start(jax.random.key(0), train.recipe(mixing, optim.sgd(0.1)), (6, 2)),
        jnp.asarray(X),
        jax.random.key(1),
    )
    assert finding.layer is None and finding.name == "batch_mixing"
