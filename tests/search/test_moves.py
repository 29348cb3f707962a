"""The moves of a population: which members copy, and how hyperparameters change."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, search, train
from fnn.search.moves import Axis, Moves, Ranges, encode_space, evolve, perturb
from fnn.search.space import as_space

NETWORK = nn.chain(nn.dense(3), nn.dropout(search.uniform(0, 0.5)), nn.dense(2))
SPACE = train.recipe(NETWORK, optim.adam(search.log_uniform(1e-3, 1)))


def moves_of(members, parent=0.0, change=0.2):
    shape = (members, 1)
    return Moves(
        np.full(members, parent, np.float32),
        np.full(shape, 9, np.float32),
        np.zeros(shape, bool),
        np.full(shape, change, np.float32),
    )


FREE = Ranges(*(np.array([one], np.float32) for one in (0, 100, np.nan)), np.array([False]))


@pytest.mark.parametrize(
    ("cost", "count", "parent", "expected"),
    [
        ([1, 2, 3, 4], 1, 0.9, [0, 1, 2, 0]),
        ([4, 3, 2, 1], 2, 0.0, [3, 3, 2, 3]),
        ([4, 3, 2, 1], 2, 0.9, [2, 2, 2, 3]),
        ([1, 1], 1, 0.0, [0, 0]),  # a tie: the later one copies
        ([np.inf, 1, np.inf, np.inf], 1, 0.9, [1, 1, 1, 1]),
        ([np.inf] * 3, 1, 0.9, [0, 1, 2]),
    ],
)
def test_the_worst_copy_the_best(cost, count, parent, expected):
    values = np.arange(1.0, len(cost) + 1, dtype=np.float32)[:, None]
    cost = jnp.array(cost, jnp.float32)
    parents, changed = evolve(values, cost, moves_of(len(cost), parent), count, FREE)
    assert parents.tolist() == expected
    is_copy = np.array(expected) != np.arange(len(cost))
    np.testing.assert_allclose(
        changed[:, 0], np.where(is_copy, 1.2 * values[expected, 0], values[:, 0]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("distribution", "value", "up", "down"),
    [
        (search.log_uniform(0.1, 1), 0.5, 0.6, 0.4),
        (search.uniform(0, 1), 0.9, 1.0, 0.72),
        (search.integer(1, 20), 10, 12, 8),
        (search.integer(1, 20), 2, 3, 1),
        (search.log_integer(1, 3), 3, 3, 2),
        (search.choice(4.0, 1.0, 2.0), 1.0, 2.0, 4.0),
        (search.normal(0.0, 2.0), 1.0, 1.4, 0.6),
        (search.uniform(-1, 1), 0.0, 0.2 * 0.6826895, -0.2 * 0.6826895),
    ],
)
def test_a_change_is_in_the_scale_of_the_distribution(distribution, value, up, down):
    axis = Axis(distribution)
    low, high, unit, is_whole = axis.range
    ranges = Ranges(
        *(np.array([one], np.float32) for one in (low, high, unit)), np.array([is_whole])
    )
    encoded = axis.encode("x", [value])[:, None]
    for change, expected in ((0.2, up), (-0.2, down)):
        moved = perturb(encoded, np.full((1, 1), change, np.float32), ranges)
        assert float(axis.decode(np.asarray(moved))[0, 0]) == pytest.approx(expected, rel=1e-5)


def test_encoded_quantiles_are_those_of_the_space():
    space = as_space("test", SPACE)
    points = np.random.default_rng(0).random((5, 2))
    encoded = encode_space(space).quantiles(points)
    for point, row in zip(points, encoded, strict=True):
        np.testing.assert_allclose(row, list(space.draw(point)[1].values()), rtol=1e-6)
