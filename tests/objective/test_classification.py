"""Tests of the classification losses against NumPy, SciPy and torch, with closed-form gradients."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logsumexp, rel_entr, softmax

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import (
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    focal,
    hinge,
    kl_divergence,
    nll,
)

pytestmark = pytest.mark.slow

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


@jax.jit
def slope(logits, labels, smoothing=0.0):
    return jax.grad(lambda x: cross_entropy(x, labels, label_smoothing=smoothing).sum())(logits)


@float64
@every_scale
@every_smoothing
def test_cross_entropy_equals_its_formula(scale, smoothing):
    logits, labels = random_problem(scale)
    wanted = -(smooth(labels, 5, smoothing) * log_softmax(logits, -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=smoothing)
    chex.assert_shape(got, (6,))
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)


@float64
@every_scale
@every_smoothing
def test_the_gradient_of_cross_entropy_is_softmax_minus_target(scale, smoothing):
    logits, labels = random_problem(scale)
    wanted = softmax(logits, -1) - smooth(labels, 5, smoothing)
    np.testing.assert_allclose(
        slope(jnp.array(logits), jnp.array(labels), smoothing), wanted, atol=1e-14
    )


@every_scale
def test_cross_entropy_in_float32_is_exact_to_rounding(scale):
    logits, labels = random_problem(scale)
    logits = np.float32(logits)
    wanted = -(smooth(labels, 5, 0.1) * log_softmax(np.float64(logits), -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=0.1)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@float64
@every_smoothing
def test_the_gradient_by_the_smoothing_has_its_closed_form(smoothing):
    logits, labels = random_problem()
    log_p = log_softmax(logits, -1)
    wanted = log_p[np.arange(6), labels] - log_p.mean(-1)
    got = jax.jit(
        jax.jacfwd(lambda s: cross_entropy(jnp.array(logits), jnp.array(labels), label_smoothing=s))
    )(smoothing)
    np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_smoothing_compiles_once_and_a_vmap_lane_equals_a_loss():
    logits, labels = (jnp.array(value) for value in random_problem())
    logits = logits.astype(jnp.float32)

    def loss(smoothing):
        return cross_entropy(logits, labels, label_smoothing=smoothing)

    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(loss, n=1))
    looped = jnp.stack([traced(smoothing) for smoothing in SMOOTHINGS])
    chex.assert_trees_all_close(
        looped, jnp.stack([loss(smoothing) for smoothing in SMOOTHINGS]), rtol=1e-6
    )
    chex.assert_trees_all_close(jax.vmap(loss)(jnp.array(SMOOTHINGS)), looped, rtol=1e-6)


@every_smoothing
def test_labels_and_their_one_hot_rows_agree(smoothing):
    logits, labels = random_problem()
    logits, one_hot = jnp.float32(logits), jnp.float32(np.eye(5)[labels])
    got = cross_entropy(logits, one_hot, label_smoothing=smoothing)
    chex.assert_trees_all_equal(
        got, cross_entropy(logits, jnp.array(labels), label_smoothing=smoothing)
    )


@float64
@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SCALES), st.floats(0, 1))
def test_cross_entropy_with_probabilities_equals_its_formula(seed, scale, smoothing):
    draw = np.random.default_rng(seed)
    logits, truth = scale * draw.normal(size=(3, 4)), draw.dirichlet(np.ones(4), size=3)
    wanted = -(((1 - smoothing) * truth + smoothing / 4) * log_softmax(logits, -1)).sum(-1)
    got = cross_entropy(jnp.array(logits), jnp.array(truth), label_smoothing=smoothing)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
def test_labels_of_every_integer_dtype_agree(dtype):
    logits, labels = random_problem(classes=120)
    logits = jnp.float32(logits)
    chex.assert_trees_all_equal(
        cross_entropy(logits, jnp.array(labels, dtype)), cross_entropy(logits, labels)
    )


def test_uint8_labels_work_with_many_classes():
    """300 classes overflow uint8, the labels do not."""
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(4, 300)), np.array([0, 43, 44, 255], np.uint8)
    wanted = -log_softmax(logits, -1)[np.arange(4), labels]
    np.testing.assert_allclose(
        cross_entropy(jnp.float32(logits), jnp.array(labels)), wanted, rtol=1e-6
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, labels = random_problem(10.0, classes=50)
    short, labels = jnp.asarray(logits, dtype), jnp.array(labels)
    got = cross_entropy(short, labels, label_smoothing=0.1)
    chex.assert_type(got, jnp.float32)
    chex.assert_trees_all_equal(
        got, cross_entropy(short.astype(jnp.float32), labels, label_smoothing=0.1)
    )
    chex.assert_type(slope(short, labels), jnp.dtype(dtype))


def test_sequences_have_a_loss_for_each_position():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, 3, 5)), draw.integers(0, 5, (2, 3))
    wanted = -np.take_along_axis(log_softmax(logits, -1), labels[..., None], -1)[..., 0]
    logits, labels = jnp.float32(logits), jnp.array(labels)
    np.testing.assert_allclose(cross_entropy(logits, labels), wanted, rtol=1e-6)
    one_hot = jax.nn.one_hot(labels, 5)
    chex.assert_trees_all_equal(cross_entropy(logits, one_hot), cross_entropy(logits, labels))


INFINITE_LOGITS = np.array([[0.5, -np.inf, 2.0, -1.0], [-np.inf, -np.inf, 1.0, 0.0]])


@float64
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_a_wrong_class_with_logit_minus_infinity_adds_nothing(one_hot, traced):
    labels = np.array([0, 3])
    targets = jnp.array(np.eye(4)[labels] if one_hot else labels)

    def loss(logits, smoothing):
        return cross_entropy(logits, targets, label_smoothing=smoothing if traced else 0.0)

    values = jax.jit(loss)(jnp.array(INFINITE_LOGITS), 0.0)
    np.testing.assert_allclose(
        values, -log_softmax(INFINITE_LOGITS, -1)[[0, 1], labels], rtol=1e-14
    )
    gradient = jax.jit(jax.grad(lambda *args: loss(*args).sum()))(jnp.array(INFINITE_LOGITS), 0.0)
    np.testing.assert_allclose(
        gradient, softmax(INFINITE_LOGITS, -1) - np.eye(4)[labels], atol=1e-15
    )


def test_a_true_class_with_logit_minus_infinity_gives_infinity():
    assert cross_entropy(jnp.float32(INFINITE_LOGITS), jnp.array([1, 2]))[0] == jnp.inf


def test_a_smoothed_class_with_logit_minus_infinity_gives_infinity():
    logits = jnp.float32(INFINITE_LOGITS)
    values = cross_entropy(logits, jnp.array([0, 3]), label_smoothing=0.1)
    assert (values == jnp.inf).all()


WRONG_LABELS = {
    "one past the last": [0, 5, 1],
    "negative": [0, -1, 1],
    "far past the last": [0, 2**31 - 1, 1],
    "far negative": [0, -(2**31), 1],
}


@pytest.mark.parametrize("case", WRONG_LABELS)
@every_smoothing
def test_a_label_out_of_range_makes_its_row_and_its_gradient_nan(case, smoothing):
    logits, labels = jnp.float32(random_problem(rows=3)[0]), jnp.array(WRONG_LABELS[case])
    values = cross_entropy(logits, labels, label_smoothing=smoothing)
    gradient = slope(logits, labels, smoothing)
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.isnan(gradient).tolist() == [[False] * 5, [True] * 5, [False] * 5]


def test_an_unsigned_label_out_of_range_gives_nan():
    values = cross_entropy(jnp.zeros((3, 5)), jnp.array([4, 2**32 - 1, 5], jnp.uint32))
    assert np.isnan(values).tolist() == [False, True, True]


@float64
def test_an_int64_label_out_of_range_gives_nan():
    values = cross_entropy(jnp.zeros((3, 5)), jnp.array([4, 2**32 + 1, -(2**32)]))
    assert np.isnan(values).tolist() == [False, True, True]


WRONG_ROWS = {
    "all zeros, the one-hot row of a wrong label": [0.0, 0.0, 0.0],
    "more than one": [0.7, 0.7, 0.0],
    "less than one": [0.5, 0.2, 0.2],
    "not a number": [np.nan, 0.5, 0.5],
    "a negative entry": [2.0, -1.0, 0.0],
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_probabilities_that_do_not_sum_to_one_make_their_row_nan(case):
    logits, targets = jnp.ones((2, 3)), jnp.array([[0.2, 0.3, 0.5], WRONG_ROWS[case]])
    assert np.isnan(cross_entropy(logits, targets)).tolist() == [False, True]
    assert np.isnan(slope(logits, targets)).tolist() == [[False] * 3, [True] * 3]


def test_probabilities_rounded_to_bfloat16_are_accepted():
    targets = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(1000), size=3), jnp.bfloat16)
    assert np.isfinite(cross_entropy(jnp.ones((3, 1000)), targets)).all()


def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "losses.npz") as file:
        return dict(file)


@float64
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_cross_entropy_equals_torch(scale, smoothing):
    expect_torch(
        f"labels/{scale}/{smoothing}",
        lambda x, labels: cross_entropy(x, labels, label_smoothing=smoothing),
    )


@float64
def test_cross_entropy_with_probabilities_equals_torch():
    expect_torch("probabilities", lambda x, targets: cross_entropy(x, targets, label_smoothing=0.1))


def expect_torch(case, loss):
    arrays = golden()
    x, labels, weight = (jnp.array(arrays[f"{case}/{name}"]) for name in ("x", "labels", "weight"))
    values, pull = jax.vjp(lambda x: loss(x, labels), x)
    np.testing.assert_allclose(values, arrays[f"{case}/y"], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(pull(weight)[0], arrays[f"{case}/dx"], rtol=1e-13, atol=1e-13)


CROSS_ENTROPY_ERRORS = {
    "integer logits": (
        jnp.ones((2, 3), jnp.uint8),
        [0, 1],
        DTypeError,
        "logits: expected floating.*got uint8",
    ),
    "float labels": (
        jnp.ones((2, 3)),
        [0.0, 1.0],
        DTypeError,
        "labels: expected an integer dtype, got float32",
    ),
    "boolean labels": (
        jnp.ones((2, 3)),
        [True, False],
        DTypeError,
        "labels: expected an integer dtype, got bool",
    ),
    "fewer labels": (jnp.ones((2, 3)), [0], ShapeError, r"labels: .*\(2, 3\), got \(1,\)"),
    "more labels": (jnp.ones((2, 3)), [0, 1, 2], ShapeError, r"labels: .*\(2, 3\), got \(3,\)"),
    "scalar label": (jnp.ones((2, 3)), 0, ShapeError, r"labels: .*\(2, 3\), got \(\)"),
    "no batch": (jnp.ones(3), 0, ShapeError, r"labels: .*\(3,\), got \(\)"),
    "no classes": (jnp.ones(()), 0, (ShapeError, DTypeError), "expected"),
    "column of labels": (
        jnp.ones((2, 3)),
        [[0], [1]],
        DTypeError,
        r"targets: expected float probabilities \(2, 3\)",
    ),
    "integer one-hot": (
        jnp.ones((2, 2)),
        [[0, 1], [1, 0]],
        DTypeError,
        "targets: expected float prob.*got int32",
    ),
    "column of floats": (
        jnp.ones((2, 3)),
        [[1.0], [1.0]],
        ShapeError,
        r"targets: .*\(2, 3\), got \(2, 1\)",
    ),
    "row of floats": (
        jnp.ones((2, 3)),
        [[1.0, 0.0, 0.0]],
        ShapeError,
        r"targets: .*\(2, 3\), got \(1, 3\)",
    ),
    "labels of more axes": (jnp.ones((2, 3)), jnp.ones((2, 3, 1), jnp.int32), ShapeError, "labels"),
}


@pytest.mark.parametrize("case", CROSS_ENTROPY_ERRORS)
def test_targets_of_cross_entropy_that_do_not_fit_raise(case):
    logits, labels, error, message = CROSS_ENTROPY_ERRORS[case]
    with pytest.raises(error, match=message):
        cross_entropy(logits, jnp.array(labels))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan"), "0.1", None, [0.1, 0.1]])
def test_a_smoothing_out_of_range_raises(smoothing):
    with pytest.raises(ConfigError, match=r"cross_entropy label_smoothing: expected"):
        cross_entropy(jnp.ones((2, 3)), jnp.array([0, 1]), label_smoothing=smoothing)


@float64
def test_nll_of_log_softmax_equals_cross_entropy():
    logits, labels = random_problem()
    log_p = jnp.array(log_softmax(logits, -1))
    for targets in (jnp.array(labels), jnp.array(smooth(labels, 5, 0.3))):
        chex.assert_trees_all_close(
            nll(log_p, targets), cross_entropy(jnp.array(logits), targets), rtol=1e-14
        )
    gradient = jax.jit(jax.grad(lambda x: nll(x, jnp.array(labels)).sum()))(log_p)
    np.testing.assert_array_equal(gradient, -np.eye(5)[labels])


def test_nll_of_an_impossible_class_is_infinite():
    log_p = jnp.log(jnp.array([[0.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(nll(log_p, jnp.array([0, 1])), [np.inf, 0])


def test_nll_of_logits_or_of_a_wrong_label_is_nan():
    log_p = jnp.float32(log_softmax(random_problem(rows=3)[0], -1))
    values, gradient = jax.jit(nll), jax.jit(jax.grad(lambda x, labels: nll(x, labels).sum()))
    for x, labels in ((log_p.at[1].add(0.1), [0, 1, 2]), (log_p, [0, 5, 2])):
        assert np.isnan(values(x, jnp.array(labels))).tolist() == [False, True, False]
        assert np.isnan(gradient(x, jnp.array(labels))).tolist() == [
            [False] * 5,
            [True] * 5,
            [False] * 5,
        ]


def test_log_probabilities_rounded_to_bfloat16_are_accepted():
    for classes in (2, 10, 1000, 50_000):
        log_p = jax.nn.log_softmax(jnp.zeros((1, classes))).astype(jnp.bfloat16)
        assert np.isfinite(nll(log_p, jnp.array([0])))


@float64
@every_scale
@every_smoothing
def test_binary_cross_entropy_equals_that_of_two_classes(scale, smoothing):
    draw = np.random.default_rng(0)
    logits, answers = scale * draw.normal(size=(4, 3)), draw.integers(0, 2, (4, 3))
    pairs = jnp.stack([jnp.zeros((4, 3)), jnp.array(logits)], -1)
    wanted = cross_entropy(pairs, jnp.array(answers), label_smoothing=smoothing).mean(1)
    for targets in (answers, answers.astype(bool), answers.astype(float)):
        got = binary_cross_entropy(jnp.array(logits), jnp.array(targets), label_smoothing=smoothing)
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-15)
    q = (1 - smoothing) * answers + smoothing / 2
    gradient = jax.grad(
        lambda z: binary_cross_entropy(z, jnp.array(answers), label_smoothing=smoothing).sum()
    )
    np.testing.assert_allclose(gradient(jnp.array(logits)), (expit(logits) - q) / 3, atol=1e-14)


def test_binary_cross_entropy_is_exact_for_large_logits():
    got = binary_cross_entropy(jnp.array([50.0, -50.0]), jnp.array([1, 0]))
    np.testing.assert_allclose(got, np.exp(-50.0), rtol=1e-6)


@float64
@every_smoothing
def test_a_weight_of_yes_multiplies_its_likelihood(smoothing):
    """As pos_weight of torch's BCEWithLogitsLoss: one weight, or one for each entry."""
    draw = np.random.default_rng(0)
    logits, answers = draw.normal(size=(4, 3)), draw.integers(0, 2, (4, 3))
    q = (1 - smoothing) * answers + smoothing / 2
    for weight in (3.0, (0.5, 2.0, 4.0), np.array([0.5, 2.0, 4.0]), jnp.array([0.5, 2.0, 4.0])):
        terms = np.asarray(weight) * q * np.log(expit(logits)) + (1 - q) * np.log(expit(-logits))
        options = {"label_smoothing": smoothing, "pos_weight": weight}
        got = binary_cross_entropy(jnp.array(logits), jnp.array(answers), **options)
        np.testing.assert_allclose(got, -terms.mean(1), rtol=1e-12)
        assert binary_cross_entropy(**options) == binary_cross_entropy(**options)
    slopes = jax.jit(
        jax.grad(
            lambda weight: binary_cross_entropy(
                jnp.array(logits), jnp.array(answers), pos_weight=weight
            ).sum()
        )
    )(2.0)
    np.testing.assert_allclose(slopes, -(answers * np.log(expit(logits))).mean(1).sum(), rtol=1e-12)


