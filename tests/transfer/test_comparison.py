import jax
import numpy as np
import pytest

from fnn import nn, objective, optim, search, train, transfer
from fnn.errors import ConfigError, LabelError
from fnn.search.score import find_score
from fnn.transfer.comparison import PROBE_KEY
from fnn.types import Weights

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
LABELS = (np.arange(36) % 3).astype(np.int32)
X = (draw.normal(size=(3, 5))[LABELS] + 0.7 * draw.normal(size=(36, 5))).astype(np.float32)
network = nn.chain(nn.dense(6), nn.relu(), nn.dense(4))
recipe = train.recipe(network, optim.adam(1e-2))


@pytest.fixture(scope="module")
def weights():
    return Weights(*network.init(jax.random.key(0), (5,))[:2])


def compare(weights, regimes, **options):
    options = {
        "folds": 3,
        "epochs": 2,
        "batch_size": 8,
        "classes": 3,
        "lanes": 1,
        "l2": 1e-2,
    } | options
    return transfer.compare(
        jax.random.key(1), recipe, weights, (X, LABELS), regimes=regimes, **options
    )


@pytest.fixture(scope="module")
def table(weights):
    return compare(
        weights, ["linear_probe", "nearest_neighbors", "head_only", "probe_then_tune"], k=3
    )


def test_all_regimes_have_the_same_folds_and_print_as_a_table(table):
    first, *others = table.results.values()
    for other in others:
        search.compare(first, other)  # raises if they differ
        assert other.predictions.shape == (1, 36, 3)
    lines = repr(table).splitlines()
    assert lines[0].split()[:2] == ["regime", "valid_accuracy"]
    assert [line.split()[0] for line in lines[1:5]] == table.order
    assert lines[1].endswith("best") and lines[-1].startswith(f"{table.best} has the best mean")
    for name in table.order[1:]:
        assert (name in table.ties) == (table.against_best(name).p_value >= 0.05)


def test_the_probe_and_the_neighbors_of_a_fold_are_those_of_its_training_part(table, weights):
    features = np.asarray(transfer.features(recipe, weights, X))
    probe, neighbors = table.results["linear_probe"], table.results["nearest_neighbors"]
    for fold in (0, 2):
        part, rest = probe.train[0, fold], np.flatnonzero(probe.fold_of[0] == fold)
        single = transfer.linear_probe(features[part], LABELS[part], l2=1e-2, classes=3)
        logits = single.predict(features[rest])
        np.testing.assert_allclose(probe.predictions[0, rest], logits, atol=1e-4)
        assert probe.scores[0, fold] == pytest.approx((logits.argmax(-1) == LABELS[rest]).mean())
        found = transfer.nearest_neighbors(features[part], LABELS[part], features[rest], k=3)
        assert neighbors.scores[0, fold] == pytest.approx((found.labels == LABELS[rest]).mean())


def test_fine_tuning_after_the_probe_begins_with_it(weights):
    still = {"probe_then_tune": optim.sgd(0.0)}
    found = compare(weights, ["linear_probe", "probe_then_tune"], optimizers=still, epochs=1)
    probe, tuned = found.results.values()
    np.testing.assert_allclose(probe.predictions, tuned.predictions, atol=1e-4)
    assert found.ties == [name for name in found.order if name != found.best]
    assert PROBE_KEY not in (0, 1)


def test_numbers_are_compared_by_the_loss(weights):
    regression = nn.chain(nn.dense(6), nn.relu(), nn.dense(1))
    given = Weights(*regression.init(jax.random.key(0), (5,))[:2])
    one = train.recipe(regression, optim.adam(1e-2), loss=objective.squared_error)
    found = transfer.compare(
        jax.random.key(1), one, given, (X, X[:, :1] * 2), epochs=1, batch_size=8, folds=3,
        regimes=("linear_probe", "nearest_neighbors"), l2=1e-3,
    )  # fmt: skip
    assert found.results["linear_probe"].figure.name == "valid_loss"
    assert found.results["linear_probe"].predictions.shape == (1, 36, 1)
    assert np.isfinite(found.results["nearest_neighbors"].scores).all()


def test_equal_differences_in_all_folds_are_significant():
    score = find_score(recipe, "valid_loss", None, has_valid=True)
    same = search.Comparison(np.full((1, 4), 0.5), 0.25, score)
    assert same.p_value == 0 and same.statistic == np.inf


def test_wrong_arguments_raise_errors(weights):
    with pytest.raises(ConfigError, match="compare regimes: expected one of scratch, linear_probe"):
        compare(weights, ["all"])
    with pytest.raises(ConfigError, match=r"compare regimes: expected names among .*each once"):
        compare(weights, ["scratch", "scratch"])
    with pytest.raises(ConfigError, match="compare optimizers: expected one of scratch"):
        compare(weights, ["scratch"], optimizers={"head": optim.sgd(0.1)})
    with pytest.raises(LabelError, match="0 <= label < 2"):
        compare(weights, ["linear_probe"], classes=2)
    with pytest.raises(LabelError, match="0 <= label < 2"):
        compare(weights, ["head_only"], classes=2)
    with pytest.raises(ConfigError, match="nearest_neighbors k: expected at most the 24 examples"):
        compare(weights, ["nearest_neighbors"], k=30)
    with pytest.raises(ConfigError, match="nearest_neighbors k: expected >= 1, got 0"):
        compare(weights, ["nearest_neighbors"], k=0)
    with pytest.raises(ConfigError, match="linear_probe classes: expected >= 2, got 0"):
        compare(weights, ["linear_probe"], classes=0)
    with pytest.raises(TypeError, match="compare bloks"):
        compare(weights, ["scratch"], bloks=3)


def test_probes_have_no_figures_of_training(weights):
    message = "compare score: expected one of valid_loss, valid_accuracy, got 'accuracy'"
    with pytest.raises(ConfigError, match=message):
        compare(weights, ["head_only", "linear_probe"], score="accuracy")
