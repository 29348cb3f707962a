"""A pretrained layer begins with what it was given, and only with what fits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError, TreeMismatchError

X = np.float32(np.random.default_rng(0).normal(size=(8, 4)))
BODY = nn.chain(stem=nn.dense(5), norm=nn.batch_norm(), inner=nn.residual(nn.chain(nn.dense(5), nn.tanh())))
PARAMS, STATE, _ = BODY.init(jax.random.key(7), (4,))
STATE = jax.tree.map(lambda leaf: leaf + 1, STATE)
BEGUN = nn.pretrained(BODY, PARAMS, STATE)


def test_it_begins_with_what_it_was_given(key):
    chex.assert_trees_all_equal(BEGUN.init(key, (4,)), (PARAMS, STATE, (5,)))
    loaded = nn.pretrained(BODY, *jax.tree.map(np.asarray, (PARAMS, STATE)))
    chex.assert_trees_all_equal(jax.jit(lambda key: loaded.init(key, (4,))[:2])(key), (PARAMS, STATE))
    chex.assert_trees_all_equal(BEGUN.apply(PARAMS, STATE, X), BODY.apply(PARAMS, STATE, X))


def test_transfer_learning_leaves_the_body_as_it_was(key):
    recipe = train.recipe(nn.chain(nn.freeze(BEGUN), nn.dense(3)), optim.adam(1e-2))
    begun = train.start(key, recipe, (4,))
    done, _ = train.step(recipe, begun, (X, np.arange(8) % 3))
    chex.assert_trees_all_equal(done.state["chain_0"]["frozen"], PARAMS)
    assert done.params.keys() == {"dense_1"}


def test_a_part_begins_with_its_share(key):
    params, state, _ = nn.take(BEGUN, "inner/body").init(key, (5,))
    chex.assert_trees_all_equal((params, state), (PARAMS["inner"]["body"], {}))
    chex.assert_trees_all_equal(nn.take(BEGUN, "norm").init(jax.random.clone(key), (5,))[1], STATE["norm"])


def test_a_part_may_be_replaced_and_the_others_keep_theirs(key):
    params, _, out_shape = nn.replace(BEGUN, "inner", nn.dense(2)).init(key, (4,))
    chex.assert_trees_all_equal(params["stem"], PARAMS["stem"])
    assert params["inner"]["kernel"].shape == (5, 2)
    assert out_shape == (2,)


def test_stacked_params_stay_with_the_whole(key):
    layer = nn.repeat(nn.dense(4), 2)
    params, state, _ = layer.init(key, (4,))
    begun = nn.pretrained(layer, params, state)
    chex.assert_trees_all_equal(nn.replace(begun, "body", nn.dense(4)).init(jax.random.key(1), (4,))[0], params)
    with pytest.raises(TreeMismatchError, match="pretrained params"):
        nn.replace(begun, "body", nn.tanh()).init(jax.random.key(1), (4,))


def without(tree, *way):
    return (
        tree | {way[0]: without(tree[way[0]], *way[1:])} if way[1:] else {n: t for n, t in tree.items() if n != way[0]}
    )


WRONG = {
    "another width": (PARAMS, STATE, (3,), r"params stem/kernel: expected float32\[3,5\], got float32\[4,5\]"),
    "missing": (without(PARAMS, "stem", "bias"), STATE, (4,), "pretrained params stem/bias: .* got no such leaf"),
    "extra": (PARAMS | {"head": {"kernel": X}}, STATE, (4,), "pretrained params head/kernel: expected no such leaf"),
    "no state": (PARAMS, {}, (4,), "pretrained state norm/mean: .* got no such leaf"),
    "integers": (jax.tree.map(jnp.int32, PARAMS), STATE, (4,), "pretrained params .*: expected float32.* got int32"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_told_with_its_path(case, key):
    params, state, shape, message = WRONG[case]
    with pytest.raises(TreeMismatchError, match=message):
        nn.pretrained(BODY, params, state).init(key, shape)
    with pytest.raises(ConfigError, match="pretrained layer: expected a Layer"):
        nn.pretrained(nn.relu, {}, {})
