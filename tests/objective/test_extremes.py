"""A law of every loss and metric: at extreme inputs the value of its definition, or an error.

The definitions are computed here in float64, with 0 log 0 = 0. A function without one fails, so
that a new loss or metric gets one.
"""

from functools import partial

import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from registry import REGISTRY
from scipy.special import gammaln, log_expit, log_softmax, softmax, xlogy
from sklearn import metrics as sklearn

from fnn import objective
from fnn.errors import FnnError
from fnn.types import Loss, Metric, Weighted

pytestmark = pytest.mark.slow

INF = np.inf


def times_log(q, log_p):
    """q log p, which is 0 where both are impossible."""
    with np.errstate(invalid="ignore"):
        return np.where(q == 0, 0, q * log_p)


def log_p_of(z):
    with np.errstate(divide="ignore", invalid="ignore"):
        return log_softmax(z, -1)


def picked(z, y):
    return np.take_along_axis(log_p_of(z), y[:, None], 1)[:, 0]


def focal_of(log_p, gamma=2.0):
    with np.errstate(invalid="ignore"):
        return np.where(log_p == 0, 0, -((-np.expm1(log_p)) ** gamma) * log_p)


def hinge_of(z, y):
    true = np.take_along_axis(z, y[:, None], 1)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(z), 0, np.maximum(z - true + 1, 0))
    return terms.sum(1) - 1


def dice_of(z, y):
    p, g = softmax(z, -1), np.eye(z.shape[-1])[y]
    overlap, sizes = (p * g).sum(1), (p**2 + g**2).sum(1)
    return 1 - ((2 * overlap + 1) / (sizes + 1)).mean(1)


def unit(x):
    length = np.sqrt((x**2).sum(-1, keepdims=True))
    return x / np.where(length == 0, 1, length)


# Definitions by name: (logits, labels) -> a value for each example.
OF_CLASSES = {
    "cross_entropy": lambda z, y: -picked(z, y),
    "nll": lambda z, y: -picked(z, y),
    "focal": lambda z, y: focal_of(picked(z, y)),
    "hinge": hinge_of,
    "kl_divergence": lambda z, q: (xlogy(q, q) - times_log(q, log_p_of(z))).sum(1),
}
OF_BITS = {
    "binary_cross_entropy": lambda z, t: (
        -(times_log(t, log_expit(z)) + times_log(1 - t, log_expit(-z))).mean(1)
    ),
    "binary_focal": lambda z, t: (
        (0.25 * t + 0.75 * (1 - t)) * focal_of(log_expit(np.where(t == 1, z, -z)))
    ).mean(1),
}
OF_NUMBERS = {
    "squared_error": lambda d: d**2,
    "absolute_error": np.abs,
    "huber": lambda d: np.where(abs(d) <= 1, d**2 / 2, abs(d) - 0.5),
    "log_cosh": lambda d: np.logaddexp(d, -d) - np.log(2),
    "quantile": lambda d: abs(d) / 2,
}
# Those whose definitions are in their own tests, over all inputs that they take.
TRANSFORMS = {"class_weighted", "ignoring", "masked", "multi_task", "of", "loss", "perplexity"}
TRANSFORMS |= {"per_member"}
ELSEWHERE = {
    "brier",
    "ctc",
    "triplet",
    "nt_xent",
    "binary_accuracy",
    "calibration_error",
    "class_report",
}
AGGREGATORS = {"aggregate", "pcgrad", "mgda", "gradnorm", "dwa"}
CURVES = {"roc_auc", "average_precision", "r2"}
REGULARIZERS = {"l1", "l2", "elastic_net", "orthogonal", "max_norm"}
OWN = {"dice", "cosine", "gaussian_nll", "poisson_nll"}  # tested below one by one

LABELS = np.array([0, 0, 1, 1])
LOGITS = {
    "zero": np.zeros((4, 3)),
    "constant": np.full((4, 3), 12345.6),
    "far": 1e4 * np.array([[1, 0, -1], [-1, 1, 0], [0, 1, -1], [1, -1, 0]]),
    "excluded": np.array([[0, -INF, 1], [0, -INF, -INF], [-INF, 0, 2], [0, -INF, 1]]),
    "tiny": 1e-30 * np.arange(12.0).reshape(4, 3),
}
BITS = {
    "zero": np.zeros((4, 2)),
    "far": 1e4 * np.array([[1, -1], [-1, 1], [1, 1], [-1, -1]]),
    "infinite": np.array([[INF, -INF], [-INF, INF], [INF, 0], [-INF, 3]]),
    "tiny": np.full((4, 2), 1e-30),
}
ANSWERS = np.array([[1, 0], [1, 0], [1, 1], [0, 1]])
DTYPES = ("float16", "bfloat16", "float32", "float64")


