"""Stacked arrays are those that each body draws alone."""

import chex
import jax
import jax.numpy as jnp
import pytest

from fnn import nn
from fnn.errors import TreeMismatchError
from fnn.nn.combinators.stacked import init_stacked, stacks

BODY = nn.chain(nn.dense(3), nn.batch_norm())


def test_each_body_draws_as_it_does_alone(key):
    params, state, out_shape = init_stacked(lambda place: BODY, 3, key, (4,))
    for place in range(3):
        alone = BODY.init(jax.random.fold_in(jax.random.clone(key), place), (4,))
        own = jax.tree.map(lambda leaf, place=place: leaf[place], (params["body"], state["body"]))
        chex.assert_trees_all_equal((*own, out_shape), alone)


def test_stacks_of_another_number_are_told(key):
    params, state, _ = init_stacked(lambda place: BODY, 3, key, (4,))
    chex.assert_trees_all_equal(stacks("ensemble", 3, params, state), [params["body"], state["body"]])
    assert stacks("ensemble", 3, {}, {}) == [{}, {}]
    message = r"ensemble body/batch_norm_1/bias: expected a leading axis of 2, got float32\[3,3\]"
    with pytest.raises(TreeMismatchError, match=message):
        stacks("ensemble", 2, params, state)
    with pytest.raises(TreeMismatchError, match=r"got float32\[\]"):
        stacks("ensemble", 2, {"body": {"scale": jnp.ones(())}}, {})
    with pytest.raises(TreeMismatchError, match="ensemble: expected entries among"):
        stacks("ensemble", 3, params["body"], state)
