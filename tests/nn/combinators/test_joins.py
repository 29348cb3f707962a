"""Joins are held to NumPy, and nothing is broadcast."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError

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
def test_arrays_become_one(case, key):
    layer, arrays, wanted = JOINS[case]
    params, state, out_shape = layer.init(key, tuple(array.shape[1:] for array in arrays))
    y, _ = layer.apply(params, state, tuple(map(jnp.asarray, arrays)))
    np.testing.assert_array_equal(y, wanted)
    assert (params, state, out_shape) == ({}, {}, wanted.shape[1:])


MISFITS = {
    "add": (nn.add(), (A, NARROW), "add: expected arrays of one shape"),
    "multiply": (nn.multiply(), (A, SHORT), "multiply: expected arrays of one shape"),
    "concat": (nn.concat(), (A, SHORT), "concat: expected arrays that differ along axis -1 only"),
    "concat of ranks": (nn.concat(), (A, A[:, 0]), "concat: expected arrays that differ along axis -1 only"),
    "no such axis": (nn.concat(axis=3), (A, B), "concat: expected arrays with an axis 3 besides the batch"),
    "the batch from the end": (nn.concat(axis=-3), (A, B), "concat: expected arrays with an axis -3 besides"),
    "none": (nn.add(), (), "add: expected a tuple"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_arrays_that_do_not_fit_are_told(case, key):
    layer, arrays, message = MISFITS[case]
    with pytest.raises(ShapeError, match=message):
        layer.init(key, tuple(array.shape[1:] for array in arrays))
    with pytest.raises(ShapeError, match=message):
        layer.apply({}, {}, arrays)


def test_what_is_no_tuple_is_told(key):
    with pytest.raises(ShapeError, match="add: expected a tuple of shapes"):
        nn.add().init(key, (5, 4))
    with pytest.raises(ShapeError, match=r"add: expected a tuple of arrays \(batch, ...\), got float32\[3,5,4\]"):
        nn.add().apply({}, {}, jnp.asarray(A))


def test_batches_of_other_sizes_are_told():
    with pytest.raises(ShapeError, match="add: expected arrays of one batch size"):
        nn.add().apply({}, {}, (A, A[:1]))


@pytest.mark.parametrize("axis", [0, True, 1.0, None])
def test_an_axis_that_is_none_of_an_example_is_told(axis):
    with pytest.raises(ConfigError, match="concat axis"):
        nn.concat(axis=axis)
