"""Decisions to stop trials, against the pruners of Optuna on random scores."""

import numpy as np
import pytest

from fnn import search

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")
MODES = {"min": "minimize", "max": "maximize"}


def finish(study, values):
    study.add_trial(
        optuna.trial.create_trial(
            value=float(values[-1]), intermediate_values=dict(enumerate(map(float, values)))
        )
    )


def report(study, values):
    """A trial with these values, and whether the study's pruner stops it."""
    trial = study.ask()
    for step, value in enumerate(values):
        trial.report(float(value), step)
    return trial, trial.should_prune()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("percentile", [25.0, 50.0])
def test_percentile(mode, percentile):
    draw = np.random.default_rng(0)
    decisions = []
    for _ in range(50):
        finished = draw.integers(0, 9, (6, 4)).astype(float)
        scores = draw.integers(0, 9, draw.integers(1, 5)).astype(float)
        pruner = optuna.pruners.PercentilePruner(percentile, n_warmup_steps=1)
        study = optuna.create_study(direction=MODES[mode], pruner=pruner)
        for row in finished:
            finish(study, row)
        _, stops = report(study, scores)
        options = {"percentile": percentile, "warmup": 1, "mode": mode}
        assert search.percentile_stops(scores, finished, **options) == stops
        decisions.append(stops)
    assert 0 < sum(decisions) < len(decisions)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("eta", [2, 4])
def test_asynchronous_halving(mode, eta):
    draw = np.random.default_rng(1)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=eta)
    study = optuna.create_study(direction=MODES[mode], pruner=pruner)
    rungs = [[], []]
    decisions = []
    for score in draw.integers(0, 20, 60).astype(float):
        trial = study.ask()
        trial.report(score, 1)
        stops = trial.should_prune()
        assert search.halving_stops(score, rungs[0], eta=eta, mode=mode) == stops
        rungs[0].append(score)
        decisions.append(stops)
        if not stops:
            trial.report(score + 1, eta)
            assert search.halving_stops(score + 1, rungs[1], eta=eta, mode=mode) == (
                trial.should_prune()
            )
            rungs[1].append(score + 1)
    assert 0 < sum(decisions) < len(decisions)


@pytest.mark.parametrize("mode", MODES)
def test_wilcoxon(mode):
    draw = np.random.default_rng(2)
    sign = 1 if mode == "min" else -1
    decisions = []
    for _ in range(40):
        best = draw.normal(size=8)
        scores = best + sign * draw.normal(0.6, 1, size=8)
        scores = scores[: draw.integers(1, 9)]
        study = optuna.create_study(
            direction=MODES[mode], pruner=optuna.pruners.WilcoxonPruner(p_threshold=0.1)
        )
        finish(study, best)
        _, stops = report(study, scores)
        assert search.wilcoxon_stops(scores, best, mode=mode) == stops
        decisions.append(stops)
    assert 0 < sum(decisions) < len(decisions)


@pytest.mark.parametrize("mode", MODES)
def test_patience(mode):
    draw = np.random.default_rng(3)
    decisions = []
    for _ in range(60):
        scores = draw.integers(0, 6, draw.integers(1, 8)).astype(float)
        patience = int(draw.integers(0, 4))
        pruner = optuna.pruners.PatientPruner(None, patience, min_delta=1.0)
        study = optuna.create_study(direction=MODES[mode], pruner=pruner)
        _, stops = report(study, scores)
        assert search.patience_stops(scores, patience, min_delta=1.0, mode=mode) == stops
        decisions.append(stops)
    assert 0 < sum(decisions) < len(decisions)
