"""Tests of the graph against the formula of its nodes."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError, ShapeError

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))


def test_a_graph_equals_its_formula(key):
    layer = nn.graph(
        h1=(nn.dense(4), "x"),
        h2=(nn.tanh(), "h1"),
        h3=(nn.chain(nn.dense(3), nn.sigmoid()), "h1"),
        a=(nn.dense(2), "h3"),
        b=(nn.dense(2), "h2"),
        y=(nn.add(), "a", "b"),
    )
    params, state, out_shape = layer.init(key, (4,))
    weights = {name: params[name]["kernel"] for name in ("h1", "a", "b")} | {
        "h3": params["h3"]["dense_0"]["kernel"]
    }
    assert (params.keys(), state, out_shape) == (weights.keys(), {}, (2,))
    y, _ = layer.apply(params, state, X)
    h1 = X @ weights["h1"]
    h3 = 1 / (1 + np.exp(-(h1 @ weights["h3"])))
    np.testing.assert_allclose(
        y, h3 @ weights["a"] + np.tanh(h1) @ weights["b"], rtol=1e-5, atol=1e-6
    )


def test_a_source_may_be_used_twice_and_may_be_x(key):
    layer = nn.graph(square=(nn.multiply(), "x", "x"), y=(nn.concat(), "square", "x"))
    assert layer.init(key, (4,)) == ({}, {}, (8,))
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], np.concatenate([X * X, X], 1))


def test_the_input_may_be_several_arrays(key):
    layer = nn.graph(both=(nn.add(), "x"), y=(nn.dense(2), "both"))
    params, state, out_shape = layer.init(key, ((4,), (4,)))
    y, _ = layer.apply(params, state, (X, X))
    np.testing.assert_allclose(y, 2 * X @ params["y"]["kernel"], rtol=1e-5, atol=1e-6)
    assert out_shape == (2,)


DENSE = nn.dense(2)
WRONG = {
    "unknown": ({"h": (DENSE, "z")}, r"graph h: expected sources among \['x'\], got 'z'"),
    "later": ({"h": (DENSE, "y"), "y": (DENSE, "h")}, "graph h: expected sources among"),
    "itself": ({"h": (DENSE, "h")}, "graph h: expected sources among"),
    "no source": ({"h": (DENSE,)}, r"graph h: expected \(layer, \*names"),
    "a layer alone": (
        {"h": DENSE},
        r"graph h: expected \(layer, \*names of its sources\), got a layer alone",
    ),
    "no layer": ({"h": ("x", DENSE)}, "graph h: expected a Layer"),
    "a maker": ({"h": (nn.relu, "x")}, "graph h: expected a Layer"),
    "a list": ({"h": [DENSE, "x"]}, r"graph h: expected \(layer"),
    "named x": ({"x": (DENSE, "x")}, "graph x: expected a node of another name"),
    "idle": (
        {"h": (DENSE, "x"), "y": (DENSE, "x")},
        "graph: expected each node but the last to be a source of another, got h",
    ),
    "nothing": ({}, "graph: expected at least one node"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_nodes_raise(case):
    nodes, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        nn.graph(**nodes)


def test_an_error_names_the_node(key):
    layer = nn.graph(h=(nn.dense(3), "x"), y=(nn.add(), "h", "x"))
    with pytest.raises(ShapeError) as caught:
        layer.init(key, (4,))
    assert caught.value.__notes__[0] == "in layer y: shape ((3,), (4,))"
    with pytest.raises(FnnError) as caught:
        layer.apply({"h": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}, {}, X)
    assert caught.value.__notes__[0] == "in layer y: x (float32[3,3], float32[3,4])"
