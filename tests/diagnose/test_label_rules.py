"""Rules on targets and labels: each on a planted fault and on healthy ones."""

import numpy as np
import pytest

from fnn import objective
from fnn.diagnose.heads import Head
from fnn.diagnose.label_rules import check_labels, order_findings, target_findings
from fnn.objective import cross_entropy, squared_error

draw = np.random.default_rng(0)
NORMAL = draw.normal(size=(500, 6)).astype(np.float32)
PIXELS = draw.uniform(size=(50, 4, 4, 3)).astype(np.float32)
LABELS = draw.integers(0, 5, 500).astype(np.int32)


def names(found):
    return [one.name for one in found]


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
    assert finding.title == "4 of 9 classes have no example, such as 5, 6, 7, 8"
    assert finding.measured["classes"] == [5, 6, 7, 8]
    assert finding.advice[0].startswith("give the network one output for each class")


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
