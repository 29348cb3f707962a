"""Short runs: their verdicts on hand-made curves, and one program for all."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.diagnose import lane_runs, short_runs
from fnn.diagnose.heads import heads
from fnn.diagnose.lane_runs import Curves
from fnn.diagnose.short_runs import baseline_findings, short_run_findings, verdict
from fnn.objective import cross_entropy

draw = np.random.default_rng(0)
RATES = np.array([1e-3, 1e-2])


def judged(losses, errors, kind="labels", is_known=True):
    curves = Curves(np.array(losses, float), np.array(errors, float))
    return [(one.name, one.severity) for one in verdict(curves, RATES, kind, is_known)]


NAN = [np.nan] * 3


@pytest.mark.parametrize(
    ("losses", "errors", "expected"),
    [
        ([[2, 1, 0.5], [2, 1, 0.1]], [[0.9, 0.5, 0.2], [0.9, 0.5, 0.0]], []),
        # The larger rate diverges.
        ([[2, 1, 0.1], [2, np.nan, np.nan]], [[0.9, 0.5, 0.0], [0.9, 1, 1]], []),
        ([[2, 1.5, 1], [2, 1.5, 1]], [[0.9, 0.5, 0.3]] * 2, ["warning"]),
        ([[2, 2, 2], [2, 2, 2]], [[0.9, 0.9, 0.8]] * 2, ["error"]),
    ],
)
def test_sixteen_examples_are_judged_by_the_best_rate(losses, errors, expected):
    assert judged(losses, errors) == [("cannot_overfit", one) for one in expected]


def test_without_an_error_a_declared_loss_has_to_fall():
    assert judged([[2, 1.5, 1]] * 2, [NAN] * 2, "") == []
    assert judged([[2, 2, 1.95]] * 2, [NAN] * 2, "") == [("cannot_overfit", "warning")]
    # The loss of a game need not fall.
    assert judged([[2, 2, 2]] * 2, [NAN] * 2, "", is_known=False) == []


def noisy(level):
    return level + 0.1 * draw.normal(size=(3, 40))


@pytest.mark.parametrize(
    ("levels", "count"),
    [((1.0, 2.0, 2.0), 0), ((2.0, 2.0, 2.0), 1), ((1.0, 1.0, 2.0), 1), ((2.0, 1.0, 3.0), 1)],
)
def test_real_inputs_have_to_help(levels, count):
    found = list(baseline_findings(np.stack([noisy(level) for level in levels])))
    assert [one.name for one in found] == ["inputs_ignored"] * count


X = draw.normal(size=(200, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0) + 2 * (X[:, 1] > 0)
recipe = train.recipe(nn.chain(nn.dense(16), nn.relu(), nn.dense(4)), optim.sgd(0.1))


def found(targets):
    examples = (X, targets.astype(np.int32))
    train_state = train.start(jax.random.key(0), recipe, (6,))
    (head,) = heads(recipe, (4,), examples[1])
    findings = short_run_findings(jax.random.key(1), recipe, train_state, examples, head)
    return [one.name for one in findings]


@pytest.mark.slow
def test_labels_of_the_inputs_have_no_finding_and_shuffled_ones_do():
    # Both calls share one compiled program.
    assert found(LABELS) == []
    assert found(draw.permutation(LABELS)) == ["inputs_ignored"]


def test_a_network_beyond_the_budget_has_no_short_runs(monkeypatch):
    monkeypatch.setattr(short_runs, "MAX_FLOPS", 1e3)
    assert found(draw.permutation(LABELS)) == []


@pytest.mark.slow
def test_a_lane_is_a_run_of_its_own():
    """The first losses of a lane are those of steps of Adam by `train.step`."""
    order = np.arange(32, dtype=np.int32).reshape(2, 16)
    lanes = lane_runs.Lanes(
        np.array([5], np.int32),
        np.array([0.01], np.float32),
        np.ones(1, np.float32),
        order[None],
        order[None],
    )
    targets = LABELS.astype(np.int32)
    key = jax.random.key(1)
    curves = lane_runs.train_lanes(key, recipe, (X, targets), "labels", lanes, -1.0)
    own = train.recipe(recipe.network, optim.adam(0.01), loss=cross_entropy)
    train_state = train.start(jax.random.fold_in(key, 5), own, (6,))
    for step in range(2):
        batch = X[order[step]], targets[order[step]]
        train_state, figures = train.step(own, train_state, batch)
        assert curves.loss[0, step] == pytest.approx(float(figures["loss"]), rel=1e-4)
