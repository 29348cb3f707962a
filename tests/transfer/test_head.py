import jax
import jax.numpy as jnp
import pytest

from fnn import nn
from fnn.errors import ConfigError
from fnn.transfer.head import body_of, expect_head, find_head, last_part, set_at
from fnn.types import Weights


def abstract(network, shape):
    """The shapes of the weights of a network."""
    return Weights(*jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0)))


body = nn.chain(nn.dense(4), nn.relu())
network = nn.chain(body=body, head=nn.dense(3))


HEADS = [
    (network, (5,), "head"),
    (nn.chain(nn.dense(4), nn.chain(nn.relu(), nn.dense(3))), (5,), "chain_1/dense_1"),
    (nn.resnet(18, 7, width=4), (32, 32, 3), "head"),
    (nn.vit(4, 7, width=8, depth=2, heads=2, size=8), (8, 8, 3), "head"),
    (nn.cast(network, jnp.bfloat16), (5,), "head"),
    (nn.inference(network, "body"), (5,), "head"),
    (nn.freeze(network), (5,), "head"),
    # Networks without a head: their output are the features.
    (body, (5,), None),
    (nn.chain(nn.dense(5), nn.residual(nn.dense(5))), (5,), None),
    (nn.chain(nn.dense(4), nn.repeat(nn.dense(4), 2)), (5,), None),
    (nn.chain(nn.dense(4), nn.parallel(a=nn.dense(2), b=nn.dense(2), axis=1)), (5,), None),
    (nn.chain(nn.conv(4), nn.global_avg_pool()), (8, 8, 1), None),
]


@pytest.mark.parametrize(("network", "shape", "head"), HEADS)
def test_the_head_is_the_dense_layer_whose_output_is_that_of_the_network(network, shape, head):
    assert find_head("where", network, abstract(network, shape)) == head


def test_the_output_of_a_graph_names_its_last_part():
    graph = nn.graph(a=(nn.dense(3), "x"), y=(nn.add(), "a", "x"), head=(nn.dense(2), "y"))
    assert last_part(graph) == "head"


def test_a_network_that_hides_its_last_layer_needs_a_path():
    hidden = nn.freeze(network, "body")
    with pytest.raises(ConfigError, match=r"where network: .*; give the path of the layer"):
        find_head("where", hidden, abstract(hidden, (5,)))
    assert expect_head("where", hidden, abstract(hidden, (5,)), "head") == "head"
    with pytest.raises(ConfigError, match="one that ends in a dense layer"):
        expect_head("where", body, abstract(body, (5,)), None)


def test_a_single_layer_has_no_path_for_a_head():
    layer = nn.dense(3)
    with pytest.raises(ConfigError, match=r"a network with parts, got a single layer, dense; make"):
        expect_head("head_only", layer, abstract(layer, (4,)), None)


def test_the_body_returns_the_input_of_the_head(key):
    params, state, _ = network.init(key, (5,))
    x = jax.random.normal(jax.random.key(1), (2, 5))
    y, _ = body_of(network, "head").apply(params, state, x)
    expected, _ = body.apply(params["body"], {}, x)
    assert (y == expected).all()


def test_a_subtree_is_replaced_at_its_path():
    tree = {"a": {"b": 1, "c": 2}}
    assert set_at(tree, "a/b", 3) == {"a": {"b": 3, "c": 2}}
    assert tree == {"a": {"b": 1, "c": 2}}
