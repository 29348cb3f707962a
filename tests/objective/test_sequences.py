"""Tests of CTC against the sum over all paths, one by one."""

from itertools import groupby, product

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import ctc

float64 = pytest.mark.usefixtures("x64")
LABELS = np.array([[1, 2], [2, 2], [3, 9], [7, -8]])
LENGTHS = np.array([2, 2, 1, 0])
TIMES = np.array([4, 4, 3, 2])


loss = jax.jit(ctc)


@jax.jit
def value_and_gradient(outputs, targets):
    values, pull = jax.vjp(lambda x: ctc((x, outputs[1]), targets), outputs[0])
    return values, *pull(jnp.ones_like(values))


def logits(scale=1.0):
    return scale * np.random.default_rng(0).normal(size=(4, 4, 4))


def negative_log_likelihood(log_p, labels, blank):
    """Sum over every path, a class for each time."""
    steps, classes = log_p.shape
    chances = [
        np.exp(sum(log_p[t, c] for t, c in enumerate(path)))
        for path in product(range(classes), repeat=steps)
        if [c for c, _ in groupby(path) if c != blank] == list(labels)
    ]
    return -np.log(sum(chances)) if chances else np.inf


def wanted(x, times, blank=0):
    rows = zip(log_softmax(x, -1), times, LABELS, LENGTHS, strict=True)
    return [negative_log_likelihood(log_p[:t], labels[:n], blank) for log_p, t, labels, n in rows]


@float64
def test_ctc_equals_the_sum_over_all_paths():
    x, targets = logits(), (jnp.array(LABELS), jnp.array(LENGTHS))
    np.testing.assert_allclose(loss(jnp.array(x), targets), wanted(x, [4] * 4), rtol=1e-13)
    np.testing.assert_allclose(
        loss((jnp.array(x), jnp.array(TIMES)), targets), wanted(x, TIMES), rtol=1e-13
    )


@pytest.mark.slow
@float64
def test_any_class_may_be_the_blank():
    x, labels = logits(), np.array([[1, 2], [2, 2], [0, 9], [7, -8]])
    got = ctc(jnp.array(x), (jnp.array(labels), jnp.array(LENGTHS)), blank=3)
    exchanged = jnp.array(x[..., [3, 1, 2, 0]])  # 0 and 3 are exchanged
    targets = jnp.array(np.where(labels == 0, 3, labels)), jnp.array(LENGTHS)
    np.testing.assert_allclose(got, ctc(exchanged, targets), rtol=1e-13)


def test_entries_beyond_the_lengths_do_not_matter():
    x = jnp.float32(logits())
    times, lengths = jnp.array(TIMES), jnp.array(LENGTHS)
    beyond = jnp.arange(4)[None, :, None] >= times[:, None, None]
    first = value_and_gradient((x, times), (jnp.array(LABELS), lengths))
    other = jnp.array([[1, 2], [2, 2], [3, 0], [0, 1]])
    second = value_and_gradient((jnp.where(beyond, 5 * x, x), times), (other, lengths))
    chex.assert_trees_all_equal(first, second)
    assert not jnp.where(beyond, first[1], 0).any()


def test_labels_that_need_more_time_have_an_infinite_loss():
    """Two equal labels need three times, with a blank between."""
    x = jnp.zeros((4, 4, 4))
    targets = jnp.array([[2, 2], [2, 2], [1, 2], [3, 3]]), jnp.array([2, 2, 2, 1])
    values, gradient = value_and_gradient((x, jnp.array([3, 2, 1, 1])), targets)
    assert np.isinf(values).tolist() == [False, True, True, False]
    assert np.isfinite(gradient).all((1, 2)).tolist() == [True, False, False, True]
    assert (values > 0).all()


def test_zero_infinity_gives_impossible_examples_the_value_and_the_gradient_0():
    x, times = jnp.float32(logits()), jnp.array([3, 2, 1, 1])
    targets = jnp.array([[2, 2], [2, 2], [1, 2], [3, 3]]), jnp.array([2, 2, 2, 1])

    def value(x, zero_infinity):
        values = ctc((x, times), targets, zero_infinity=zero_infinity)
        return values.sum(), values

    differentiate = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)
    (_, values), gradient = differentiate(x, True)
    (_, wanted), other = differentiate(x, False)
    np.testing.assert_array_equal(values, jnp.where(jnp.isinf(wanted), 0, wanted))
    possible = jnp.array([0, 3])
    assert not gradient[1:3].any()
    np.testing.assert_array_equal(gradient[possible], other[possible])