def test_every_loss_and_metric_has_a_definition():
    names = {name.split(".")[1] for name in makers.public() if name.startswith("objective.")}
    defined = OF_CLASSES | OF_BITS | OF_NUMBERS | FIGURES
    known = defined.keys() | TRANSFORMS | ELSEWHERE | CURVES | REGULARIZERS | OWN | AGGREGATORS
    # The formulas of `adversarial` are in test_adversarial.py.
    assert names == known | {"adversarial"}
    assert {f"objective.{name}" for name in names} <= REGISTRY.keys()


def negative_of_label(log_p, labels):
    """The definition of nll for log-probabilities (n, classes)."""
    return -np.take_along_axis(log_p, labels[:, None], 1)[:, 0]


@partial(jax.jit, static_argnums=0)
def values_and_slopes(loss, outputs, targets):
    return loss(outputs, targets), jax.grad(lambda x: loss(x, targets).sum())(outputs)


def assert_follows(loss, definition, outputs, targets):
    """The values equal the definition in float64 of the rounded outputs, and slopes are finite."""
    rounded = np.float64(outputs)
    got, slopes = values_and_slopes(loss, outputs, targets)
    assert got.dtype == (jnp.float64 if outputs.dtype == jnp.float64 else jnp.float32)
    wanted = definition(rounded, targets)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert np.isfinite(slopes).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_CLASSES)
def test_losses_of_classes_follow_their_definition(name, dtype, case):
    outputs = jnp.asarray(LOGITS[case], dtype)
    if name == "nll":
        outputs = jax.nn.log_softmax(outputs.astype(jnp.float64)).astype(dtype)
        if dtype == "float16" and case == "far":
            outputs = outputs.astype(jnp.float32)  # 2e4 is beyond the sums of float16
    targets = np.float64(np.eye(3)[LABELS]) if name == "kl_divergence" else LABELS
    definition = OF_CLASSES[name]
    if name == "nll":
        definition = negative_of_label
    if name == "kl_divergence":
        targets = targets.astype(np.float32) if dtype != "float64" else targets
    assert_follows(getattr(objective, name), definition, outputs, targets)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", BITS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_BITS)
def test_losses_of_bits_follow_their_definition(name, dtype, case):
    for answers in (ANSWERS, ANSWERS.astype(np.uint8)):
        assert_follows(
            getattr(objective, name), OF_BITS[name], jnp.asarray(BITS[case], dtype), answers
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_losses_of_numbers_follow_their_definition(name, dtype, scale):
    outputs = jnp.asarray(scale * np.array([[1.0], [-2.0], [0.0], [3.0]]), dtype)

    def definition(outputs, targets):
        return OF_NUMBERS[name](outputs - targets).mean(1)

    assert_follows(getattr(objective, name), definition, outputs, np.zeros((4, 1), np.float32))


@pytest.mark.parametrize("case", LOGITS)
def test_dice_follows_its_definition(case):
    logits = jnp.float32(LOGITS[case]).reshape(2, 2, 3)
    labels = LABELS.reshape(2, 2)
    np.testing.assert_allclose(
        objective.dice(logits, labels), dice_of(np.float64(logits), labels), rtol=1e-5, atol=1e-6
    )
    slopes = jax.jit(jax.grad(lambda x: objective.dice(x, labels).sum()))(logits)
    assert jnp.isfinite(slopes).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e25])
def test_the_cosine_does_not_depend_on_the_lengths(scale):
    draw = np.random.default_rng(0)
    a, b = np.float32(scale * draw.normal(size=(4, 3))), np.float32(draw.normal(size=(4, 3)))
    wanted = 1 - (unit(np.float64(a)) * unit(np.float64(b))).sum(1)
    np.testing.assert_allclose(objective.cosine(a, b), wanted, rtol=1e-5)
    np.testing.assert_allclose(objective.cosine(b, a), wanted, rtol=1e-5)


