"""Layers without params and state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import TreeMismatchError
from fnn.nn.core.stateless import stateless

double = stateless("double", lambda shape: (*shape, 2), lambda x: jnp.stack([x, x], -1))


def test_layer_computes_its_function():
    params, state, shape = double.init(jax.random.key(0), (3,))
    y, after = double.apply(params, state, jnp.arange(3.0)[None])
    assert (params, state, after, shape) == ({}, {}, {}, (3, 2))
    np.testing.assert_array_equal(y, [[[0, 0], [1, 1], [2, 2]]])


def test_chain_uses_its_name():
    with pytest.raises(TreeMismatchError) as caught:
        nn.chain(double).apply({"double_0": {"kernel": jnp.ones(2)}}, {}, jnp.ones((1, 3)))
    assert caught.value.__notes__ == ["in layer double_0: x float32[1,3], kernel float32[2]"]
    assert str(caught.value).startswith("double kernel: expected no such leaf")