def test_wrong_weights_of_yes_raise():
    logits = jnp.ones((4, 3))
    for weight, error in ((-1.0, ConfigError), ((1.0, -1.0, 1.0), ConfigError), ("2", ConfigError),
                          ((1.0, 2.0), ShapeError), (jnp.ones(4), ShapeError)):  # fmt: skip
        with pytest.raises(error, match="binary_cross_entropy pos_weight"):
            binary_cross_entropy(logits, logits, pos_weight=weight)


@float64
@every_scale
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.25, None])
def test_binary_focal_equals_its_formula(scale, gamma, alpha):
    draw = np.random.default_rng(0)
    z, t = scale * draw.normal(size=(4, 3)), draw.integers(0, 2, (4, 3))
    sign = 2 * t - 1
    balance = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    values = balance * np.exp(gamma * -np.logaddexp(0, sign * z)) * np.logaddexp(0, -sign * z)
    for targets in (t, t.astype(bool), t.astype(float)):
        got = binary_focal(jnp.array(z), jnp.array(targets), gamma=gamma, alpha=alpha)
        np.testing.assert_allclose(got, values.mean(1), rtol=1e-12)


@float64
def test_binary_focal_of_probabilities_equals_the_formula_of_torchvision():
    draw = np.random.default_rng(0)
    z, t = draw.normal(size=(4, 3)), draw.random((4, 3))
    p = expit(z)
    surprise = -t * np.log(p) - (1 - t) * np.log(1 - p)
    rest = 1 - (p * t + (1 - p) * (1 - t))
    wanted = (0.25 * t + 0.75 * (1 - t)) * surprise * rest**2
    np.testing.assert_allclose(binary_focal(jnp.array(z), jnp.array(t)), wanted.mean(1), rtol=1e-12)


