"""Baselines of data whose scores are known, and planted label noise."""

import numpy as np
import pytest

from fnn.diagnose.baselines import Baselines, find_baselines, remember

DRAWS = np.random.default_rng(0)
X = DRAWS.standard_normal((600, 8)).astype(np.float32)


def test_a_linear_target_is_explained_by_ridge_regression():
    y = X @ np.arange(8.0) + 3
    found = find_baselines(X[:400], y[:400], X[400:], y[400:], 0)
    # The penalty of 0.1 shrinks the kernel by 1 / 11.
    assert found.linear == pytest.approx(1 - 1 / 121, abs=5e-3)
    assert found.neighbor < found.linear
    assert np.isnan(found.doubtful_share)


def test_labels_that_do_not_depend_on_inputs_have_scores_of_chance():
    labels = DRAWS.integers(0, 2, 600)
    found = find_baselines(X, labels, None, None, 2)
    assert max(found.linear, found.neighbor, found.neighbor_within) < 0.6


def test_planted_label_noise_is_found():
    centers = 6 * DRAWS.standard_normal((4, 8))
    labels = np.arange(600) % 4
    x = (centers[labels] + X).astype(np.float32)
    assert find_baselines(x, labels, None, None, 4).doubtful_share < 0.01
    wrong = DRAWS.choice(600, 60, replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + 1) % 4
    found = find_baselines(x, noisy, None, None, 4)
    assert len(set(found.suspects) & set(wrong.tolist())) >= 0.85 * len(wrong)
    assert len(found.suspects) <= 1.1 * len(wrong)


def test_a_rare_class_is_no_label_noise():
    labels = (np.arange(600) % 60 == 0).astype(int)
    x = X + 1.5 * labels[:, None].astype(np.float32)
    assert find_baselines(x, labels, None, None, 2).doubtful_share < 0.02


def test_few_examples_have_no_baselines():
    assert np.isnan(find_baselines(X[:10], np.zeros(10, int), None, None, 2).linear)


def test_baselines_are_found_once_for_the_same_arrays():
    calls = []

    def find():
        calls.append(1)
        return Baselines(0.5)

    first = np.zeros(3)
    assert remember(2, [first], find) == remember(2, [first], find) == Baselines(0.5)
    remember(2, [np.zeros(3)], find)
    remember(3, [first], find)
    assert len(calls) == 3
