"""lab.optimize_study with a study of a few lines; parity/test_study.py has Optuna's own."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, search, train
from fnn.errors import ArgumentError, ConfigError, FnnError
from fnn.search.execution import seed_key

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
KEY = jax.random.key(0)
RUN = {"epochs": 2, "batch_size": 10, "valid": (X[40:], Y[40:]), "lanes": 2}
SPACE = train.recipe(
    nn.chain(nn.dense(3), nn.tanh(), nn.dense(2)), optim.momentum(search.log_uniform(1e-3, 1))
)


class Trial:
    def __init__(self, number):
        self.number = number
        self.reported = {}

    def suggest_float(self, name, low, high, *, log=False):
        assert (name, low, high, log) == ("optimizer.rate", 1e-3, 1, True)
        return 0.1 * (self.number + 1)

    def report(self, value, step):
        self.reported[step] = value

    def should_prune(self):
        return False


class Study:
    def __init__(self, direction="MINIMIZE"):
        self.direction = SimpleNamespace(name=direction)
        self.trials = []
        self.told = {}

    def ask(self):
        self.trials.append(Trial(len(self.trials)))
        return self.trials[-1]

    def tell(self, trial, value):
        self.told[trial.number] = value


@pytest.mark.slow
def test_each_trial_is_a_run_whose_scores_are_told():
    study = Study()
    lab.optimize_study(study, KEY, SPACE, DATA, **RUN, trials=3)
    assert list(study.told) == [0, 1, 2]
    for trial in study.trials:
        recipe = lab.study_recipe(SPACE, trial)
        assert recipe["optimizer.rate"] == pytest.approx(0.1 * (trial.number + 1))
        run = {name: RUN[name] for name in ("epochs", "batch_size", "valid")}
        history = train.run(seed_key(KEY, 0), recipe, DATA, **run).history
        np.testing.assert_allclose(list(trial.reported.values()), history.valid_loss, rtol=1e-4)
        assert study.told[trial.number] == trial.reported[2]


@pytest.mark.parametrize(
    ("study", "changes", "match"),
    [
        (Study("MAXIMIZE"), {"score": "valid_matrix", "mode": "max"}, "expected one number"),
        (Study(), {"score": "valid_accuracy"}, "study direction: expected maximize"),
        (Study("MAXIMIZE"), {}, "study direction: expected minimize"),
        (3, {}, r"optuna\.create_study"),
        (Study(), {"trials": 0}, "trials"),
        (Study(), {"lanes": 0}, "lanes"),
        (Study(), {"batch_size": 41}, "batch"),
    ],
)
def test_wrong_arguments_raise_before_the_study_is_asked(study, changes, match):
    space = SPACE.replace(
        metrics={"accuracy": objective.accuracy, "matrix": objective.confusion_matrix(2)}
    )
    with pytest.raises(FnnError, match=match) as caught:
        lab.optimize_study(study, KEY, space, DATA, **RUN | {"trials": 2} | changes)
    assert isinstance(caught.value, ConfigError)
    assert not getattr(study, "trials", ())


def test_an_option_that_a_study_does_not_have_raises():
    with pytest.raises(ArgumentError, match=r"optimize_study keep: expected one of study, .*seeds"):
        lab.optimize_study(Study(), KEY, SPACE, DATA, **RUN, trials=2, keep=3)
