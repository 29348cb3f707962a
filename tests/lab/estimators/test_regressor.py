"""Regressor: one or several targets, weights, partial_fit."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from fnn import lab, nn, objective, optim, train
from fnn.errors import CheckpointMismatchError, ShapeError

draw = np.random.default_rng(2)
X = draw.normal(size=(60, 4))
Y = X @ draw.normal(size=(4, 2)) + 0.3 * draw.normal(size=(60, 2)) + 1
SHORT = {"epochs": 3, "batch_size": 20}
FULL = {"epochs": 800, "batch_size": 60}


def linear(outputs, rate=0.05):
    network = nn.chain(nn.dense(outputs))
    return train.recipe(network, optim.adam(rate), loss=objective.squared_error)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 60)])
def test_a_linear_network_is_the_linear_regression_of_scikit_learn(weights):
    ours = lab.Regressor(linear, **FULL).fit(X, Y, weights)
    theirs = LinearRegression().fit(X, Y, weights)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=2e-3)
    np.testing.assert_allclose(ours.score(X, Y), theirs.score(X, Y), atol=1e-4)


@pytest.mark.slow
def test_one_target_has_no_column():
    ours = lab.Regressor(linear, **SHORT).fit(X, Y[:, 0])
    column = lab.Regressor(linear, **SHORT).fit(X, Y[:, :1])
    network = nn.chain(nn.dense(1), nn.reshape(()))
    scalar = lab.Regressor(linear(1).replace(network=network), **SHORT).fit(X, Y[:, 0])
    assert ours.predict(X).shape == (60,) and column.predict(X).shape == (60, 1)
    np.testing.assert_array_equal(ours.predict(X), column.predict(X)[:, 0])
    np.testing.assert_allclose(scalar.predict(X), ours.predict(X), atol=1e-6)


def test_the_network_has_as_many_outputs_as_targets():
    with pytest.raises(ShapeError, match=r"output has shape \(2,\), as these targets need"):
        lab.Regressor(linear(3)).fit(X, Y)


def test_partial_fit_is_an_epoch_of_train_epoch():
    ours = lab.Regressor(linear, batch_size=20)
    data = X.astype(np.float32), Y.astype(np.float32)
    state = train.start(jax.random.key(0), linear(2), (4,))
    for _ in range(2):
        ours.partial_fit(X, Y)
        state, _ = train.epoch(linear(2), state, data, batch_size=20)
    jax.tree.map(np.testing.assert_array_equal, ours.train_state_.params, state.params)
    with pytest.raises(ShapeError, match=r"Regressor y: expected y \(n, 2\), got \(60,\)"):
        ours.partial_fit(X, Y[:, 0])


def test_a_saved_regressor_predicts_as_before(tmp_path):
    for name, y in {"vector": Y[:, 0], "columns": Y}.items():
        ours = lab.Regressor(linear, **SHORT).fit(X, y)
        ours.save(tmp_path / name)
        loaded = lab.Regressor(linear).load(tmp_path / name)
        np.testing.assert_array_equal(loaded.predict(X), ours.predict(X))
    notes = lab.read(tmp_path / "columns").notes
    with lab.checkpoint_store(tmp_path / "wrong") as store:
        store.save(0, {"params": X}, notes=notes | {"targets": {"columns": "2"}})
    with pytest.raises(CheckpointMismatchError, match="expected a number of columns"):
        lab.Regressor(linear).load(tmp_path / "wrong")
