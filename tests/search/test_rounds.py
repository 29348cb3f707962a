"""The program of a population: lanes in parts, and one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.search.rounds import map_lanes

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
RUN = {"batch_size": 10, "valid": (X[40:], Y[40:])}
EVOLVE = RUN | {"epochs": 6, "interval": 1, "members": 4, "quantile": 0.5, "lanes": 4}
NETWORK = nn.chain(nn.dense(3), nn.tanh(), nn.dense(2))
SPACE = train.recipe(NETWORK, optim.adam(search.log_uniform(1e-3, 1)))
KEY = jax.random.key(0)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_lanes_in_parts_are_lanes(size):
    lanes = {"x": jnp.arange(6.0), "y": jnp.ones((6, 2))}
    found = map_lanes(lambda lane: lane["x"] * lane["y"], size)(lanes)
    np.testing.assert_array_equal(found, np.arange(6.0)[:, None] * np.ones(2))


@pytest.mark.slow
def test_numbers_of_a_search_and_a_replay_compile_nothing_again():
    traces = []

    def prepare(x):
        traces.append(1)
        return x

    def evolve_with(key, decay, **options):
        optimizer = optim.adamw(search.log_uniform(1e-3, 1), weight_decay=decay)
        space = SPACE.replace(optimizer=optimizer, prepare=prepare)
        trials = search.population(key, space, DATA, **(EVOLVE | options))
        search.replay(key, space, trials.schedule(0), DATA, **RUN)

    evolve_with(KEY, 0.1)
    count = len(traces)
    assert count > 0
    evolve_with(jax.random.key(1), 0.2, quantile=0.25, resample=0.5)
    assert len(traces) == count
