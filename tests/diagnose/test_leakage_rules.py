"""Leakage between training and validation: copies, mirror images and near duplicates."""

import numpy as np
import pytest

from fnn.diagnose.leakage_rules import leakage_findings, nearest_distances

draw = np.random.default_rng(0)
IMAGES = draw.integers(0, 256, (300, 8, 8, 1), np.uint8)
OTHERS = draw.integers(0, 256, (100, 8, 8, 1), np.uint8)


def found(inputs, others):
    return [(one.severity, one.title) for one in leakage_findings(inputs, others)]


def replaced(copies):
    return np.concatenate([copies, OTHERS[len(copies) :]])


def test_separate_examples_have_no_finding():
    assert found(IMAGES, OTHERS) == []
    points = draw.normal(size=(300, 2)).astype(np.float32)
    assert found(points[:200], points[200:]) == []
    # One image that is its own mirror image in both is equal, not mirrored; 1 of 100 is rare.
    symmetric = np.full((1, 8, 8, 1), 7, np.uint8)
    ((_, title),) = found(np.concatenate([IMAGES, symmetric]), replaced(symmetric))
    assert "equal to" in title


@pytest.mark.parametrize(
    ("copies", "text"),
    [(IMAGES[:5], "5 of 100"), (IMAGES[:5, :, ::-1], "5.0%) are mirror images of")],
)
def test_copies_and_mirror_images_are_an_error(copies, text):
    ((severity, title),) = found(IMAGES, replaced(copies))
    assert severity == "error" and text in title


def test_near_duplicates_have_a_warning():
    scale = np.float32(255)
    near = replaced(IMAGES[:5]) / scale
    near[:5] += draw.normal(size=near[:5].shape).astype(np.float32) * 1e-4
    ((severity, title),) = found(IMAGES / scale, near)
    assert severity == "warning" and "5.0%" in title


def test_equal_rows_of_categories_are_a_note():
    rows = draw.integers(0, 3, (300, 4)).astype(np.int32)
    assert [severity for severity, _ in found(rows[:200], rows[200:])] == ["info"]


def test_inputs_of_several_arrays_are_compared_as_a_whole():
    ids = np.arange(300, dtype=np.int32)[:, None]
    pair = {"image": IMAGES, "id": ids}
    other = {"image": IMAGES[:100], "id": ids[:100] + 300}
    assert found(pair, other) == []
    copied = {"image": IMAGES[:100], "id": ids[:100]}
    assert [severity for severity, _ in found(pair, copied)] == ["error"]


def test_bytes_and_floats_are_never_compared():
    assert found(IMAGES, IMAGES / np.float32(255)) == []


def test_distances_are_those_of_all_pairs():
    known = draw.normal(size=(30, 3)) + 100
    queries = np.concatenate([known[:2], draw.normal(size=(5, 3)) + 100])
    pairs = np.linalg.norm(queries[:, None] - known[None], axis=2)
    np.testing.assert_allclose(nearest_distances(known, queries), pairs.min(1), rtol=1e-3)
