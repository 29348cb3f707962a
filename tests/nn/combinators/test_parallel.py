"""Tests of parallel layers and of joining layers, against each layer alone and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError, ShapeError

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
LEFT, RIGHT = nn.dense(3), nn.chain(nn.dense(3), nn.tanh())


def joined(join, key, **options):
    """Return the output of both layers in parallel, and the output of each alone."""
    layer = nn.parallel(LEFT, head=RIGHT, join=join, **options)
    params, state, out_shape = layer.init(key, (4,))
    assert params.keys() == {"dense_0", "head"}
    y, _ = layer.apply(params, state, X)
    assert jax.tree.map(lambda y: y.shape[1:], y) == out_shape
    return y, LEFT.apply(params["dense_0"], {}, X)[0], RIGHT.apply(params["head"], {}, X)[0]


def test_each_join_equals_numpy(key):
    y, left, right = joined("concat", key)
    np.testing.assert_array_equal(y, np.concatenate([left, right], 1))
    y, left, right = joined("sum", jax.random.clone(key))
    np.testing.assert_array_equal(y, left + right)
    y, left, right = joined("tuple", jax.random.clone(key))
    np.testing.assert_array_equal(y, (left, right))
    y, left, right = joined("dict", jax.random.clone(key))
    assert y.keys() == {"dense_0", "head"}
    np.testing.assert_array_equal((y["dense_0"], y["head"]), (left, right))


def test_a_token_is_concatenated_before_a_sequence(key):
    layer = nn.parallel(nn.parameter(1, 4, init=nn.normal(1.0)), nn.chain(), axis=1)
    params, state, out_shape = layer.init(key, (5, 4))
    sequence = jnp.ones((3, 5, 4))
    y, _ = layer.apply(params, state, sequence)
    token = np.broadcast_to(params["parameter_0"]["value"], (3, 1, 4))
    np.testing.assert_array_equal(y, np.concatenate([token, sequence], 1))
    assert out_shape == (6, 4)


def test_a_chain_may_continue_after_parallel_layers(key):
    layer = nn.chain(nn.parallel(a=nn.dense(2), b=nn.dense(2), join="tuple"), nn.add(), nn.dense(3))
    assert layer.init(key, (4,))[2] == (3,)


def test_layers_differ_in_their_initial_params(key):
    params, _, _ = nn.parallel(nn.dense(3), nn.dense(3)).init(key, (4,))
    assert not np.any(params["dense_0"]["kernel"] == params["dense_1"]["kernel"])


def test_outputs_that_cannot_be_joined_raise(key):
    with pytest.raises(ShapeError, match="parallel: expected arrays of one shape"):
        nn.parallel(nn.dense(3), nn.dense(2), join="sum").init(key, (4,))
    with pytest.raises(
        ShapeError, match="parallel: expected arrays that differ along axis -1 only"
    ):
        nn.parallel(nn.flatten(), nn.chain()).init(jax.random.clone(key), (4, 4))
    with pytest.raises(ShapeError, match="parallel: expected a tuple of shapes"):
        nn.parallel(nn.parallel(nn.dense(2), join="dict"), nn.dense(2), join="sum").init(
            jax.random.clone(key), (4,)
        )


def test_wrong_arguments_of_parallel_raise():
    for options, message in (
        ({"join": "mean"}, "parallel join: expected one of concat, sum, tuple, dict"),
        ({"axis": 0}, "parallel axis"),
    ):
        with pytest.raises(ConfigError, match=message):
            nn.parallel(LEFT, **options)
    with pytest.raises(ConfigError, match="parallel: expected at least one layer"):
        nn.parallel()
    with pytest.raises(ConfigError, match=r"parallel: expected names .* got dense_0"):
        nn.parallel(LEFT, dense_0=LEFT)


def test_an_error_names_the_branch():
    with pytest.raises(FnnError) as caught:
        nn.parallel(nn.chain(), head=nn.max_pool()).apply({}, {}, X)
    assert caught.value.__notes__[0] == "in layer head: x float32[3,4]"


A, B = np.float32(np.random.default_rng(0).normal(size=(2, 3, 5, 4)))
SHORT = np.float32(np.random.default_rng(1).normal(size=(3, 2, 4)))
NARROW = np.float32(np.random.default_rng(1).normal(size=(3, 5, 1)))

JOINS = {
    "add": (nn.add(), (A, B, A), A + B + A),
    "multiply": (nn.multiply(), (A, B, A), A * B * A),
    "concat": (nn.concat(), (A, NARROW), np.concatenate([A, NARROW], 2)),
    "concat along time": (nn.concat(axis=1), (A, SHORT, B), np.concatenate([A, SHORT, B], 1)),
    "concat from the end": (nn.concat(axis=-2), (A, SHORT), np.concatenate([A, SHORT], 1)),
    "of one": (nn.concat(), (A,), A),
}


@pytest.mark.parametrize("case", JOINS)
def test_a_joining_layer_equals_numpy(case, key):
    layer, arrays, wanted = JOINS[case]
    params, state, out_shape = layer.init(key, tuple(array.shape[1:] for array in arrays))
    y, _ = layer.apply(params, state, tuple(map(jnp.asarray, arrays)))
    np.testing.assert_array_equal(y, wanted)
    assert (params, state, out_shape) == ({}, {}, wanted.shape[1:])


MISFITS = {
    "add": (nn.add(), (A, NARROW), "add: expected arrays of one shape"),
    "multiply": (nn.multiply(), (A, SHORT), "multiply: expected arrays of one shape"),
    "concat": (nn.concat(), (A, SHORT), "concat: expected arrays that differ along axis -1 only"),
    "concat of ranks": (
        nn.concat(),
        (A, A[:, 0]),
        "concat: expected arrays that differ along axis -1 only",
    ),
    "no such axis": (
        nn.concat(axis=3),
        (A, B),
        "concat: expected arrays with an axis 3 besides the batch",
    ),
    "the batch from the end": (
        nn.concat(axis=-3),
        (A, B),
        "concat: expected arrays with an axis -3 besides",
    ),
    "none": (nn.add(), (), "add: expected a tuple"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_arrays_that_cannot_be_joined_raise(case, key):
    layer, arrays, message = MISFITS[case]
    with pytest.raises(ShapeError, match=message):
        layer.init(key, tuple(array.shape[1:] for array in arrays))
    with pytest.raises(ShapeError, match=message):
        layer.apply({}, {}, arrays)


def test_an_input_that_is_not_a_tuple_raises(key):
    with pytest.raises(ShapeError, match="add: expected a tuple of shapes"):
        nn.add().init(key, (5, 4))
    with pytest.raises(
        ShapeError, match=r"add: expected a tuple of arrays \(batch, ...\), got float32\[3,5,4\]"
    ):
        nn.add().apply({}, {}, jnp.asarray(A))


def test_different_batch_sizes_raise():
    with pytest.raises(ShapeError, match="add: expected arrays of one batch size"):
        nn.add().apply({}, {}, (A, A[:1]))


@pytest.mark.parametrize("axis", [0, True, 1.0, None])
def test_an_axis_that_is_not_of_an_example_raises(axis):
    with pytest.raises(ConfigError, match="concat axis"):
        nn.concat(axis=axis)
