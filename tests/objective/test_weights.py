"""Tests of weighted losses: ignored and masked values, and weights of classes."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective import (
    accuracy,
    binary_cross_entropy,
    class_weighted,
    cross_entropy,
    f1,
    ignoring,
    kl_divergence,
    masked,
    nt_xent,
    squared_error,
)

IGNORED = -100
WEIGHTS = (1.0, 2.0, 0.5)


def mean(weighted):
    return (weighted.values * weighted.weights).sum() / jnp.maximum(weighted.weights.sum(), 1e-30)


def mean_and_slope(loss, outputs, targets):
    return jax.jit(jax.value_and_grad(lambda outputs: mean(loss(outputs, targets))))(outputs)


def sequences():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (4, 5))
    labels[draw.random((4, 5)) < 0.4] = IGNORED
    return jnp.float32(draw.normal(size=(4, 5, 3))), jnp.array(labels)


def test_ignoring_equals_the_loss_of_the_other_positions():
    logits, labels = sequences()
    value, slope = mean_and_slope(ignoring(cross_entropy, IGNORED), logits, labels)
    kept = np.asarray(labels) != IGNORED
    wanted, theirs = jax.jit(jax.value_and_grad(lambda x: cross_entropy(x, labels[kept]).mean()))(
        logits[kept]
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(slope[kept], theirs, atol=1e-7)
    assert not slope[~kept].any()


def test_outputs_at_ignored_positions_do_not_matter():
    """Not even NaN gets through, forward or back."""
    logits, labels = sequences()
    kept = np.asarray(labels) != IGNORED
    broken = jnp.where(kept[..., None], logits, jnp.nan)
    loss = ignoring(cross_entropy, IGNORED)
    wanted = mean_and_slope(loss, logits, labels)
    chex.assert_trees_all_equal(mean_and_slope(loss, broken, labels), wanted)
    other = jnp.where(kept, labels, 77)
    mask = jnp.array(kept)
    wanted = mean_and_slope(masked(cross_entropy), logits, (labels, mask))
    got = mean_and_slope(masked(cross_entropy), broken, (other, mask))
    chex.assert_trees_all_equal(got, wanted)


def test_a_wrong_label_that_is_not_ignored_gives_nan():
    logits, labels = sequences()
    value, slope = mean_and_slope(ignoring(cross_entropy, IGNORED), logits, labels.at[0, 0].set(-1))
    assert np.isnan(value) and np.isnan(slope[0, 0]).all()


@pytest.mark.parametrize(
    "loss",
    [ignoring(cross_entropy, IGNORED), ignoring(class_weighted(cross_entropy, WEIGHTS), IGNORED)],
)
def test_the_loss_is_zero_if_all_is_ignored(loss):
    logits, labels = sequences()
    chex.assert_trees_all_equal(
        mean_and_slope(loss, logits, jnp.full_like(labels, IGNORED)),
        (jnp.zeros(()), jnp.zeros_like(logits)),
    )


def test_the_largest_uint8_label_may_be_ignored():
    logits = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))
    values, weights = ignoring(cross_entropy, 255)(logits, jnp.array([1, 255, 2], jnp.uint8))
    chex.assert_trees_all_equal(weights, jnp.array([1.0, 0, 1]))
    chex.assert_trees_all_equal(values[::2], cross_entropy(logits[::2], jnp.array([1, 2])))


def test_class_weighted_returns_the_weight_of_each_label():
    logits, labels = sequences()
    labels = jnp.maximum(labels, 0)
    values, weights = class_weighted(cross_entropy, WEIGHTS)(logits, labels)
    chex.assert_trees_all_equal(values, cross_entropy(logits, labels))
    chex.assert_trees_all_equal(weights, jnp.float32(WEIGHTS)[labels])


def test_equal_weights_of_any_size_change_nothing():
    logits, labels = sequences()
    labels = jnp.maximum(labels, 0)
    for weight in (1.0, 7.0):
        value = mean(class_weighted(cross_entropy, (weight,) * 3)(logits, labels))
        np.testing.assert_allclose(value, cross_entropy(logits, labels).mean(), rtol=1e-6)


def unguarded_loss(logits, labels):
    """A loss without a check of labels: one out of range is taken for the last class."""
    return -jnp.take_along_axis(logits, labels[..., None], -1, mode="clip")[..., 0]


@pytest.mark.parametrize("loss", [cross_entropy, unguarded_loss])
@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1])
def test_a_label_without_a_weight_gives_nan(loss, label):
    logits, labels = jnp.ones((2, 3)), jnp.array([0, label])
    value, slope = mean_and_slope(class_weighted(loss, WEIGHTS), logits, labels)
    assert np.isnan(value) and np.isnan(slope[1]).any()


def test_weights_may_be_traced_and_compile_once():
    logits, labels = sequences()
    labels = jnp.maximum(labels, 0)
    chex.clear_trace_counter()

    @jax.jit
    @partial(chex.assert_max_traces, n=1)
    def loss(weights):
        return mean(class_weighted(cross_entropy, weights)(logits, labels))

    for weights in (WEIGHTS, (0.0, 1.0, 3.0)):
        wanted = mean(class_weighted(cross_entropy, weights)(logits, labels))
        np.testing.assert_allclose(loss(jnp.array(weights)), wanted, rtol=1e-6)
    lanes = jax.vmap(loss)(jnp.array([WEIGHTS, (0.0, 1.0, 3.0)]))
    np.testing.assert_allclose(lanes[1], wanted, rtol=1e-6)


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_ignoring_and_class_weights_compose_in_either_order(order):
    logits, labels = sequences()
    if order == "inside":
        loss = class_weighted(ignoring(cross_entropy, IGNORED), WEIGHTS)
    else:
        loss = ignoring(class_weighted(cross_entropy, WEIGHTS), IGNORED)
    kept = np.asarray(labels) != IGNORED
    value, slope = mean_and_slope(loss, logits, labels)
    np.testing.assert_allclose(
        value, mean(class_weighted(cross_entropy, WEIGHTS)(logits[kept], labels[kept])), rtol=1e-6
    )
    assert not slope[~kept].any()


def test_class_weights_of_probabilities_weigh_each_class():
    """-Σ_c w_c q_c log p_c, as in torch.nn.functional.cross_entropy."""
    draw = np.random.default_rng(0)
    logits, probabilities = draw.normal(size=(6, 3)), draw.dirichlet(np.ones(3), 6)
    wanted = -(np.array(WEIGHTS) * probabilities * log_softmax(logits, -1)).sum(-1)
    loss = class_weighted(cross_entropy, WEIGHTS)
    values, weights = loss(jnp.float32(logits), jnp.float32(probabilities))
    np.testing.assert_allclose(values * weights, wanted, rtol=1e-5)
    np.testing.assert_allclose(weights, probabilities @ np.array(WEIGHTS), rtol=1e-5)


def test_class_weights_of_one_hot_rows_equal_those_of_labels():
    draw = np.random.default_rng(0)
    logits, labels = jnp.float32(draw.normal(size=(6, 3))), jnp.array(draw.integers(0, 3, 6))
    loss = class_weighted(cross_entropy(label_smoothing=0.1), WEIGHTS)
    rows = jax.nn.one_hot(labels, 3)
    chex.assert_trees_all_close(loss(logits, rows), loss(logits, labels), rtol=1e-6)
    assert np.isnan(loss(logits, rows.at[2].set(jnp.array([2.0, -1, 0]))).values[2])
    hidden = class_weighted(cross_entropy, (0.0, 1.0, 1.0))(logits, rows)
    np.testing.assert_array_equal(hidden.weights, labels != 0)
    assert np.isfinite(hidden.values).all()


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2,), (2, 1)])
def test_class_weights_of_one_output_are_those_of_no_and_yes(shape):
    logits = jnp.linspace(-1, 2, shape[0]).reshape(shape)
    answers = jnp.arange(shape[0]).reshape(shape) % 2
    values, weights = class_weighted(binary_cross_entropy, (1.0, 5.0))(logits, answers)
    np.testing.assert_array_equal(values, binary_cross_entropy(logits, answers))
    np.testing.assert_array_equal(weights, jnp.where(answers.reshape(-1) == 1, 5.0, 1.0))
    with pytest.raises(ShapeError, match=r"class_weighted weights: expected \(2,\), got \(3,\)"):
        class_weighted(binary_cross_entropy, WEIGHTS)(logits, answers)


def test_a_mask_of_the_shape_of_the_targets_weighs_each_number():
    draw = np.random.default_rng(0)
    outputs = draw.normal(size=(4, 3, 2))
    targets = draw.normal(size=(4, 3, 2))
    mask = draw.random((4, 3, 2)) < 0.5
    got = masked(squared_error)(jnp.float32(outputs), (jnp.float32(targets), jnp.array(mask)))
    chex.assert_shape(got, (4, 3, 2))
    np.testing.assert_allclose(mean(got), ((outputs - targets) ** 2)[mask].mean(), rtol=1e-6)


def test_a_mask_of_examples_weighs_the_mean_of_each():
    outputs = jnp.arange(6.0).reshape(3, 2)
    targets = jnp.zeros((3, 2))
    mask = jnp.array([1.0, 0.5, 0])
    values, weights = masked(squared_error)(outputs, (targets, mask))
    np.testing.assert_allclose(values, [0.5, 6.5, 0])
    np.testing.assert_allclose(weights, mask)
    values, weights = masked(cross_entropy)(
        jnp.zeros((3, 2, 4)), (jnp.zeros((3, 2), jnp.int32), mask)
    )
    np.testing.assert_allclose(values, np.log(4) * np.array([[1, 1], [1, 1], [0, 0]]), rtol=1e-6)
    np.testing.assert_allclose(weights, [[1, 1], [0.5, 0.5], [0, 0]])


def test_a_mask_may_hide_rows_that_do_not_sum_to_one():
    targets = jnp.array([[0.25, 0.75], [0.0, 0.0]])
    value, slope = mean_and_slope(
        masked(kl_divergence), jnp.zeros((2, 2)), (targets, jnp.array([True, False]))
    )
    np.testing.assert_allclose(value, (targets[0] * jnp.log(2 * targets[0])).sum(), rtol=1e-6)
    assert not slope[1].any()


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_a_negative_or_nan_mask_gives_nan(weight):
    value, slope = mean_and_slope(
        masked(squared_error), jnp.ones(2), (jnp.zeros(2), jnp.array([1, weight]))
    )
    assert np.isnan(value) and np.isnan(slope[1])


def test_equal_transforms_are_equal_and_hash_alike():
    assert ignoring(cross_entropy, 0) == ignoring(cross_entropy, 0)
    assert masked(nt_xent) == masked(nt_xent)
    assert len({hash(ignoring(masked(cross_entropy), 0)) for _ in range(2)}) == 1
    assert ignoring(cross_entropy, 0) != ignoring(cross_entropy, 1)
    hash(class_weighted(cross_entropy, WEIGHTS))


def test_a_loss_records_its_arguments():
    smoothed = cross_entropy(label_smoothing=0.1)
    weighted = class_weighted(smoothed, WEIGHTS)
    loss = ignoring(weighted, IGNORED)
    assert loss.arguments == {"loss": weighted, "label": IGNORED}
    assert weighted.arguments == {"loss": smoothed, "weights": WEIGHTS}
    assert smoothed.maker is cross_entropy and jax.tree.leaves(loss) == [0.1, *WEIGHTS]


def test_transforms_keep_the_attributes_of_a_loss():
    loss = ignoring(ignoring(class_weighted(cross_entropy, WEIGHTS), IGNORED), 1)
    assert loss.classes and loss.probabilities and loss.ignored == {IGNORED, 1}
    assert loss.metric == ("accuracy", ignoring(ignoring(accuracy, IGNORED), 1))
    hidden = masked(loss)
    assert not hidden.classes
    assert not hidden.probabilities
    assert hidden.metric == ("accuracy", masked(loss.metric[1]))
    assert not ignoring(unguarded_loss, 0).classes and ignoring(unguarded_loss, 0).metric is None


X, LABELS = jnp.ones((2, 3)), jnp.array([0, 1])
ERRORS = {
    "float label": (
        lambda: ignoring(cross_entropy, -100.0),
        ConfigError,
        "ignoring label: expected a whole number",
    ),
    "no loss": (
        lambda: ignoring("cross_entropy", 0),
        ConfigError,
        "ignoring loss: expected a function",
    ),
    "floats": (
        lambda: ignoring(squared_error, 0)(X, X),
        DTypeError,
        "ignoring targets: expected an integer dtype",
    ),
    "no mask": (
        lambda: masked(cross_entropy)(X, LABELS),
        ShapeError,
        r"targets: expected a pair \(targets, mask\)",
    ),
    "long mask": (
        lambda: masked(cross_entropy)(X, (LABELS, jnp.ones(3))),
        ShapeError,
        r"mask: .*\(2, 3\), got \(3,\)",
    ),
    "one mask": (
        lambda: masked(cross_entropy)(X, (LABELS, jnp.ones(()))),
        ShapeError,
        r"mask: .*got \(\)",
    ),
    "wide mask": (
        lambda: masked(cross_entropy)(X, (LABELS, jnp.ones((2, 3)))),
        ShapeError,
        r"mask: .*\(2,\), got",
    ),
    "negative": (
        lambda: class_weighted(cross_entropy, (1.0, -1.0)),
        ConfigError,
        r"weights 1: .*\[0, inf\), got -1",
    ),
    "NaN": (
        lambda: class_weighted(cross_entropy, (1.0, np.nan)),
        ConfigError,
        r"weights 1: .*\[0, inf\), got nan",
    ),
    "negative array": (
        lambda: class_weighted(cross_entropy, jnp.array([1.0, -1.0])),
        ConfigError,
        "class_weighted weights: expected finite numbers >= 0",
    ),
    "NaN array": (
        lambda: class_weighted(cross_entropy, np.array([1.0, np.nan])),
        ConfigError,
        "class_weighted weights: expected finite numbers >= 0",
    ),
    "one weight": (
        lambda: class_weighted(cross_entropy, jnp.ones(())),
        ConfigError,
        "class_weighted weights: expected",
    ),
    "fewer weights": (
        lambda: class_weighted(cross_entropy, (1.0, 1.0))(X, LABELS),
        ShapeError,
        r"class_weighted weights: expected \(3,\), got \(2,\)",
    ),
    "several answers": (
        lambda: class_weighted(binary_cross_entropy, (1.0, 5.0))(X, X.astype(int)),
        ShapeError,
        "class_weighted loss: expected a value a label .* pos_weight",
    ),
    "a metric": (
        lambda: ignoring(f1(), 255),
        ConfigError,
        "ignoring loss: .*, got a Metric .*; give the metric ignore=",
    ),
    "a masked metric": (lambda: masked(f1()), ConfigError, "masked loss: .*, got a Metric"),
    "real targets": (
        lambda: class_weighted(squared_error, WEIGHTS)(X, X),
        DTypeError,
        "class_weighted targets",
    ),
    "a mean": (
        lambda: class_weighted(lambda o, t: cross_entropy(o, t).mean(), WEIGHTS)(X, LABELS),
        ShapeError,
        "class_weighted loss: expected a value a label",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
