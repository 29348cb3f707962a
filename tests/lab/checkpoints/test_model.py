"""Models as one checkpoint: another process predicts the same without the code of the network."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from fnn import data, ensemble, lab, nn, optim, train
from fnn.errors import CheckpointMismatchError, ConfigError

X = np.random.default_rng(0).integers(0, 256, (12, 6), np.uint8)
Y = np.arange(12) % 3
RECIPE = train.recipe(
    nn.chain(nn.dense(5), nn.batch_norm(), nn.relu(), nn.dense(3)),
    optim.ema(optim.adam(1e-2), 0.9),
    prepare=data.standardize(X),
)
PREDICT = """
import sys
import numpy as np
from fnn import ensemble, lab, train
recipe, weights = lab.load_model(sys.argv[1] + "/one")
members = lab.load_model(sys.argv[1] + "/several")["members"]
x = np.load(sys.argv[1] + "/x.npy")
np.save(sys.argv[1] + "/one.npy", train.predict(recipe, weights, x))
np.save(sys.argv[1] + "/several.npy", ensemble.predict(members, x))
"""


def states():
    keys = jax.random.split(jax.random.key(0), 3)
    return [train.run(key, RECIPE, (X, Y), epochs=2, batch_size=4).train_state for key in keys]


@pytest.mark.slow
def test_another_process_predicts_the_same(tmp_path):
    trained = states()
    weights = train.weights(RECIPE, trained[0])
    members = ensemble.collect(RECIPE, trained)
    lab.save_model(tmp_path / "one", (RECIPE, weights))
    lab.save_model(tmp_path / "several", {"members": members, "classes": ["a", "b", "c"]})
    np.save(tmp_path / "x.npy", X)
    command = [sys.executable, "-c", PREDICT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    expected = train.predict(RECIPE, weights, X)
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), expected, rtol=1e-5, atol=1e-6)
    several = ensemble.predict(members, X)
    np.testing.assert_allclose(np.load(tmp_path / "several.npy"), several, rtol=1e-5, atol=1e-6)


def test_a_loaded_recipe_trains_on(tmp_path, key):
    lab.save_model(tmp_path, RECIPE)
    recipe = lab.load_model(tmp_path)
    assert recipe == RECIPE
    first = train.run(key, RECIPE, (X, Y), epochs=1, batch_size=4)
    second = train.run(key, recipe, (X, Y), epochs=1, batch_size=4)
    jax.tree.map(np.testing.assert_array_equal, first.history, second.history)


def test_other_checkpoints_and_models_raise(tmp_path):
    lab.save(tmp_path / "weights", {"w": np.ones(2)})
    with pytest.raises(CheckpointMismatchError, match=r"expected a model.*lab\.save_model"):
        lab.load_model(tmp_path / "weights")
    with pytest.raises(ConfigError, match=r"model\.prepare: expected a value of a maker"):
        lab.save_model(tmp_path / "model", train.recipe(nn.dense(2), prepare=lambda x: x))
    assert not (tmp_path / "model").exists()
    with pytest.raises(ConfigError, match="nothing"):
        lab.load_model(tmp_path / "nothing")
