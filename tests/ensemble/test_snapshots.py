"""Snapshots of a run are the run after fewer epochs, bit for bit."""

import warnings

import jax
import numpy as np
import pytest

from fnn import ensemble, nn, optim, train
from fnn.errors import ConfigError

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(13, 4)).astype(np.float32)
Y = draw.integers(0, 3, 13)
NETWORK = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dropout(0.2), nn.dense(3))
# Three steps an epoch: cycles of two epochs.
RECIPE = train.recipe(NETWORK, optim.momentum(optim.cosine_restarts(0.2, steps=6)))


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_snapshots_are_the_uninterrupted_run_to_the_last_bit(key):
    options = {"batch_size": 4, "valid": (X[:5], Y[:5])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ensemble.snapshots(key, RECIPE, (X, Y), epochs=6, cycles=3, **options)
    whole = train.run(key, RECIPE, (X, Y), epochs=6, **options)
    data = jax.random.key_data
    states = [found.result.train_state, whole.train_state]
    assert_equal(*(state._replace(key=data(state.key)) for state in states))
    assert_equal(dict(found.result.history), dict(whole.history))
    assert found.epochs == (2, 4, 6) and len(found.members) == 3
    part = train.run(key, RECIPE, (X, Y), epochs=2, **options)
    for member, end in ((found.members[0], part), (found.members[2], whole)):
        assert_equal(member.weights, train.weights(RECIPE, end.train_state))
    # The same at given epochs, also where the run continues after the last of them.
    early = ensemble.snapshots(key, RECIPE, (X, Y), epochs=6, at=[2, 4], **options)
    assert early.epochs == (2, 4) and early.result.train_state.step == 18
    assert_equal(early.members.weights, found.members[:2].weights)


def test_a_cycle_that_ends_before_its_lowest_rate_is_named(key):
    late = RECIPE.replace(optimizer=optim.momentum(optim.cosine_restarts(0.2, steps=4)))
    message = r"lowest rate at the end of each cycle, got 0.171 .*cosine_restarts\(peak, steps=6\)"
    with pytest.warns(UserWarning, match=message):
        ensemble.snapshots(key, late, (X, Y), epochs=4, batch_size=4, cycles=2)


def test_lanes_of_snapshots_equal_single_runs(key):
    def run(key):
        return ensemble.snapshots(key, RECIPE, (X, Y), epochs=2, batch_size=4, cycles=2).members

    keys = jax.random.split(key, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = run(keys[1])
    lanes = jax.jit(jax.vmap(run))(keys)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6),
        lanes.weights,
        single.weights,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "snapshots: expected either cycles or at, got neither"),
        ({"cycles": 2, "at": [1]}, "snapshots: expected either cycles or at, got both"),
        ({"cycles": 7}, "snapshots cycles: expected a divisor of the 6 epochs, got 7"),
        ({"cycles": 4}, "snapshots cycles: expected a divisor of the 6 epochs, got 4"),
        ({"cycles": 0}, "snapshots cycles: expected >= 1, got 0"),
        (
            {"at": [2, 2]},
            r"snapshots at: expected rising numbers of epochs from 1 to 6, got \[2, 2",
        ),
        ({"at": [7]}, r"snapshots at: expected rising numbers of epochs from 1 to 6, got \[7\]"),
        ({"at": 3}, "snapshots at: expected numbers of epochs, got 3"),
        ({"at": []}, r"snapshots at: expected numbers of epochs, got \[\]"),
        ({"at": [1.5]}, "snapshots at: expected a whole number, got 1.5"),
    ],
)
def test_wrong_cycles_raise(key, options, message):
    with pytest.raises(ConfigError, match=message):
        ensemble.snapshots(key, RECIPE, (X, Y), epochs=6, batch_size=4, **options)


def test_early_stopping_raises(key):
    recipe = RECIPE.replace(early_stopping=train.early_stopping(1))
    with pytest.raises(ConfigError, match="snapshots early_stopping: expected None, got a cond"):
        ensemble.snapshots(key, recipe, (X, Y), epochs=2, batch_size=4, cycles=1, valid=(X, Y))