SURE = jnp.array([-jnp.inf, jnp.inf, jnp.inf, -jnp.inf])


@pytest.mark.parametrize("loss", [
    binary_cross_entropy,
    binary_focal(gamma=0.0, alpha=None),
    binary_focal(gamma=2.0, alpha=None),
], ids=repr)  # fmt: skip
def test_infinite_logits_of_yes_and_no_have_the_limits_of_value_and_gradient(loss):
    answers = jnp.array([0, 1, 0, 1])
    np.testing.assert_array_equal(loss(SURE, answers), [0, 0, np.inf, np.inf])
    gradient = jax.jit(jax.grad(lambda z: loss(z, answers).sum()))(SURE)
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1])


EXCLUDED = jnp.array([[0.0, -jnp.inf, 1.0], [0.0, -jnp.inf, -jnp.inf], [0.0, -jnp.inf, -jnp.inf]])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_with_excluded_classes_has_the_limits_of_value_and_gradient(gamma):
    labels = jnp.array([0, 0, 1])
    finite = jnp.where(jnp.isneginf(EXCLUDED), -1e5, EXCLUDED)
    values, gradient = (
        focal(EXCLUDED, labels, gamma=gamma),
        jax.grad(lambda x: focal(x, labels, gamma=gamma).sum()),
    )
    np.testing.assert_allclose(values[:2], focal(finite, labels, gamma=gamma)[:2], rtol=1e-6)
    assert values[2] == jnp.inf
    np.testing.assert_allclose(gradient(EXCLUDED), gradient(finite), atol=1e-6)


