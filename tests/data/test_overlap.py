"""Counts of examples in common."""

import jax
import numpy as np
import pytest

from fnn.data import overlap
from fnn.errors import DTypeError, ShapeError

X = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)


def test_examples_in_common_are_counted():
    assert overlap(X[:12], X[8:]) == 4
    assert overlap(X[:8], X[8:]) == 0
    assert overlap(np.concatenate([X[:1], X[:1]]), np.concatenate([X[:1], X[:1], X[2:]])) == 2
    pairs = (X, np.arange(20))
    assert overlap(pairs, (X, np.arange(20) // 10 * 10)) == 2
    assert overlap(np.asfortranarray(X), jax.numpy.asarray(X)) == 20


def test_wrong_arguments_raise():
    with pytest.raises(ShapeError, match="overlap others: expected examples like those of inputs"):
        overlap(X, X / 255)
    with pytest.raises(ShapeError, match="overlap inputs: expected arrays with a first axis"):
        overlap(np.float32(1), X)
    with pytest.raises(DTypeError, match="overlap inputs: expected known numbers"):
        jax.jit(lambda x: overlap(x, X))(X)
