"""Lanes divided over devices: each device trains whole runs, and the results stay the same."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from fnn import ensemble, lab, nn, optim, search, train
from fnn.errors import ArgumentError, ConfigError
from fnn.search.lane_devices import free_memory
from fnn.search.lane_map import LaneProgram

draw = np.random.default_rng(0)
X = draw.normal(size=(32, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
NETWORK = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dropout(0.1), nn.dense(2))
SPACE = train.recipe(NETWORK, optim.momentum(search.log_uniform(1e-3, 1.0)))
RECIPE = train.recipe(NETWORK, optim.momentum(0.1))
STOPPING = RECIPE.replace(early_stopping=train.early_stopping(1))
LENGTH = {"epochs": 2, "batch_size": 8}


def mesh_of(*sizes):
    names = ("host", "chip")[: len(sizes)]
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Explicit,) * len(sizes))


@pytest.fixture
def mesh():
    return mesh_of(2, 2)


def random(key, **options):
    given = {"trials": 5, "valid": (X, Y)} | LENGTH | options
    return search.random(key, SPACE, (X, Y), **given)


def assert_close(one, other, atol):
    def compare(one, other):
        if not jax.dtypes.issubdtype(getattr(one, "dtype", float), jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, atol=atol)

    jax.tree.map(compare, one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "atol"), [(1, 0), (2, 1e-6)])
def test_a_search_has_the_results_of_one_device(key, mesh, lanes, atol):
    one = random(key, lanes=lanes)
    many = random(key, lanes=lanes, mesh=mesh)
    assert_close(dict(one.histories), dict(many.histories), atol)
    assert_close(one.best.train_states, many.best.train_states, atol)


@pytest.mark.slow
def test_an_ensemble_has_the_results_of_one_device(key, mesh):
    def trained(**options):
        given = {"n": 3, "valid": (X, Y), "bootstrap": True, "lanes": 1} | LENGTH | options
        return ensemble.train(key, STOPPING, (X, Y), **given)

    one, many = trained(), trained(mesh=mesh)
    assert_close(dict(one.history), dict(many.history), 0)
    outputs = [ensemble.predict(result.members, X) for result in (one, many)]
    np.testing.assert_array_equal(*outputs)


def halving(key, **options):
    found = search.halving(
        key, SPACE, (X, Y), valid=(X, Y), trials=4, epochs=4, batch_size=8, **options
    )
    return found.scores, found.epochs


def folds(key, **options):
    found = search.cross_validate(key, RECIPE, (X, Y), folds=4, **LENGTH, **options)
    return found.scores, found.predictions


def learning_curve(key, **options):
    found = search.learning_curve(
        key, RECIPE, (X, Y), valid=(X, Y), sizes=[8, 16, 32], steps=4, batch_size=8, **options
    )
    return found.scores


def rate_test(key, **options):
    found = search.rate_test(
        key, RECIPE, (X, Y), rates=[0.01, 0.1], steps=4, batch_size=8, **options
    )
    return found.losses


@pytest.mark.slow
@pytest.mark.parametrize("method", [halving, folds, learning_curve, rate_test])
def test_other_methods_have_the_results_of_one_device(key, mesh, method):
    assert_close(method(key, lanes=1), method(key, lanes=1, mesh=mesh), 0)


@pytest.mark.slow
def test_each_device_trains_its_own_lanes_and_exchanges_nothing(key, monkeypatch):
    mesh = mesh_of(4)
    programs = []
    compiled = LaneProgram.compiled

    def spy(self, *args, **options):
        programs.append(compiled(self, *args, **options))
        return programs[-1]

    monkeypatch.setattr(LaneProgram, "compiled", spy)
    random(key, trials=8, lanes=2, mesh=mesh)
    # The last one trains an epoch.
    text = programs[-1].as_text()
    assert "while" in text
    assert not re.search("all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter", text)
    (leaves, states, common), _ = programs[-1].input_shardings
    kernel = jax.tree.leaves(states.params)[0]
    assert kernel.shard_shape((8, 3)) == (2, 3)
    assert leaves[0].shard_shape((8,)) == (2,)
    assert common[0][0].is_fully_replicated


@pytest.mark.slow
def test_a_search_that_was_stopped_is_resumed_on_other_devices(key, mesh, tmp_path):
    def run(devices=None, log=None):
        given = {"trials": 6, "valid": (X, Y), "lanes": 2, "mesh": devices, "log": log} | LENGTH
        saved = {"checkpoints": tmp_path, "resume": True}
        return lab.search(search.random, key, SPACE, (X, Y), show=False, **saved, **given)

    def stop(step, figures):
        if step == 3:
            raise InterruptedError

    # The first two trials are saved.
    with pytest.raises(InterruptedError):
        run(log=stop)
    resumed = run(mesh)
    np.testing.assert_allclose(resumed.scores, random(key, trials=6).scores, atol=1e-6)


def test_devices_of_a_cpu_share_its_memory(mesh, monkeypatch):
    sizes = {"SC_AVPHYS_PAGES": 100, "SC_PAGE_SIZE": 10}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    assert free_memory(None) == 1000
    assert free_memory(mesh) == 250


WRONG = {
    "a layout": (lambda mesh: train.layout(mesh, axis="chip"), "got a Layout"),
    "devices": (lambda mesh: jax.devices(), "mesh: expected a jax.sharding.Mesh"),
    "a number": (lambda mesh: 4, "mesh: expected a jax.sharding.Mesh"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_mesh_raises(key, mesh, name):
    make, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        random(key, mesh=make(mesh))
    with pytest.raises(ConfigError, match=message):
        ensemble.train(key, RECIPE, (X, Y), n=2, mesh=make(mesh), **LENGTH)


def test_a_population_has_no_mesh(key, mesh):
    with pytest.raises(
        ArgumentError, match=r"population mesh: expected one of .*, lanes, .*leave it out"
    ):
        search.population(
            key, SPACE, (X, Y), valid=(X, Y), members=4, interval=1, mesh=mesh, **LENGTH
        )