def test_kl_divergence_with_excluded_classes_equals_scipy():
    q = jnp.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    wanted = rel_entr(np.float64(q), softmax(np.float64(EXCLUDED), -1)).sum(-1)
    np.testing.assert_allclose(kl_divergence(EXCLUDED, q), wanted, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: kl_divergence(x, q).sum()))(EXCLUDED)
    np.testing.assert_allclose(gradient, softmax(np.float64(EXCLUDED), -1) - q, atol=1e-6)


def test_kl_divergence_of_equal_distributions_is_not_negative():
    logits = jnp.float32(5 * np.random.default_rng(0).normal(size=(200, 30)))
    values = kl_divergence(logits, jax.nn.softmax(logits))
    assert (values >= 0).all() and (values < 1e-6).all()


def test_hinge_of_excluded_classes_adds_nothing():
    labels = jnp.array([0, 0])
    np.testing.assert_array_equal(hinge(EXCLUDED[:2], labels), [2, 0])
    gradient = jax.jit(jax.grad(lambda x: hinge(x, labels).sum()))(EXCLUDED[:2])
    np.testing.assert_array_equal(gradient, [[-1, 0, 1], [0, 0, 0]])


def test_the_gradient_of_binary_cross_entropy_at_0_is_that_of_the_sigmoid():
    answers = jnp.array([0.0, 1.0, 0.25])
    gradient = jax.jit(jax.grad(lambda z: binary_cross_entropy(z, answers).sum()))(jnp.zeros(3))
    np.testing.assert_allclose(gradient, 0.5 - answers)
    second = jax.jit(jax.hessian(lambda z: binary_cross_entropy(z, answers).sum()))(jnp.zeros(3))
    np.testing.assert_allclose(jnp.diag(second), 0.25)


