"""Combinations of outputs against their definitions and inequalities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from fnn import ensemble, objective
from fnn.errors import DTypeError, ShapeError

draw = np.random.default_rng(0)
LOGITS = 3 * draw.normal(size=(5, 40, 4))
LABELS = draw.integers(0, 4, 40)


def nll(logits):
    return np.asarray(objective.cross_entropy(jnp.asarray(logits), LABELS))


def test_the_logits_of_mean_probabilities_are_their_logarithm(x64):
    found = ensemble.average_probabilities(LOGITS)
    log_p = LOGITS - logsumexp(LOGITS, -1, keepdims=True)
    np.testing.assert_allclose(found, np.log(np.exp(log_p).mean(0)), rtol=1e-12)
    np.testing.assert_allclose(jax.nn.softmax(found).sum(-1), 1, rtol=1e-12)


def test_the_loss_of_the_ensemble_is_at_most_the_mean_loss_for_every_example(x64):
    combined = nll(ensemble.average_probabilities(LOGITS))
    each = np.stack([nll(logits) for logits in LOGITS])
    assert (combined <= each.mean(0)).all()


def test_the_brier_score_is_the_mean_less_the_spread_of_the_members(x64):
    p = np.asarray(jax.nn.softmax(LOGITS))
    mean = np.asarray(jax.nn.softmax(ensemble.average_probabilities(LOGITS)))
    truth = np.eye(4)[LABELS]
    combined = np.square(mean - truth).sum(-1)
    each = np.square(p - truth).sum(-1).mean(0)
    spread = np.square(p - mean).sum(-1).mean(0)
    np.testing.assert_allclose(combined, each - spread, rtol=0, atol=1e-12)


def test_equal_members_are_one_member():
    one = LOGITS[0].astype(np.float32)
    equal = np.stack([one] * 3)
    expected = jax.nn.log_softmax(one)
    np.testing.assert_array_equal(ensemble.average_probabilities(equal), expected)
    np.testing.assert_allclose(ensemble.average_outputs(equal), one, rtol=1e-6)
    np.testing.assert_array_equal(ensemble.vote(equal), one.argmax(-1))
    mean, variance = ensemble.mixture_moments(equal, np.exp(equal))
    np.testing.assert_allclose(mean, one, rtol=1e-6)
    np.testing.assert_allclose(variance, np.exp(one), rtol=1e-5)


def test_a_single_logit_is_that_of_the_second_of_two_classes(x64):
    z = LOGITS[..., :1]
    two = np.concatenate([np.zeros_like(z), z], -1)
    single = ensemble.average_probabilities(z)
    expected = np.diff(ensemble.average_probabilities(two), axis=-1)
    np.testing.assert_allclose(single, expected, rtol=1e-10)
    np.testing.assert_array_equal(ensemble.vote(z), ensemble.vote(two))
    p = jax.nn.sigmoid(jnp.asarray(z)).mean(0)
    np.testing.assert_allclose(jax.nn.sigmoid(single), p, rtol=1e-12)


def test_sure_members_keep_finite_logits():
    z = np.array([[[800.0]], [[900.0]]], np.float32)
    assert np.isfinite(ensemble.average_probabilities(z)).all()
    found = np.asarray(ensemble.average_probabilities(np.array([[[800.0, 0]], [[0, 800.0]]])))
    np.testing.assert_allclose(found, np.log([[0.5, 0.5]]), rtol=1e-6)


def test_ties_of_votes_go_to_the_lowest_class():
    classes = np.array([[2, 1, 3], [1, 1, 3], [1, 2, 0], [2, 2, 0]])
    logits = np.eye(4, dtype=np.float32)[classes]
    assert ensemble.vote(logits).tolist() == [1, 1, 0]
    tied = np.array([[[1.0]], [[-1.0]]], np.float32)
    assert ensemble.vote(tied).tolist() == [0]


def test_a_member_whose_logits_are_nan_has_no_vote():
    # (members, n, classes): class 2 leads without the member that is NaN.
    logits = np.zeros((3, 2, 3), np.float32)
    logits[0, :, 2] = 1
    logits[1, 0, 1] = np.nan
    logits[2, 0, 2] = 1
    logits[:, 1] = np.nan
    assert ensemble.vote(logits).tolist() == [2, -1]
    assert jax.jit(ensemble.vote)(logits).tolist() == [2, -1]
    single = np.float32([[[np.nan], [2.0]], [[1.0], [np.nan]], [[np.nan], [0.0]]])
    assert ensemble.vote(single).tolist() == [1, 0]


def test_the_moments_are_those_of_the_mixture(x64):
    means = draw.normal(100, 3, size=(4, 6, 2))
    variances = draw.uniform(0.5, 2, size=(4, 6, 2))
    mean, variance = ensemble.mixture_moments(means, variances)
    np.testing.assert_allclose(mean, means.mean(0), rtol=1e-12)
    second = (variances + means**2).mean(0)
    np.testing.assert_allclose(variance, second - means.mean(0) ** 2, rtol=1e-9)
    only = ensemble.mixture_moments(means)
    np.testing.assert_allclose(only.variance, means.var(0), rtol=1e-12)
    loss = objective.gaussian_nll(ensemble.mixture_moments(means, variances), mean)
    np.testing.assert_allclose(loss, np.log(variance).mean(1) / 2, rtol=1e-9)


def test_half_precision_is_combined_in_single():
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    assert ensemble.average_probabilities(half).dtype == jnp.float32
    assert ensemble.average_outputs({"a": half})["a"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ensemble.average_probabilities(LOGITS[0]), ShapeError, "outputs.None."),
        (lambda: ensemble.vote(LABELS), DTypeError, "vote logits: expected floating-point"),
        (lambda: ensemble.average_probabilities((LOGITS, 1)), DTypeError, "expected one array"),
        (lambda: ensemble.average_outputs(np.zeros(3)), ShapeError, r"\(members, n, ...\)"),
        (
            lambda: ensemble.mixture_moments(LOGITS, LOGITS[..., :1]),
            ShapeError,
            "mixture_moments variances: expected the shape of the means",
        ),
    ],
)
def test_wrong_outputs_raise(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.torch
def test_arrays_of_other_libraries_raise():
    import torch

    given = torch.ones(2, 3, 4)
    functions = (ensemble.average_probabilities, ensemble.average_outputs, ensemble.vote)
    for function in (*functions, ensemble.mixture_moments):
        with pytest.raises(DTypeError, match="expected one array, got Tensor; convert it with"):
            function(given)
