"""Tests of the metrics of a whole data set against scikit-learn and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import calibration_error, cross_entropy, perplexity, r2, roc_auc
from fnn.types import Weighted


def jitted(metric):
    return jax.jit(lambda *arguments: metric(*arguments))


auc, r_squared = jitted(roc_auc()), jitted(r2())


def by_bins(confidence, right, bins):
    """ECE as the paper writes it."""
    total = 0.0
    for bin in range(bins):
        inside = (confidence > bin / bins) & (confidence <= (bin + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def rows_of(confidence, classes=4):
    """Logits whose largest probability, that of class 0, is the confidence."""
    p = np.float64(confidence)[:, None]
    rest = np.maximum((1 - p) / (classes - 1), 1e-300).repeat(classes - 1, 1)
    return jnp.float32(np.log(np.concatenate([p, rest], 1)))


@pytest.mark.parametrize(
    "confidence, right, bins, wanted",
    [
        ([0.95, 1], [1, 0], 10, 0.475),
        ([0.95, 0.85, 0.85, 0.55, 0.35, 1, 1 / 3], [1, 1, 0, 0, 1, 1, 0], 10, 0.230952),
        ([0.95, 0.85, 0.85, 0.55, 0.35, 1, 1 / 3], [1, 1, 0, 0, 1, 1, 0], 15, 0.326190),
        ([0.75] * 8, [1, 1, 1, 0] * 2, 15, 0),
    ],
)
def test_the_calibration_error_has_bins_closed_above(confidence, right, bins, wanted):
    """Confidence 1 is in the last bin, and 1/3 = 5/15 in the fifth of 15."""
    labels = jnp.array(right) == 0
    got = jitted(calibration_error(bins=bins))(rows_of(confidence), labels.astype(int))
    np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.slow
def test_the_maximum_calibration_error_is_that_of_one_bin():
    confidence, right = [0.95, 1, 0.35, 0.85], [1, 0, 1, 1]
    labels = (jnp.array(right) == 0).astype(int)
    got = calibration_error(bins=10, norm="max")(rows_of(confidence), labels)
    np.testing.assert_allclose(got, 0.65, rtol=1e-5)


def test_bins_of_equal_mass_have_equally_many_examples():
    draw = np.random.default_rng(0)
    confidence = 0.3 + 0.7 * draw.permutation(30) / 30
    right = draw.integers(0, 2, 30)
    labels = (jnp.array(right) == 0).astype(int)
    order = confidence.argsort().reshape(5, 6)
    gaps = right[order].mean(1) - confidence[order].mean(1)
    for norm, wanted in (("mean", abs(gaps).mean()), ("max", abs(gaps).max())):
        metric = calibration_error(bins=5, binning="mass", norm=norm)
        np.testing.assert_allclose(jitted(metric)(rows_of(confidence), labels), wanted, rtol=1e-4)


def test_equal_confidences_are_in_one_bin_of_equal_mass():
    """Otherwise the error would depend on the order of the examples."""
    logits = rows_of([0.6] * 6 + [0.9] * 2)
    labels = jnp.array([0, 0, 0, 1, 1, 1, 0, 0])
    metric = jitted(calibration_error(bins=4, binning="mass"))
    np.testing.assert_allclose(metric(logits, labels), (6 * 0.1 + 2 * 0.1) / 8, rtol=1e-5)
    np.testing.assert_allclose(
        metric(logits[::-1], labels[::-1]), metric(logits, labels), rtol=1e-6
    )


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_the_calibration_error_equals_the_formula_of_the_paper(bins):
    draw = np.random.default_rng(bins)
    logits, labels = 3 * np.float32(draw.normal(size=(200, 3))), draw.integers(0, 3, 200)
    confidence = np.float64(jax.nn.softmax(logits)).max(-1)
    got = jitted(calibration_error(bins=bins))(logits, labels)
    np.testing.assert_allclose(
        got, by_bins(confidence, logits.argmax(-1) == labels, bins), rtol=1e-5
    )


def test_a_confidence_on_the_edge_of_a_bin_is_in_the_lower_bin():
    """(0, 1/2] and (1/2, 1]: a confidence of exactly 1/2 shares its bin with none above."""
    logits = jnp.array([[0.0, 0.0], [4.0, 0.0]])
    labels = jnp.array([1, 0])
    sure = np.exp(4) / (1 + np.exp(4))
    got = calibration_error(bins=2)(logits, labels)
    np.testing.assert_allclose(got, (0.5 + (1 - sure)) / 2, rtol=1e-6)


def test_the_calibration_error_leaves_out_a_label():
    draw = np.random.default_rng(0)
    logits, labels = jnp.float32(draw.normal(size=(20, 3))), jnp.array(draw.integers(0, 3, 20))
    padded = labels.at[:5].set(255)
    metric = jitted(calibration_error())
    assert np.isnan(metric(logits, padded))
    np.testing.assert_allclose(
        jitted(calibration_error(ignore=255))(logits.at[0].set(jnp.nan), padded),
        metric(logits[5:], labels[5:]),
        rtol=1e-6,
    )


def test_the_calibration_error_of_sure_predictions_is_zero_or_one():
    logits = 1e4 * jnp.eye(3)
    assert calibration_error()(logits, jnp.array([0, 1, 2])) == 0
    assert calibration_error()(logits, jnp.array([1, 2, 0])) == 1


def test_perplexity_of_a_uniform_guess_is_the_number_of_classes():
    np.testing.assert_allclose(
        perplexity()(jnp.zeros((3, 2, 7)), jnp.ones((3, 2), int)), 7, rtol=1e-6
    )


def test_perplexity_is_the_exponential_of_the_mean_loss():
    draw = np.random.default_rng(0)
    logits, labels = np.float32(draw.normal(size=(5, 3, 4))), draw.integers(0, 4, (5, 3))
    log_p = np.log(np.exp(np.float64(logits)) / np.exp(np.float64(logits)).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(perplexity()(logits, labels), np.exp(nll.mean()), rtol=1e-6)
    weights = np.float32(draw.random(5))
    wanted = np.exp(np.average(nll.mean(1), weights=weights))
    np.testing.assert_allclose(perplexity()(logits, labels, weights), wanted, rtol=1e-6)

    def without_0(outputs, targets):
        return Weighted(cross_entropy(outputs, targets), jnp.where(targets == 0, 0.0, 1.0))

    wanted = np.exp(nll[labels != 0].mean())
    np.testing.assert_allclose(perplexity(without_0)(logits, jnp.array(labels)), wanted, rtol=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(), (1,), (3,)]))
def test_r2_equals_scikit_learn(seed, rest):
    draw = np.random.default_rng(seed)
    outputs, targets = (draw.normal(size=(20, *rest)).astype(np.float32) for _ in range(2))
    weights = np.float32(draw.random(20))
    np.testing.assert_allclose(
        r_squared(outputs, targets), sklearn.r2_score(targets, outputs), rtol=1e-4
    )
    wanted = sklearn.r2_score(targets, outputs, sample_weight=weights)
    np.testing.assert_allclose(r_squared(outputs, targets, weights), wanted, rtol=1e-4)


def test_r2_is_exact_for_targets_far_from_zero():
    draw = np.random.default_rng(0)
    targets = np.float32(3e4 + draw.normal(size=50))
    outputs = np.float32(targets + 0.3 * draw.normal(size=50))
    wanted = sklearn.r2_score(np.float64(targets), np.float64(outputs))
    np.testing.assert_allclose(r_squared(outputs, targets), wanted, rtol=1e-5)


def test_r2_ignores_nan_in_a_first_row_of_weight_0():
    outputs, targets = jnp.array([jnp.nan, 1.0, 2.0, 4.0]), jnp.array([jnp.nan, 1.5, 2.0, 3.0])
    wanted = sklearn.r2_score(targets[1:], outputs[1:])
    np.testing.assert_allclose(
        r_squared(outputs, targets, jnp.array([0.0, 1, 1, 1])), wanted, rtol=1e-5
    )


@pytest.mark.parametrize("error, wanted", [(0.0, 1.0), (0.1, 0.0)])
def test_r2_of_targets_that_do_not_vary(error, wanted):
    targets = jnp.full(3, 0.1)
    assert r_squared(targets + error, targets) == wanted
    assert sklearn.r2_score(targets, targets + error) == wanted


def binary_problem(draw, n):
    return jnp.array(draw.normal(size=(n, 2)), jnp.float32), jnp.array(draw.integers(0, 2, n))


def regression_problem(draw, n):
    return jnp.array(draw.normal(size=n), jnp.float32), jnp.array(draw.normal(size=n), jnp.float32)


METRICS = {
    "roc_auc": (auc, binary_problem),
    "calibration_error": (jitted(calibration_error()), binary_problem),
    "equal_mass": (jitted(calibration_error(bins=3, binning="mass", norm="max")), binary_problem),
    "perplexity": (jitted(perplexity()), binary_problem),
    "r2": (r_squared, regression_problem),
}
every_metric = pytest.mark.parametrize("name", METRICS)


@every_metric
def test_examples_of_weight_0_change_nothing(name):
    metric, example = METRICS[name]
    outputs, targets = example(np.random.default_rng(0), 11)
    weights = jnp.concatenate([jnp.zeros(2), jnp.ones(11), jnp.zeros(2)])
    for filler in (0, jnp.nan):
        widths = [(2, 2), (0, 0)][: outputs.ndim]
        padded_outputs = jnp.pad(outputs, widths, constant_values=filler)
        padded = padded_outputs, jnp.pad(targets, 2)
        np.testing.assert_allclose(metric(*padded, weights), metric(outputs, targets), rtol=1e-6)
        assert metric(*padded, weights.astype(bool)) == metric(*padded, weights)


@every_metric
def test_an_example_of_weight_2_counts_twice(name):
    metric, example = METRICS[name]
    outputs, targets = example(np.random.default_rng(0), 11)
    twice = jnp.array([*range(11), 3])
    np.testing.assert_allclose(
        metric(outputs, targets, jnp.ones(11).at[3].set(2)),
        metric(outputs[twice], targets[twice]),
        rtol=1e-5,
    )


@every_metric
def test_a_vmap_lane_equals_the_data_set_alone(name):
    metric, example = METRICS[name]
    outputs, targets = example(np.random.default_rng(0), 22)
    outputs, targets = outputs.reshape(2, 11, *outputs.shape[1:]), targets.reshape(2, 11)
    lanes = jax.vmap(metric)(outputs, targets)
    for lane in range(2):
        np.testing.assert_allclose(lanes[lane], metric(outputs[lane], targets[lane]), rtol=1e-6)


@pytest.mark.usefixtures("x64")
@every_metric
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_they_compute_in_float32_at_least(name, dtype):
    metric, example = METRICS[name]
    outputs, targets = example(np.random.default_rng(0), 11)
    got = metric(outputs.astype(dtype), targets)
    assert got.dtype == (jnp.float64 if dtype == "float64" else jnp.float32)
    np.testing.assert_allclose(got, metric(outputs, targets), rtol=0.1)


ERRORS = {
    "bins": (lambda: calibration_error(bins=0), ConfigError, "calibration_error bins: expected"),
    "norm": (
        lambda: calibration_error(norm="l1"),
        ConfigError,
        "calibration_error norm: expected one of mean, max",
    ),
    "binning": (
        lambda: calibration_error(binning="adaptive"),
        ConfigError,
        "calibration_error binning: expected one of width, mass",
    ),
    "scores": (
        lambda: roc_auc()(jnp.ones((2, 3, 4)), jnp.ones(2, int)),
        ShapeError,
        r"outputs: expected scores \(n,\)",
    ),
    "labels": (
        lambda: roc_auc()(jnp.ones(2), jnp.ones(3, int)),
        ShapeError,
        r"labels: expected one an example, \(2,\)",
    ),
    "integers": (
        lambda: roc_auc()(jnp.ones(2, int), jnp.ones(2, int)),
        DTypeError,
        "outputs: expected floating",
    ),
    "weights": (
        lambda: roc_auc()(jnp.ones(2), jnp.ones(2, int), jnp.ones(())),
        ShapeError,
        r"weights: expected one an example, \(2,\), got \(\)",
    ),
    "column": (
        lambda: r2()(jnp.ones((2, 1)), jnp.ones(2)),
        ShapeError,
        r"targets: expected the outputs' shape \(2, 1\)",
    ),
    "counts": (
        lambda: r2()(jnp.ones(2), jnp.ones(2, int)),
        DTypeError,
        "targets: expected floating",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
