"""Losses are held to NumPy and SciPy in float64, to torch, and to the closed form of their gradients."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import cross_entropy, squared_error

float64 = pytest.mark.usefixtures("x64")
SCALES = (1e-2, 1.0, 30.0, 1e3)
SMOOTHINGS = (0.0, 0.1, 1.0)

every_scale = pytest.mark.parametrize("scale", SCALES)
every_smoothing = pytest.mark.parametrize("smoothing", SMOOTHINGS)


def random_problem(scale=1.0, rows=6, classes=5):
    draw = np.random.default_rng(11)
    return scale * draw.normal(size=(rows, classes)), draw.integers(0, classes, rows)


def smooth(labels, classes, smoothing):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def slope(logits, labels, smoothing=0.0):
    return jax.grad(lambda x: cross_entropy(x, labels, label_smoothing=smoothing).sum())(logits)


@float64
@every_scale
@every_smoothing
def test_cross_entropy_is_the_surprise_at_the_truth(scale, smoothing):
    logits, labels = random_problem(scale)
    wanted = -(smooth(labels, 5, smoothing) * log_softmax(logits, -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=smoothing)
    chex.assert_shape(got, (6,))
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)


@float64
@every_scale
@every_smoothing
def test_its_gradient_is_softmax_minus_target(scale, smoothing):
    logits, labels = random_problem(scale)
    wanted = softmax(logits, -1) - smooth(labels, 5, smoothing)
    np.testing.assert_allclose(slope(jnp.array(logits), jnp.array(labels), smoothing), wanted, atol=1e-14)


@every_scale
def test_float32_is_as_good_as_its_numbers(scale):
    logits, labels = random_problem(scale)
    logits = np.float32(logits)
    wanted = -(smooth(labels, 5, 0.1) * log_softmax(np.float64(logits), -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=0.1)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@float64
@every_smoothing
def test_gradient_by_the_smoothing_has_its_closed_form(smoothing):
    logits, labels = random_problem()
    log_p = log_softmax(logits, -1)
    wanted = log_p[np.arange(6), labels] - log_p.mean(-1)
    got = jax.jacfwd(lambda s: cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=s))(smoothing)
    np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_smoothing_costs_one_compilation_and_a_lane_is_a_loss():
    logits, labels = (jnp.array(value) for value in random_problem())
    logits = logits.astype(jnp.float32)

    def loss(smoothing):
        return cross_entropy(logits, labels, label_smoothing=smoothing)

    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(loss, n=1))
    looped = jnp.stack([traced(smoothing) for smoothing in SMOOTHINGS])
    chex.assert_trees_all_close(looped, jnp.stack([loss(smoothing) for smoothing in SMOOTHINGS]), rtol=1e-6)
    chex.assert_trees_all_close(jax.vmap(loss)(jnp.array(SMOOTHINGS)), looped, rtol=1e-6)


@every_smoothing
def test_labels_and_their_one_hot_rows_agree(smoothing):
    logits, labels = random_problem()
    logits, one_hot = jnp.float32(logits), jnp.float32(np.eye(5)[labels])
    got = cross_entropy(logits, one_hot, label_smoothing=smoothing)
    chex.assert_trees_all_equal(got, cross_entropy(logits, jnp.array(labels), label_smoothing=smoothing))


@float64
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SCALES), st.floats(0, 1))
def test_probabilities_are_met_by_their_cross_entropy(seed, scale, smoothing):
    draw = np.random.default_rng(seed)
    logits, truth = scale * draw.normal(size=(3, 4)), draw.dirichlet(np.ones(4), size=3)
    wanted = -(((1 - smoothing) * truth + smoothing / 4) * log_softmax(logits, -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(truth), label_smoothing=smoothing)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
def test_labels_of_every_integer_dtype_agree(dtype):
    logits, labels = random_problem(classes=120)
    logits = jnp.float32(logits)
    chex.assert_trees_all_equal(cross_entropy(logits, jnp.array(labels, dtype)), cross_entropy(logits, labels))


def test_small_labels_reach_many_classes():
    """300 classes overflow uint8, the labels do not."""
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(4, 300)), np.array([0, 43, 44, 255], np.uint8)
    wanted = -log_softmax(logits, -1)[np.arange(4), labels]
    np.testing.assert_allclose(cross_entropy(jnp.float32(logits), jnp.array(labels)), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_logits_are_computed_in_float32(dtype):
    logits, labels = random_problem(10.0, classes=50)
    short, labels = jnp.asarray(logits, dtype), jnp.array(labels)
    got = cross_entropy(short, labels, label_smoothing=0.1)
    chex.assert_type(got, jnp.float32)
    chex.assert_trees_all_equal(got, cross_entropy(short.astype(jnp.float32), labels, label_smoothing=0.1))
    chex.assert_type(slope(short, labels), jnp.dtype(dtype))


def test_sequences_have_a_loss_a_place():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, 3, 5)), draw.integers(0, 5, (2, 3))
    wanted = -np.take_along_axis(log_softmax(logits, -1), labels[..., None], -1)[..., 0]
    logits, labels = jnp.float32(logits), jnp.array(labels)
    np.testing.assert_allclose(cross_entropy(logits, labels), wanted, rtol=1e-6)
    one_hot = jax.nn.one_hot(labels, 5)
    chex.assert_trees_all_equal(cross_entropy(logits, one_hot), cross_entropy(logits, labels))


RULED_OUT = np.array([[0.5, -np.inf, 2.0, -1.0], [-np.inf, -np.inf, 1.0, 0.0]])


@float64
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_a_class_ruled_out_by_minus_infinity_costs_nothing(one_hot, traced):
    labels = np.array([0, 3])
    targets = jnp.array(np.eye(4)[labels] if one_hot else labels)

    def loss(logits, smoothing):
        return cross_entropy(logits, targets, label_smoothing=smoothing if traced else 0.0)

    values = jax.jit(loss)(jnp.array(RULED_OUT), 0.0)
    np.testing.assert_allclose(values, -log_softmax(RULED_OUT, -1)[[0, 1], labels], rtol=1e-14)
    gradient = jax.jit(jax.grad(lambda *args: loss(*args).sum()))(jnp.array(RULED_OUT), 0.0)
    np.testing.assert_allclose(gradient, softmax(RULED_OUT, -1) - np.eye(4)[labels], atol=1e-15)


def test_a_truth_ruled_out_by_minus_infinity_is_an_infinite_surprise():
    assert cross_entropy(jnp.float32(RULED_OUT), jnp.array([1, 2]))[0] == jnp.inf


def test_a_smoothed_class_ruled_out_by_minus_infinity_is_an_infinite_surprise():
    assert (cross_entropy(jnp.float32(RULED_OUT), jnp.array([0, 3]), label_smoothing=0.1) == jnp.inf).all()


WRONG = {
    "one past the last": [0, 5, 1],
    "negative": [0, -1, 1],
    "far past the last": [0, 2**31 - 1, 1],
    "far negative": [0, -(2**31), 1],
}


@pytest.mark.parametrize("case", WRONG)
@every_smoothing
def test_a_wrong_label_makes_its_row_and_its_gradient_nan(case, smoothing):
    logits, labels = jnp.float32(random_problem(rows=3)[0]), jnp.array(WRONG[case])
    values, gradient = cross_entropy(logits, labels, label_smoothing=smoothing), slope(logits, labels, smoothing)
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.isnan(gradient).tolist() == [[False] * 5, [True] * 5, [False] * 5]


def test_a_wrong_label_of_an_unsigned_dtype_is_seen():
    values = cross_entropy(jnp.zeros((3, 5)), jnp.array([4, 2**32 - 1, 5], jnp.uint32))
    assert np.isnan(values).tolist() == [False, True, True]


@float64
def test_a_wrong_label_of_64_bits_is_seen():
    values = cross_entropy(jnp.zeros((3, 5)), jnp.array([4, 2**32 + 1, -(2**32)]))
    assert np.isnan(values).tolist() == [False, True, True]


ROWS = {
    "all zeros, the one-hot row of a wrong label": [0.0, 0.0, 0.0],
    "too much": [0.7, 0.7, 0.0],
    "too little": [0.5, 0.2, 0.2],
    "not a number": [np.nan, 0.5, 0.5],
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_is_no_distribution_makes_its_row_and_its_gradient_nan(case):
    logits, targets = jnp.ones((2, 3)), jnp.array([[0.2, 0.3, 0.5], ROWS[case]])
    assert np.isnan(cross_entropy(logits, targets)).tolist() == [False, True]
    assert np.isnan(slope(logits, targets)).tolist() == [[False] * 3, [True] * 3]


def test_a_distribution_in_bfloat16_is_one():
    targets = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(1000), size=3), jnp.bfloat16)
    assert np.isfinite(cross_entropy(jnp.ones((3, 1000)), targets)).all()


def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "losses.npz") as file:
        return dict(file)


@float64
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_cross_entropy_is_that_of_torch(scale, smoothing):
    expect_torch(f"labels/{scale}/{smoothing}", lambda x, labels: cross_entropy(x, labels, label_smoothing=smoothing))


@float64
def test_cross_entropy_with_probabilities_is_that_of_torch():
    expect_torch("probabilities", lambda x, targets: cross_entropy(x, targets, label_smoothing=0.1))


@float64
def test_squared_error_is_that_of_torch():
    expect_torch("squared_error", squared_error)


def expect_torch(case, loss):
    arrays = golden()
    x, labels, weight = (jnp.array(arrays[f"{case}/{name}"]) for name in ("x", "labels", "weight"))
    values, pull = jax.vjp(lambda x: loss(x, labels), x)
    np.testing.assert_allclose(values, arrays[f"{case}/y"], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(pull(weight)[0], arrays[f"{case}/dx"], rtol=1e-13, atol=1e-13)


CROSS_ENTROPY_ERRORS = {
    "integer logits": (jnp.ones((2, 3), jnp.uint8), [0, 1], DTypeError, "logits: expected floating.*got uint8"),
    "float labels": (jnp.ones((2, 3)), [0.0, 1.0], DTypeError, "labels: expected an integer dtype, got float32"),
    "boolean labels": (jnp.ones((2, 3)), [True, False], DTypeError, "labels: expected an integer dtype, got bool"),
    "fewer labels": (jnp.ones((2, 3)), [0], ShapeError, r"labels: .*\(2, 3\), got \(1,\)"),
    "more labels": (jnp.ones((2, 3)), [0, 1, 2], ShapeError, r"labels: .*\(2, 3\), got \(3,\)"),
    "scalar label": (jnp.ones((2, 3)), 0, ShapeError, r"labels: .*\(2, 3\), got \(\)"),
    "no batch": (jnp.ones(3), 0, ShapeError, r"labels: .*\(3,\), got \(\)"),
    "no classes": (jnp.ones(()), 0, (ShapeError, DTypeError), "expected"),
    "column of labels": (jnp.ones((2, 3)), [[0], [1]], DTypeError, r"targets: expected float probabilities \(2, 3\)"),
    "integer one-hot": (jnp.ones((2, 2)), [[0, 1], [1, 0]], DTypeError, "targets: expected float prob.*got int32"),
    "column of floats": (jnp.ones((2, 3)), [[1.0], [1.0]], ShapeError, r"targets: .*\(2, 3\), got \(2, 1\)"),
    "row of floats": (jnp.ones((2, 3)), [[1.0, 0.0, 0.0]], ShapeError, r"targets: .*\(2, 3\), got \(1, 3\)"),
    "labels of more axes": (jnp.ones((2, 3)), jnp.ones((2, 3, 1), jnp.int32), ShapeError, "labels"),
}


@pytest.mark.parametrize("case", CROSS_ENTROPY_ERRORS)
def test_targets_that_do_not_fit_are_told(case):
    logits, labels, error, message = CROSS_ENTROPY_ERRORS[case]
    with pytest.raises(error, match=message):
        cross_entropy(logits, jnp.array(labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan"), "0.1", None, [0.1, 0.1]])
def test_a_smoothing_out_of_range_is_told(smoothing):
    with pytest.raises(ConfigError, match=r"cross_entropy label_smoothing: expected"):
        cross_entropy(jnp.ones((2, 3)), jnp.array([0, 1]), label_smoothing=smoothing)


@float64
@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 3, 2)])
def test_squared_error_is_the_mean_of_squares(shape):
    draw = np.random.default_rng(0)
    outputs, targets = draw.normal(size=shape), draw.normal(size=shape)
    wanted = ((outputs - targets) ** 2).reshape(4, -1).mean(1)
    got = squared_error(jnp.array(outputs), jnp.array(targets))
    chex.assert_shape(got, (4,))
    np.testing.assert_allclose(got, wanted, rtol=1e-14)
    gradient = jax.grad(lambda x: squared_error(x, jnp.array(targets)).sum())(jnp.array(outputs))
    np.testing.assert_allclose(gradient, 2 * (outputs - targets) * 4 / outputs.size, rtol=1e-14)


def test_squared_error_has_no_value_for_no_examples():
    with pytest.raises(ShapeError, match=r"outputs: expected at least one example .*got \(0, 3\)"):
        squared_error(jnp.ones((0, 3)), jnp.ones((0, 3)))


SQUARED_ERROR_ERRORS = {
    "column": (jnp.ones((4, 1)), jnp.ones(4), ShapeError, r"targets: .*\(4, 1\), got \(4,\)"),
    "fewer": (jnp.ones((4, 2)), jnp.ones((1, 2)), ShapeError, r"targets: .*\(4, 2\), got \(1, 2\)"),
    "scalar target": (jnp.ones(4), jnp.ones(()), ShapeError, r"targets: .*\(4,\), got \(\)"),
    "scalars": (jnp.ones(()), jnp.ones(()), ShapeError, "outputs: expected"),
    "integer outputs": (jnp.ones(4, jnp.int32), jnp.ones(4), DTypeError, "outputs: expected floating"),
    "integer targets": (jnp.ones(4), jnp.ones(4, jnp.uint8), DTypeError, "targets: expected floating.*got uint8"),
}


@pytest.mark.parametrize("case", SQUARED_ERROR_ERRORS)
def test_outputs_and_targets_that_do_not_fit_are_told(case):
    outputs, targets, error, message = SQUARED_ERROR_ERRORS[case]
    with pytest.raises(error, match=message):
        squared_error(outputs, targets)
