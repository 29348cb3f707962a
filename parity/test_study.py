"""lab.optimize_study: a study of Optuna whose trials train as lanes, also in several processes."""

import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn import lab, nn, optim, search, train
from fnn.errors import ConfigError
from fnn.search.execution import seed_key

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")
State = optuna.trial.TrialState

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
KEY = jax.random.key(0)
RUN = {"epochs": 3, "batch_size": 10, "valid": (X[40:], Y[40:]), "lanes": 4}


def recipe(rate, drop_rate=0.1, units=3):
    network = nn.chain(nn.dense(units), nn.tanh(), nn.dropout(drop_rate), nn.dense(2))
    return train.recipe(network, optim.momentum(rate))


SPACE = recipe(search.log_uniform(1e-3, 1), search.uniform(0, 0.5))


def new_study(**options):
    options = {"sampler": optuna.samplers.RandomSampler(seed=0), **options}
    return optuna.create_study(**options)


def test_the_study_has_the_scores_of_its_recipes():
    study = new_study()
    lab.optimize_study(study, KEY, SPACE, DATA, **RUN, trials=6)
    assert [trial.state for trial in study.trials] == [State.COMPLETE] * 6
    for trial in study.trials:
        own = lab.study_recipe(SPACE, trial)
        assert own["optimizer.rate"] == trial.params["optimizer.rate"]
        key = seed_key(KEY, 0)
        result = train.run(key, own, DATA, epochs=3, batch_size=10, valid=RUN["valid"])
        assert trial.value == pytest.approx(float(result.history.valid_loss[-1]), rel=1e-4)
        values = list(trial.intermediate_values.values())
        np.testing.assert_allclose(values, result.history.valid_loss, rtol=1e-4)


def test_a_pruner_stops_trials_that_lanes_then_leave_out():
    pruner = optuna.pruners.PercentilePruner(50, n_startup_trials=0, n_warmup_steps=0)
    study = new_study(pruner=pruner)
    lab.optimize_study(study, KEY, SPACE, DATA, **RUN, trials=12)
    states = [trial.state for trial in study.trials]
    assert set(states) == {State.COMPLETE, State.PRUNED}
    # Those that continue have the scores of a study without a pruner.
    free = new_study()
    lab.optimize_study(free, KEY, SPACE, DATA, **RUN, trials=12)
    for one, other in zip(study.trials, free.trials, strict=True):
        assert one.params == other.params
        for epoch, value in one.intermediate_values.items():
            assert value == pytest.approx(other.intermediate_values[epoch], rel=1e-4)


def test_structure_normal_and_integer_hyperparameters():
    optimizer = search.choice(optim.sgd(search.uniform(0.1, 1)), optim.momentum(0.1))
    network = nn.chain(
        nn.dense(search.choice(2, 3)),
        nn.leaky_relu(search.normal(0.1, 0.01)),
        nn.dense(2),
    )
    space = train.recipe(network, optimizer)
    study = new_study()
    lab.optimize_study(study, KEY, space, DATA, **RUN, trials=6)
    labels = {trial.params["optimizer"] for trial in study.trials}
    assert labels == {"optim.sgd", "optim.momentum"}
    for trial in study.trials:
        has_rate = trial.params["optimizer"] == "optim.sgd"
        assert ("optimizer.sgd.rate" in trial.params) == has_rate
        assert lab.study_recipe(space, trial)["network.1.slope"] == pytest.approx(0.1, abs=0.1)


def test_diverged_trials_have_failed():
    space = recipe(search.choice(0.1, 3.4e38))
    study = new_study()
    lab.optimize_study(study, KEY, space, DATA, **RUN, trials=6)
    for trial in study.trials:
        has_failed = trial.params["optimizer.rate"] > 1
        assert trial.state == (State.FAIL if has_failed else State.COMPLETE)
    assert {trial.state for trial in study.trials} == {State.COMPLETE, State.FAIL}


def test_wrong_studies_raise_an_error():
    with pytest.raises(ConfigError, match="study direction: expected maximize"):
        lab.optimize_study(new_study(), KEY, SPACE, DATA, **RUN, trials=2, score="valid_accuracy")
    with pytest.raises(ConfigError, match=r"optuna\.create_study"):
        lab.optimize_study(3, KEY, SPACE, DATA, **RUN, trials=2)
    study = new_study()
    with pytest.raises(ConfigError, match="batch"):
        lab.optimize_study(study, KEY, SPACE, DATA, **RUN | {"batch_size": 41}, trials=2)
    assert not study.trials


PROGRAM = """
import sys
sys.path.insert(0, {here})
from test_study import DATA, KEY, RUN, SPACE, journal
from fnn import lab
lab.optimize_study(journal(sys.argv[1]), KEY, SPACE, DATA, **RUN, trials=int(sys.argv[2]))
"""


def journal(path):
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(storage=storage, study_name="shared", load_if_exists=True)


def count_finished(path):
    states = [trial.state for trial in journal(path).trials]
    return sum(state in (State.COMPLETE, State.PRUNED) for state in states)


def test_two_processes_share_a_study_and_one_outlives_the_other(tmp_path):
    program = PROGRAM.format(here=repr(str(Path(__file__).parent)))
    path = tmp_path / "journal.log"
    journal(path)

    def begin(trials):
        return subprocess.Popen([sys.executable, "-c", program, str(path), str(trials)])

    endless = begin(100_000)
    finite = begin(40)
    assert finite.wait() == 0
    while count_finished(path) < 44:
        assert endless.poll() is None
        time.sleep(0.1)
    endless.kill()
    endless.wait()
    before = count_finished(path)
    assert begin(8).wait() == 0
    assert count_finished(path) == before + 8
    assert lab.study_recipe(SPACE, journal(path).best_trial)["optimizer.rate"] > 0
