"""Means of probabilities in log space, over any axis."""

import jax
import numpy as np
import pytest

from fnn.nn.core.mixtures import average_in_logits

Z = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_softmax_of_the_result_is_the_mean_of_the_probabilities(axis):
    found = jax.nn.softmax(average_in_logits(Z, axis))
    np.testing.assert_allclose(found, jax.nn.softmax(Z).mean(axis), rtol=1e-5)


def test_the_sigmoid_of_a_single_logit_is_the_mean_of_the_probabilities():
    found = jax.nn.sigmoid(average_in_logits(Z[..., :1], 0))
    np.testing.assert_allclose(found, jax.nn.sigmoid(Z[..., :1]).mean(0), rtol=1e-5)


def test_classes_without_probability_stay_so():
    z = np.array([[[0.0, -np.inf]], [[1.0, -np.inf]]], np.float32)
    np.testing.assert_array_equal(average_in_logits(z, 0), [[0.0, -np.inf]])
