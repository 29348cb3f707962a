"""Losses of a generator and its critic, against their closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import objective
from fnn.errors import DTypeError, ShapeError

REAL, FAKE, FOOL = np.random.default_rng(0).normal(size=(3, 5, 1)).astype(np.float32)
OUTPUTS = {"real": REAL, "fake": FAKE, "fool": FOOL}


def softplus(x):
    return np.log1p(np.exp(x))


FORMULAS = {
    "logistic": softplus(-REAL) + softplus(FAKE) + softplus(-FOOL),
    "hinge": np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE) - FOOL,
    "wasserstein": FAKE - REAL - FOOL,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_loss_is_the_sum_of_the_two_formulas(kind):
    outputs = {name: jnp.asarray(scores) for name, scores in OUTPUTS.items()}
    values = objective.adversarial(outputs, None, kind=kind)
    np.testing.assert_allclose(values, FORMULAS[kind][:, 0], rtol=1e-5)
    slope = jnp.array([0.0, 1.0, 2.0, 1.0, 1.0])
    penalized = objective.adversarial(outputs | {"slope": slope}, None, kind=kind, penalty=3.0)
    np.testing.assert_allclose(penalized - values, [3, 0, 3, 0, 0], atol=1e-5)


def test_half_precision_is_summed_in_float32():
    outputs = {name: jnp.asarray(scores, jnp.bfloat16) for name, scores in OUTPUTS.items()}
    assert objective.adversarial(outputs, None).dtype == jnp.float32


def test_a_score_without_a_batch_raises():
    outputs = {name: jnp.float32(0) for name in OUTPUTS}
    with pytest.raises(ShapeError, match=r"adversarial real: expected \(batch, ...\)"):
        objective.adversarial(outputs, None)
    outputs = {name: jnp.ones(3) for name in OUTPUTS} | {"fool": jnp.ones(2)}
    with pytest.raises(ShapeError, match=r"adversarial fool: .*, got \(2,\)"):
        objective.adversarial(outputs, None)


@pytest.mark.parametrize("dtype", [jnp.int32, bool])
def test_scores_that_are_not_floats_raise(dtype):
    outputs = {name: jnp.ones((3, 1), dtype) for name in OUTPUTS}
    with pytest.raises(DTypeError, match="adversarial real: expected floating-point numbers"):
        objective.adversarial(outputs, None)


def test_no_examples_raise():
    outputs = {name: jnp.ones((0, 1)) for name in OUTPUTS}
    with pytest.raises(ShapeError, match=r"adversarial real: expected \(batch, ...\)"):
        objective.adversarial(outputs, None)
