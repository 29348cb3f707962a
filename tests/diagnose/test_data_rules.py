"""Rules on the data: each on a planted fault and on healthy data."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import objective
from fnn.diagnose.data_rules import (
    check_inputs,
    check_labels,
    order_findings,
    shift_findings,
    target_findings,
)
from fnn.diagnose.heads import Head
from fnn.objective import cross_entropy, squared_error

draw = np.random.default_rng(0)
NORMAL = draw.normal(size=(500, 6)).astype(np.float32)
PIXELS = draw.uniform(size=(50, 4, 4, 3)).astype(np.float32)
LABELS = draw.integers(0, 5, 500).astype(np.int32)


def names(found):
    return [one.name for one in found]


def of_inputs(x):
    return check_inputs("inputs", np.asarray(x, np.float32)).findings


HEALTHY = {
    "standardized": NORMAL,
    "pixels": PIXELS,
    "centered pixels": 2 * PIXELS - 1,
    "skewed column": np.concatenate([NORMAL, np.exp(NORMAL[:, :1])], 1),
    "one-hot": np.eye(40)[draw.integers(0, 40, 500)],
    "counts": draw.poisson(0.3, (500, 6)),
    "relu features": np.maximum(NORMAL, 0) * 2,
    "sparse": (draw.uniform(size=(500, 60)) < 0.002),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_normalized_inputs_have_no_finding(name):
    # Constant columns are no fault of the scale.
    assert [one for one in of_inputs(HEALTHY[name]) if one.severity != "info"] == []


FAULTS = {
    "bytes": (255 * PIXELS, "divide by the deviation"),
    "divided twice": (PIXELS / 255, "scale once"),
    "one large column": (NORMAL * [1, 1, 500, 1, 1, 1], "standardize"),
    "far from 0": (NORMAL + 30, "standardize"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_inputs_of_another_scale_have_a_warning_with_numbers_to_use(name):
    x, advice = FAULTS[name]
    (finding,) = of_inputs(x)
    assert finding.name == "unnormalized_inputs" and finding.severity == "warning"
    assert any(advice in text for text in finding.advice)
    mean = np.asarray(x).reshape(-1, x.shape[-1]).mean(0)
    np.testing.assert_allclose(finding.measured["mean"], mean, rtol=1e-3, atol=1e-5)


def test_the_large_column_is_named():
    (finding,) = of_inputs(NORMAL * [1, 1, 500, 1, 1, 1])
    assert "column 2" in finding.title


def test_numbers_that_are_not_finite_are_an_error_with_their_index():
    x = NORMAL.copy()
    x[3, 1] = np.inf
    (finding,) = of_inputs(x)
    assert finding.name == "nonfinite_data" and finding.severity == "error"
    assert finding.measured == {"count": 1, "index": (3, 1)}


def test_constant_columns_are_a_note():
    x = NORMAL.copy()
    x[:, 4] = 0.5
    (finding,) = of_inputs(x)
    assert finding.name == "constant_features" and finding.severity == "info"
    assert finding.measured["columns"] == [4]


def test_integers_are_not_checked():
    assert check_inputs("inputs", jnp.zeros((3, 4), jnp.int32)) is None


def test_validation_of_another_scale_has_a_warning():
    assert names(shift_findings("inputs", NORMAL[:400], NORMAL[400:])) == []
    for valid in (NORMAL + 3, NORMAL * 5):
        assert names(shift_findings("inputs", NORMAL, valid)) == ["validation_scale"]


def test_targets_far_from_the_outputs_have_a_warning():
    targets = NORMAL[:, :1]
    for scaled, expected in ((targets, []), (5000 * targets, ["unnormalized_targets"])):
        assert names(target_findings(Head("", squared_error, (1,), scaled))) == expected


def of_labels(labels, classes=5, loss=cross_entropy):
    check = check_labels(Head("", loss, (classes,), np.asarray(labels)))
    return [] if check is None else check.findings


def test_balanced_labels_have_no_finding():
    check = check_labels(Head("", cross_entropy, (5,), LABELS))
    assert check.findings == ()
    counts = np.bincount(LABELS)
    assert check.facts == f"labels of 5 classes, {counts.min()} to {counts.max()} examples each"


def test_rare_classes_have_a_warning_with_the_share_of_the_largest():
    (finding,) = of_labels(np.where(np.arange(500) < 470, 0, LABELS))
    assert finding.name == "class_imbalance" and finding.severity == "warning"
    assert finding.measured["majority"] > 0.94
    # A share of one half and four of an eighth are a moderate imbalance.
    assert of_labels(np.where(np.arange(500) < 190, 0, LABELS)) == ()


def test_labels_that_count_from_1_have_a_warning():
    (finding,) = of_labels(LABELS + 1, 6)
    assert finding.name == "label_offset" and finding.severity == "warning"


def test_classes_without_an_example_are_a_note():
    (finding,) = of_labels(LABELS, 9)
    assert finding.name == "class_imbalance" and finding.severity == "info"


@pytest.mark.parametrize(
    ("targets", "loss"),
    [
        (LABELS[:60], cross_entropy),
        (np.zeros((500, 7), np.int32), cross_entropy),
        (NORMAL, squared_error),
        (LABELS, objective.squared_error),
    ],
)
def test_few_labels_texts_and_regressions_have_no_check_of_balance(targets, loss):
    assert of_labels(targets, loss=loss) == []


def of_order(labels, valid=None):
    other = None if valid is None else Head("", cross_entropy, (5,), valid)
    return list(order_findings(Head("", cross_entropy, (5,), labels), other))


def test_shuffled_labels_have_no_finding_and_sorted_ones_a_note():
    assert of_order(LABELS, LABELS[:200]) == []
    (finding,) = of_order(np.sort(LABELS))
    assert finding.name == "label_order" and finding.severity == "info"


def test_a_split_without_shuffling_has_a_warning_for_each_part():
    in_order = np.sort(LABELS)
    found = [one for one in of_order(in_order[:350], in_order[350:]) if one.severity == "warning"]
    assert names(found) == ["label_order"] * 2
    assert "training lacks" in found[0].title and "validation lacks" in found[1].title
