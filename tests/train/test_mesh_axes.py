"""Members of an ensemble that are spread over devices by shard_map train as under vmap alone."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from fnn import nn, optim, train

draw = np.random.default_rng(0)
X = draw.normal(size=(32, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
KEYS = jax.random.split(jax.random.key(0), 4)


def spread(function):
    mesh = jax.make_mesh((2,), ("member",), axis_types=(AxisType.Auto,))
    mapped = jax.vmap(function)
    return jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=P("member"), out_specs=P("member")))


@pytest.mark.slow
def test_members_on_several_devices_are_lanes_of_vmap():
    """Biases begin at zeros, which are the same on all devices; their gradients must not be."""
    network = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dropout(0.1), nn.dense(2))
    optimizer = optim.ema(optim.momentum(optim.one_cycle(0.1, steps=4)), 0.9)
    recipe = train.recipe(network, optimizer, early_stopping=train.early_stopping(1))

    def member(key):
        result = train.run(key, recipe, (X, Y), valid=(X, Y), epochs=2, batch_size=16)
        return result.train_state.params, result.history.valid_loss

    wanted, got = jax.jit(jax.vmap(member))(KEYS), spread(member)(KEYS)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_recipes_on_several_devices_are_lanes_of_vmap():
    rates = [0.01, 0.03, 0.1, 0.3]
    recipes = train.stack([train.recipe(nn.dense(2), optim.sgd(rate)) for rate in rates])

    def trained(recipe):
        train_state = train.start(jax.random.key(0), recipe, (3,))
        train_state, _ = train.step(recipe, train_state, (X, Y))
        return train_state.params

    wanted, got = jax.vmap(trained)(recipes), spread(trained)(recipes)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