@pytest.mark.parametrize("loss", [cross_entropy, nll, focal, hinge])
def test_one_class_raises(loss):
    with pytest.raises(ShapeError, match=r"logits: expected two classes or more.*binary_cross_ent"):
        loss(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32))


def test_the_gradient_of_cross_entropy_keeps_no_array_of_the_size_of_the_logits():
    shapes = jax.ShapeDtypeStruct((64, 5000), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    smoothing = jax.ShapeDtypeStruct((), jnp.float32)

    def mean(logits, labels, smoothing):
        return cross_entropy(logits, labels, label_smoothing=smoothing).mean()

    default = jax.grad(lambda logits, labels: mean(logits, labels, 0.0))
    for gradient, arguments in ((default, shapes), (jax.grad(mean), (*shapes, smoothing))):
        compiled = jax.jit(gradient).lower(*arguments).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 64 * 5000


@float64
def test_the_second_derivatives_of_cross_entropy_have_their_closed_form():
    logits, labels = random_problem(rows=1, classes=4)
    p = softmax(logits[0])
    hessian = jax.jit(jax.hessian(lambda x: cross_entropy(x, labels)[0]))(logits)
    np.testing.assert_allclose(hessian[0, :, 0], np.diag(p) - np.outer(p, p), atol=1e-14)
    mixed = jax.jit(jax.jacfwd(lambda s: slope(jnp.array(logits), jnp.array(labels), s)))(0.3)
    np.testing.assert_allclose(mixed[0], np.eye(4)[labels[0]] - 0.25, atol=1e-14)


@pytest.mark.parametrize("answer", [-1, 2, 1.01, np.nan])
def test_a_target_outside_zero_and_one_gives_nan(answer):
    targets = jnp.array([1, answer, 0])
    values = jax.jit(binary_cross_entropy)(jnp.ones(3), targets)
    gradient = jax.jit(jax.grad(lambda z: binary_cross_entropy(z, targets).sum()))(jnp.ones(3))
    assert np.isnan(values).tolist() == np.isnan(gradient).tolist() == [False, True, False]


@float64
@every_scale
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_equals_its_formula(scale, gamma):
    logits, labels = random_problem(scale)
    others = np.where(np.eye(5, dtype=bool)[labels], -np.inf, log_softmax(logits, -1))
    wanted = np.exp(gamma * logsumexp(others, -1)) * -log_softmax(logits, -1)[np.arange(6), labels]
    got = focal(jnp.array(logits), jnp.array(labels), gamma=gamma)
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


@float64
def test_focal_with_gamma_zero_equals_cross_entropy():
    logits, labels = (jnp.array(value) for value in random_problem(30.0))
    chex.assert_trees_all_close(
        focal(logits, labels, gamma=0.0), cross_entropy(logits, labels), rtol=1e-14
    )
    gradient = jax.jit(jax.grad(lambda x: focal(x, labels, gamma=0.0).sum()))(logits)
    np.testing.assert_allclose(gradient, slope(logits, labels), atol=1e-14)


def test_focal_has_finite_gradients_at_probability_one():
    logits, labels = jnp.array([[1e4, 0.0, -1e4], [-1e4, 0.0, 0.0]]), jnp.array([0, 0])
    slopes = jax.jit(jax.jacrev(lambda x, gamma: focal(x, labels, gamma=gamma), (0, 1)))
    for gamma in (0.0, 0.5, 2.0):
        chex.assert_tree_all_finite(slopes(logits, gamma))


@float64
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
def test_hinge_equals_its_formula(margin):
    scores, labels = random_problem(3.0)
    lacks = np.array(
        [
            [max(0, row[j] - row[y] + margin) if j != y else 0 for j in range(5)]
            for row, y in zip(scores, labels, strict=True)
        ]
    )
    np.testing.assert_allclose(
        hinge(jnp.array(scores), jnp.array(labels), margin=margin), lacks.sum(1), rtol=1e-14
    )
    gradient = jax.jit(jax.grad(lambda s: hinge(s, jnp.array(labels), margin=margin).sum()))(
        jnp.array(scores)
    )
    wanted = (lacks > 0) - np.eye(5)[labels] * (lacks > 0).sum(1)[:, None]
    np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("loss", [focal, hinge])
@pytest.mark.parametrize("case", WRONG_LABELS)
def test_a_wrong_label_gives_nan_in_value_and_gradient(loss, case):
    x, labels = jnp.float32(random_problem(rows=3)[0]), jnp.array(WRONG_LABELS[case])
    values = jax.jit(loss)(x, labels)
    gradient = jax.jit(jax.grad(lambda x: loss(x, labels).sum()))(x)
    assert np.isnan(values).tolist() == [False, True, False]
    assert np.isnan(gradient).tolist() == [[False] * 5, [True] * 5, [False] * 5]


def test_focal_with_one_class_raises():
    with pytest.raises(ShapeError, match=r"logits: expected two classes or more, got \(2, 1\)"):
        focal(jnp.ones((2, 1)), jnp.array([0, 0]))


OPTIONS = [
    (binary_cross_entropy, "label_smoothing", 1.5),
    (focal, "gamma", -1.0),
    (hinge, "margin", -0.1),
]


@pytest.mark.parametrize(("loss", "option", "value"), OPTIONS)
def test_an_option_out_of_range_raises(loss, option, value):
    with pytest.raises(ConfigError, match=f"{loss.__name__} {option}: expected a number in"):
        loss(jnp.ones((2, 3)), jnp.array([0, 1]), **{option: value})


def kl_problem():
    draw = np.random.default_rng(0)
    q = draw.dirichlet(np.ones(4), size=3)
    q[0] = [0, 0.25, 0.75, 0]
    return 3 * draw.normal(size=(3, 4)), q


@float64
def test_kl_divergence_equals_the_relative_entropy():
    logits, q = kl_problem()
    wanted = rel_entr(q, softmax(logits, -1)).sum(-1)
    np.testing.assert_allclose(kl_divergence(jnp.array(logits), jnp.array(q)), wanted, rtol=1e-13)


@float64
def test_the_gradient_of_kl_divergence_equals_that_of_cross_entropy():
    logits, q = (jnp.array(array) for array in kl_problem())
    got = jax.jit(jax.grad(lambda x: kl_divergence(x, q).sum()))(logits)
    wanted = jax.jit(jax.grad(lambda x: cross_entropy(x, q).sum()))(logits)
    np.testing.assert_allclose(got, wanted, atol=1e-15)


@float64
def test_kl_divergence_is_zero_with_zero_gradient_at_equality():
    _, q = kl_problem()
    log_q = jnp.log(jnp.array(q[1:]))
    np.testing.assert_allclose(kl_divergence(log_q, jnp.array(q[1:])), 0, atol=1e-15)
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda x: kl_divergence(x, jnp.array(q[1:])).sum()))(log_q), 0, atol=1e-15
    )


@pytest.mark.parametrize("row", [[0.0, 0, 0], [0.7, 0.7, 0], [1.1, -0.1, 0], [np.nan, 0.5, 0.5]])
def test_kl_divergence_of_rows_that_do_not_sum_to_one_is_nan(row):
    targets = jnp.array([[0.2, 0.3, 0.5], row])
    assert np.isnan(jax.jit(kl_divergence)(jnp.ones((2, 3)), targets)).tolist() == [False, True]
    if min(row) >= 0:
        gradient = jax.jit(jax.grad(lambda x: kl_divergence(x, targets).sum()))(jnp.ones((2, 3)))
        assert np.isnan(gradient).tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize(
    ("targets", "error"),
    [(jnp.array([0, 1]), ShapeError), (jnp.ones((2, 3), jnp.int32), DTypeError)],
)
def test_kl_divergence_of_labels_raises(targets, error):
    with pytest.raises(error, match="targets: expected"):
        kl_divergence(jnp.ones((2, 3)), targets)
