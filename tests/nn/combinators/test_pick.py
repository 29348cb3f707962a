"""Tests of parts of several inputs and outputs: in a layer, in graphs, in errors and summaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

DRAW = np.random.default_rng(0)
X = jnp.float32(DRAW.normal(size=(3, 4)))
TOKENS = jnp.array([[1, 2, 0], [3, 0, 0], [1, 1, 1]])
LENGTHS = jnp.array([2, 1, 3])
HEADS = nn.parallel(
    mean=nn.dense(2), rest=nn.parallel(nn.tanh(), nn.relu(), join="tuple"), join="dict"
)


@pytest.mark.parametrize("path", ["mean", "rest/1", "rest"])
def test_a_part_is_that_of_the_output(key, path):
    params, state, shapes = HEADS.init(key, (4,))
    outputs, _ = HEADS.apply(params, state, X)
    part = nn.pick(path)
    names = path.split("/")
    expected = outputs[names[0]] if len(names) == 1 else outputs["rest"][1]
    y, _ = part.apply({}, {}, outputs)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), y, expected))
    _, _, out_shape = part.init(key, shapes)
    assert out_shape == jax.tree.map(lambda array: array.shape[1:], expected)


def test_an_index_takes_from_a_tuple(key):
    assert nn.pick(1).init(key, ((4,), (2, 3)))[2] == (2, 3)
    assert nn.pick(0).apply({}, {}, (X, TOKENS))[0] is X


WRONG = {
    "an unknown name": ("mode", {"mean": X, "std": X}, "a part among mean, std, got mode"),
    "an index past the end": (2, (X, X), "a part among 0, 1, got 2"),
    "one array": ("mean", X, r"a tuple or dict with a part mean, got float32\[3,4\]"),
    "too deep": (
        "mean/0",
        {"mean": X},
        r"a tuple or dict with a part 0, got float32\[3,4\]; choose one of \{mean: ",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_part_that_is_not_there_raises(key, case):
    path, x, message = WRONG[case]
    with pytest.raises(ShapeError, match=f"pick: expected {message}"):
        nn.pick(path).apply({}, {}, x)
    with pytest.raises(ShapeError, match="pick: expected a"):
        nn.pick(path).init(key, jax.tree.map(lambda array: array.shape[1:], x))


@pytest.mark.parametrize("path", ["", "mean/", -1, True, 1.0])
def test_a_wrong_path_raises(path):
    with pytest.raises(ConfigError, match="pick path"):
        nn.pick(path)


def test_a_graph_takes_parts_of_inputs_and_nodes(key):
    network = nn.graph(
        vectors=(nn.embed(5, 4), "x/tokens"),
        words=(nn.lstm(3, last=True), "vectors", "x/lengths"),
        heads=(HEADS, "x/numbers"),
        joined=(nn.concat(), "words", "heads/rest/0"),
        y=(nn.chain(), {"all": "joined", "mean": "heads/mean"}),
    )
    shape = {"tokens": (3,), "lengths": (), "numbers": (4,)}
    x = {"tokens": TOKENS, "lengths": LENGTHS, "numbers": X}
    params, state, out_shape = network.init(key, shape)
    y, _ = network.apply(params, state, x)
    assert out_shape == {"all": (7,), "mean": (2,)}
    np.testing.assert_array_equal(y["all"][:, 3:], jnp.tanh(X))
    np.testing.assert_array_equal(y["mean"], HEADS.apply(params["heads"], {}, X)[0]["mean"])
    dtypes = {"tokens": jnp.int32, "lengths": jnp.int32, "numbers": jnp.float32}
    summary = nn.summary(network, shape, dtype=dtypes)
    assert summary.total.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_a_part_that_a_node_lacks_names_the_node(key):
    network = nn.graph(heads=(HEADS, "x"), y=(nn.tanh(), "heads/mode"))
    with pytest.raises(
        ShapeError, match="graph y: heads: expected a part among mean, rest, got mode"
    ):
        network.init(key, (4,))


@pytest.mark.parametrize("source", ["x//a", "h/", 3, {}, {"a": 1}])
def test_a_wrong_source_raises(source):
    with pytest.raises(ConfigError, match="graph y: expected names"):
        nn.graph(h=(nn.tanh(), "x"), y=(nn.tanh(), source))


def test_a_residual_adds_tuples_and_dicts_array_by_array(key):
    body = nn.graph(a=(nn.tanh(), "x/a"), y=(nn.chain(), {"a": "a", "b": "x/b"}))
    x = {"a": X, "b": 2 * X}
    y, _ = nn.residual(body).apply({}, {}, x)
    np.testing.assert_array_equal(y["a"], jnp.tanh(X) + X)
    np.testing.assert_array_equal(y["b"], 4 * X)


ONE_ARRAY = {
    "embed": nn.embed(5, 4),
    "dense": nn.dense(2),
    "conv": nn.conv(2),
    "flatten": nn.flatten(),
    "tanh": nn.tanh(),
    "layer_norm": nn.layer_norm(),
    "dropout": nn.dropout(0.1),
    "global_avg_pool": nn.global_avg_pool(),
}


@pytest.mark.parametrize("name", ONE_ARRAY)
def test_a_layer_of_one_array_refuses_several_and_advises(key, name):
    layer = nn.chain(ONE_ARRAY[name])
    for shape in (((3, 3, 2), ()), {"a": (3, 3, 2)}):
        with pytest.raises(
            ShapeError, match=r"the shape of one array, got .*; take one, as by nn.pick"
        ):
            layer.init(key, shape)
    with pytest.raises(
        DTypeError, match=r"one array, got tuple \(float32\[3,4\], int32\[3\]\); take"
    ):
        ONE_ARRAY[name].apply(*_trees(name, key), (X, LENGTHS), train=False)


def _trees(name, key):
    params, state, _ = ONE_ARRAY[name].init(key, (3, 3, 2))
    return params, state


def test_joins_of_a_dict_describe_it_and_print_no_arrays():
    with pytest.raises(ShapeError, match=r"got \{a: float32\[3,4\]\}; take them from nn.graph"):
        nn.concat().apply({}, {}, {"a": X})
