"""Plots of retrieved images: their order, marks and frames."""

import numpy as np
import pytest

from fnn import lab, transfer
from fnn.errors import ConfigError, ShapeError

draw = np.random.default_rng(0)
BANK = draw.integers(0, 256, (6, 4, 5, 1), np.uint8)
QUERIES = BANK[:3]
LABELS = np.array([0, 1, 0, 0, 1, 1])
FEATURES = draw.normal(size=(6, 3)).astype(np.float32)
found = transfer.retrieve(FEATURES[:3], FEATURES, k=3)
labels = {"query_labels": LABELS[:3], "bank_labels": LABELS}


def test_neighbors_are_to_the_right_of_their_query_in_order():
    figure = lab.plot_retrieval(QUERIES, BANK, found, count=2)
    assert len(figure.axes) == 8
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    np.testing.assert_array_equal(shown[4], QUERIES[1, ..., 0])
    for rank, index in enumerate(np.asarray(found.indices[1])):
        np.testing.assert_array_equal(shown[5 + rank], BANK[index, ..., 0])
    assert figure.axes[1].get_title() == "1.00" and figure.axes[4].get_title() == "query 1"
    assert figure.get_suptitle() == "2 of 3 queries with their 3 nearest of 6"


def test_right_and_wrong_classes_differ_by_mark_and_line_and_not_only_by_color(tmp_path):
    figure = lab.plot_retrieval(QUERIES, BANK, found, tmp_path / "retrieval.png", **labels)
    is_right = LABELS[np.asarray(found.indices)] == LABELS[:3, None]
    for row in range(3):
        for rank in range(3):
            axes = figure.axes[4 * row + rank + 1]
            assert axes.get_title().startswith("✓" if is_right[row, rank] else "✗")
            style = axes.spines["left"].get_linestyle()
            assert (style == "-") == is_right[row, rank]
    assert figure.get_suptitle().endswith(
        f"{is_right.mean():.1%} of all neighbors have the class of the query"
    )
    assert (tmp_path / "retrieval.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_arguments_raise_errors():
    with pytest.raises(ConfigError, match="found: expected Retrieved or Neighbors"):
        lab.plot_retrieval(QUERIES, BANK, found.indices)
    with pytest.raises(ShapeError, match="found: expected indices of 2 images for 3 queries"):
        lab.plot_retrieval(QUERIES, BANK[:2], found)
    with pytest.raises(ConfigError, match="bank_labels: expected labels, got None"):
        lab.plot_retrieval(QUERIES, BANK, found, query_labels=LABELS[:3])
    with pytest.raises(ShapeError, match=r"query_labels: expected one label an image, \(3,\)"):
        lab.plot_retrieval(QUERIES, BANK, found, query_labels=LABELS, bank_labels=LABELS)