@pytest.mark.parametrize("z", [-INF, -1e4, 0.0, 80.0])
def test_poisson_nll_follows_its_definition(z):
    counts = np.array([0.0, 3.0])
    wanted = np.exp(z) - times_log(counts, z)
    got = objective.poisson_nll(jnp.full(2, z, jnp.float32), jnp.float32(counts))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    full = objective.poisson_nll(jnp.full(2, z, jnp.float32), jnp.int32(counts), full=True)
    np.testing.assert_allclose(full, wanted + gammaln(counts + 1), rtol=1e-5)


def test_gaussian_nll_follows_its_definition():
    mean, variance = np.array([0.0, 1e4, 0.0]), np.array([1e-6, 1.0, 1e30])
    wanted = (np.log(variance) + mean**2 / variance) / 2
    got = objective.gaussian_nll((jnp.float32(mean), jnp.float32(variance)), jnp.zeros(3))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


# Metrics: figures of a network by its predictions.

FIGURES = {
    "accuracy": (objective.accuracy, lambda y, guess: (y == guess).mean()),
    "top_k": (objective.top_k(1), lambda y, guess: (y == guess).mean()),
    "precision": (objective.precision(), lambda y, guess: averaged("precision", y, guess)),
    "recall": (objective.recall(), lambda y, guess: averaged("recall", y, guess)),
    "f1": (objective.f1(), lambda y, guess: averaged("f1", y, guess)),
    "confusion_matrix": (
        objective.confusion_matrix(3),
        lambda y, guess: sklearn.confusion_matrix(y, guess, labels=range(3)),
    ),
    "mean_iou": (
        objective.mean_iou(),
        lambda y, guess: sklearn.jaccard_score(y, guess, average="macro"),
    ),
}


def averaged(name, y, guess):
    score = getattr(sklearn, f"{name}_score")
    return score(y, guess, labels=range(3), average="macro", zero_division=0)


def figure(function, outputs, targets):
    values = function(outputs, targets)
    return values if isinstance(function, Metric) else values.mean()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FIGURES)
def test_metrics_of_classes_follow_their_definition(name, dtype, case):
    metric, definition = FIGURES[name]
    logits = jnp.asarray(LOGITS[case], dtype)
    guess = np.asarray(logits.astype(jnp.float64)).argmax(1)
    for labels in (LABELS, LABELS.astype(np.uint8)):
        for count in (4, 1):
            got = figure(metric, logits[:count], jnp.asarray(labels[:count]))
            np.testing.assert_allclose(got, definition(LABELS[:count], guess[:count]), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(makers.LOSSES))