@pytest.mark.slow
def test_zero_infinity_keeps_the_nan_of_wrong_labels():
    targets = jnp.array([[1, 2], [7, 1]]), jnp.array([2, 2])
    values = ctc(jnp.zeros((2, 4, 3)), targets, zero_infinity=True)
    assert np.isnan(values).tolist() == [False, True]


@pytest.mark.slow
def test_the_loss_of_a_sure_sequence_is_not_negative():
    draw = np.random.default_rng(0)
    x = jnp.float32(draw.normal(size=(500, 4, 3)) + np.array([0, 17, 0]) * draw.random((500, 4, 1)))
    values = jax.jit(ctc)(x, (jnp.ones((500, 1), int), jnp.ones(500, int)))
    assert (values >= 0).all()
    assert ctc(jnp.array([[[0.0, 17.0]] * 2]), (jnp.array([[1]]), jnp.array([1])))[0] < 1e-6


@float64
def test_classes_excluded_by_a_logit_of_minus_infinity_have_finite_gradients():
    x = logits()
    x[..., 3] = -np.inf
    labels = np.where(LABELS == 3, 1, LABELS)
    targets = jnp.array(labels), jnp.array(LENGTHS)
    values, gradient = value_and_gradient((jnp.array(x), jnp.array([4] * 4)), targets)
    finite = jnp.array(np.where(np.isinf(x), -800.0, x))
    wanted = value_and_gradient((finite, jnp.array([4] * 4)), targets)
    np.testing.assert_allclose(values, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, wanted[1], atol=1e-12)


WRONG = {
    "the blank": ([0, 2], 2, 4),
    "no class": ([1, 4], 2, 4),
    "negative": ([-1, 2], 2, 4),
    "a length beyond the labels": ([1, 2], 3, 4),
    "a negative length": ([1, 2], -1, 4),
    "a length beyond the time": ([1, 2], 2, 5),
    "no time": ([1, 2], 0, 0),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_labels_and_lengths_give_nan_in_value_and_gradient(case):
    labels, length, time = WRONG[case]
    targets = jnp.array([[1, 2], [1, 2], labels, [1, 2]]), jnp.array([1, 2, length, 0])
    values, gradient = value_and_gradient(
        (jnp.float32(logits()), jnp.array([4, 4, time, 2])), targets
    )
    assert np.isnan(values).tolist() == [False, False, True, False]
    assert np.isnan(gradient).any((1, 2)).tolist() == [False, False, True, False]


x, labels, lengths = jnp.zeros((2, 4, 3)), jnp.ones((2, 2), int), jnp.ones(2, int)
ERRORS = {
    "no lengths": (x, labels, ShapeError, r"targets: expected a pair \(labels, lengths\)"),
    "no time": (
        x[0],
        (labels, lengths),
        ShapeError,
        r"logits: expected \(batch, time, classes\), got \(4, 3\)",
    ),
    "integer logits": (
        labels[..., None],
        (labels, lengths),
        DTypeError,
        "logits: expected floating",
    ),
    "flat labels": (
        x,
        (lengths, lengths),
        ShapeError,
        r"labels: expected \(batch, length\), got \(2,\)",
    ),
    "float labels": (
        x,
        (labels.astype(float), lengths),
        DTypeError,
        "labels: expected an integer dtype",
    ),
    "fewer labels": (
        x,
        (labels[:1], lengths),
        ShapeError,
        r"labels: expected shape \(2, 2\), got \(1, 2\)",
    ),
    "one length": (
        x,
        (labels, lengths[0]),
        ShapeError,
        r"lengths: expected shape \(2,\), got \(\)",
    ),
    "one time": (
        (x, lengths[:1]),
        (labels, lengths),
        ShapeError,
        r"lengths in time: expected shape \(2,\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_shapes_and_dtypes_raise(case):
    outputs, targets, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        ctc(outputs, targets)


@pytest.mark.parametrize("blank", [3, -1, 0.0])
def test_a_blank_that_is_not_a_class_raises(blank):
    with pytest.raises(ConfigError, match="ctc blank: expected"):
        ctc(x, (labels, lengths), blank=blank)
