"""Decompositions of uncertainty against float64 formulas, and laws that hold for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from fnn import ensemble
from fnn.errors import DTypeError, ShapeError


def by_hand(logits):
    """Total entropy, mean entropy and their difference in float64."""
    log_p = log_softmax(np.float64(logits), -1)
    log_mean = logsumexp(log_p, 0) - np.log(len(log_p))
    total = -(np.exp(log_mean) * log_mean).sum(-1)
    aleatoric = -(np.exp(log_p) * log_p).sum(-1).mean(0)
    return total, aleatoric, total - aleatoric


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_the_entropy_is_decomposed_as_by_the_formula(scale):
    logits = np.float32(scale * np.random.default_rng(0).normal(size=(5, 20, 4)))
    found = jax.jit(ensemble.entropy_decomposition)(logits)
    for got, wanted in zip(found, by_hand(logits), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-9)


def test_small_uncertainties_are_right_in_float32():
    """A difference of entropies of 1 would have an error of 1e-7."""
    logits = np.random.default_rng(0).normal(size=(1, 20, 4)) + np.zeros((5, 1, 1))
    logits = np.float32(logits + 1e-4 * np.random.default_rng(1).normal(size=(5, 20, 4)))
    epistemic = ensemble.entropy_decomposition(logits).epistemic
    np.testing.assert_allclose(epistemic, by_hand(logits)[2], rtol=0.02)
    assert (epistemic < 1e-8).all()
    # Nearly sure: the entropies are far below the rounding error of 1.
    sure = np.float32([[[18.0, 0, 0]], [[19, 1, 0]]])
    found = ensemble.entropy_decomposition(sure)
    np.testing.assert_allclose(found.aleatoric, by_hand(sure)[1], rtol=1e-5)


def test_extreme_logits_have_finite_uncertainties():
    logits = jnp.array([[[1e30, 0.0], [3e4, -3e4]], [[-1e30, 0.0], [3e4, -3e4]]])
    found = ensemble.entropy_decomposition(logits)
    np.testing.assert_allclose(found.total, [np.log(2), 0], rtol=1e-6)
    np.testing.assert_allclose(found.epistemic, [np.log(2), 0], rtol=1e-6)
    impossible = jnp.array([[[0.0, 0.0, -jnp.inf]], [[0.0, -jnp.inf, -jnp.inf]]])
    found = ensemble.entropy_decomposition(impossible)
    p = np.array([0.75, 0.25])
    np.testing.assert_allclose(found.total[0], -(p * np.log(p)).sum(), rtol=1e-6)
    np.testing.assert_allclose(found.aleatoric[0], np.log(2) / 2, rtol=1e-6)
    slope = jax.jit(jax.grad(lambda z: ensemble.entropy_decomposition(z).total.sum()))(impossible)
    assert np.isfinite(slope).all()


def test_equal_members_have_no_epistemic_part():
    logits = jnp.float32(np.random.default_rng(0).normal(size=(1, 50, 4)))
    for members in (1, 3, 7):
        found = ensemble.entropy_decomposition(jnp.repeat(logits, members, 0))
        assert (found.epistemic >= 0).all() and found.epistemic.max() < 1e-12
        same = jnp.repeat(logits, members, 0)
        assert ensemble.variance_decomposition(same).epistemic.max() == 0


def test_one_output_has_two_classes():
    z = jnp.float32(np.random.default_rng(0).normal(size=(3, 5, 1)))
    two = jnp.concatenate([jnp.zeros_like(z), z], -1)
    for function in (ensemble.entropy_decomposition, ensemble.disagreement):
        found, wanted = function(z), function(two)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_the_variance_is_that_of_the_mixture():
    draw = np.random.default_rng(0)
    means, variances = draw.normal(size=(4, 6)), draw.random((4, 6))
    found = ensemble.variance_decomposition(np.float32(means), np.float32(variances))
    np.testing.assert_allclose(found.total, variances.mean(0) + means.var(0), rtol=1e-5)
    np.testing.assert_allclose(found.total, found.aleatoric + found.epistemic, rtol=1e-6)
    far = np.float32(1e4 + means)
    found = ensemble.variance_decomposition(far)
    np.testing.assert_allclose(found.total, np.float64(far).var(0), rtol=1e-5)


def test_disagreement_counts_the_pairs_that_differ():
    classes = np.array([[0, 0, 1, 2], [0, 0, 2, 0], [1, 0, 1, 1]])
    logits = jnp.eye(3)[classes] * 2
    pairs = [(0, 1), (0, 2), (1, 2)]
    wanted = np.mean([classes[a] != classes[b] for a, b in pairs], 0)
    np.testing.assert_allclose(ensemble.disagreement(logits), wanted, rtol=1e-6)
    broken = logits.at[2].set(jnp.nan)
    np.testing.assert_allclose(ensemble.disagreement(broken)[1], 2 / 3, rtol=1e-6)


ERRORS = {
    "no members": (
        lambda: ensemble.entropy_decomposition(jnp.ones((4, 3))),
        ShapeError,
        r"entropy_decomposition logits: expected \(members, n, ..., classes\), got \(4, 3\)",
    ),
    "probabilities": (
        lambda: ensemble.entropy_decomposition(jax.nn.softmax(jnp.ones((2, 4, 3)))),
        DTypeError,
        "entropy_decomposition logits: expected logits, got probabilities",
    ),
    "one member": (
        lambda: ensemble.disagreement(jnp.ones((1, 4, 3))),
        ShapeError,
        "disagreement logits: expected two members or more",
    ),
    "labels": (
        lambda: ensemble.disagreement(jnp.ones((2, 4, 3), int)),
        DTypeError,
        "disagreement logits: expected floating",
    ),
    "variances": (
        lambda: ensemble.variance_decomposition(jnp.ones((2, 4)), jnp.ones((2, 3))),
        ShapeError,
        "variance_decomposition variances: expected the shape of the means",
    ),
    "one network": (
        lambda: ensemble.variance_decomposition(jnp.ones(4)),
        ShapeError,
        r"variance_decomposition means: expected \(members, n",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