def test_nan_outputs_give_nan(name):
    loss = makers.public()[name]
    outputs, targets = makers.batch_for(name, 7)
    dead = jax.tree.map(
        lambda leaf: (
            jnp.full_like(leaf, jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        outputs,
    )
    values = loss(dead, targets)
    assert jnp.isnan(values).all()


@pytest.mark.parametrize("name", sorted(makers.LOSSES))
def test_one_example_is_a_batch_or_an_error(name):
    loss = makers.public()[name]
    outputs, targets = makers.batch_for(name, 7)
    alone = jax.tree.map(lambda leaf: leaf[:1], (outputs, targets))
    try:
        got = loss(*alone)
    except FnnError:
        assert name == "objective.nt_xent"  # it compares the examples of a batch
        return
    np.testing.assert_allclose(got, loss(outputs, targets)[:1], rtol=1e-6)


ONE_OUTPUT = np.float32([[0.5], [-1.0], [2.0], [-3.0]])
ROWS = np.float32([[0.5, 1, 0], [-1, 2, 3], [2, 0, 1], [-3, 0, 0]])
YES = np.int32([1, 0, 0, 1])
CLASSES = np.int32([1, 0, 2, 1])
# Outputs and targets of unusual shapes and dtypes.
UNUSUAL = {
    "one output": (ONE_OUTPUT, YES),
    "one output, a column of targets": (ONE_OUTPUT, YES[:, None]),
    "scores": (ONE_OUTPUT[:, 0], YES),
    "booleans": (ONE_OUTPUT, YES[:, None].astype(bool)),
    "numbers": (ONE_OUTPUT, np.float32(YES)[:, None]),
    "one class": (ONE_OUTPUT, np.zeros(4, np.int32)),
    "one example": (ROWS[:1], CLASSES[:1]),
    "bytes": (ROWS, CLASSES.astype(np.uint8)),
    "column": (ROWS, CLASSES[:, None]),
    "boolean labels": (ROWS, CLASSES > 0),
    "integer outputs": (ROWS.astype(np.int32), CLASSES),
    "half": (ROWS.astype(np.float16), CLASSES),
    "double": (ROWS.astype(np.float64), CLASSES),
    "NaN": (np.where(ROWS == 3, np.nan, ROWS).astype(np.float32), CLASSES),
    "infinity": (np.where(ROWS == 3, INF, ROWS).astype(np.float32), CLASSES),
    "negative label": (ROWS, CLASSES - 1),
    "no number of rows": (np.float32(1), np.int32(0)),
    "lists": (ROWS.tolist(), CLASSES.tolist()),
}
EMPTY = {"no examples": (ROWS[:0], CLASSES[:0]), "no scores": (ONE_OUTPUT[:0], YES[:0, None])}
MEASURES = {name: makers.public()[name] for name in makers.LOSSES} | {
    name: makers.public()[name](**call)
    for name, call in makers.CALLS.items()
    if name.startswith("objective.") and makers.kind(name) in (Loss, Metric)
}
MEASURES["objective.accuracy"] = objective.accuracy


@pytest.mark.parametrize("name", MEASURES)
def test_unusual_inputs_give_numbers_or_a_described_error(name):
    for outputs, targets in UNUSUAL.values():
        try:
            values = MEASURES[name](outputs, targets)
        except FnnError:
            continue
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(values))
    for outputs, targets in EMPTY.values():
        with pytest.raises(FnnError):
            MEASURES[name](outputs, targets)


# Outputs and targets by kind. In the example of index 1 an output may become NaN, or be wrong.
DEAD = np.arange(4)[:, None] == 1
KINDS = {
    "labels": (ROWS, CLASSES, [9.0, 0, 0]),
    "probabilities": (ROWS, np.eye(3, dtype=np.float32)[CLASSES], [0.0, 9, 9]),
    "yes or no": (ONE_OUTPUT, YES[:, None], [5.0]),
    "numbers": (ONE_OUTPUT, np.float32(YES)[:, None], [5.0]),
}


@pytest.mark.parametrize("name", MEASURES)
def test_an_output_of_nan_is_never_right(name):
    """The figure is NaN, or that of a wrong answer, or worse."""
    measure = MEASURES[name]
    for outputs, targets, wrong_answer in KINDS.values():
        dead = np.where(DEAD, np.nan, outputs).astype(np.float32)
        wrong = np.where(DEAD, wrong_answer, outputs).astype(np.float32)
        try:
            got, wanted = measure(dead, targets), measure(wrong, targets)
        except FnnError:
            continue
        parts = list(zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True))
        if any(jnp.isnan(one).any() for one, _ in parts):
            continue
        for one, other in parts:
            # The confusion matrix has counts, and no entry for an answer that is none.
            assert (one <= other + 1e-6).all()


@pytest.mark.parametrize("name", MEASURES)
def test_extreme_outputs_have_finite_figures(name):
    # Their definitions have a log-probability or an exponential of the outputs.
    if name in ("objective.nll", "objective.poisson_nll"):
        return
    # Its example is of yes-or-no questions, and takes the columns for members and classes for bits.
    if name == "objective.per_member":
        return
    for outputs, targets, _ in KINDS.values():
        for extreme in (1e4 * outputs, np.full_like(outputs, 1e4), 1e-30 * outputs):
            try:
                figures = MEASURES[name](extreme, targets)
            except FnnError:
                continue
            is_perplexity = name == "objective.perplexity"
            for leaf in jax.tree.leaves(figures):
                assert jnp.isfinite(leaf).all() or (is_perplexity and not jnp.isnan(leaf).any())


def test_every_weighted_result_has_weights_of_the_shape_of_its_values():
    for function in (
        objective.binary_accuracy(ignore=0),
        objective.top_k(1, ignore=0),
        lambda *args: objective.accuracy(*args, ignore=0),
    ):
        result = function(jnp.zeros((4, 1)), jnp.arange(4) % 2)
        assert isinstance(result, Weighted) and result.values.shape == result.weights.shape == (4,)
    assert isinstance(objective.of("a", objective.cross_entropy), Loss)
