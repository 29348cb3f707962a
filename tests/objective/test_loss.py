"""Tests of losses as values: their attributes and their options."""

import copy
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.objective.adversarial import score_gap
from fnn.objective.loss import DeclaredLoss, as_loss
from fnn.types import Loss, Number

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
LABELS = jnp.array([0, 1, 2, 3, 0, 1])
CLASSES = {"cross_entropy", "nll", "focal", "hinge"}  # whose integer targets are class labels
DECLARED = {
    name: value for name, value in vars(objective).items() if isinstance(value, DeclaredLoss)
}


@objective.loss(metric=("distance", objective.absolute_error))
def scaled_error(outputs, targets, *, scale: Number = 1.0, power: int = 2):
    """The error to a power, scaled."""
    return (jnp.abs(outputs - targets) ** power).mean(-1) * scale


@pytest.mark.parametrize("name", DECLARED)
def test_classification_losses_have_accuracy_as_metric(name):
    loss = DECLARED[name]
    assert loss.classes == (name in CLASSES) and loss.ignored == frozenset() and loss.heads is None
    metric = ("accuracy", objective.accuracy) if name in CLASSES else None
    if name == "adversarial":
        metric = ("gap", score_gap)
    assert loss.metric == metric
    assert loss.probabilities == (name == "cross_entropy")


def test_a_plain_function_has_the_default_attributes():
    def plain(outputs, targets):
        return objective.cross_entropy(outputs, targets)

    known = as_loss("loss", plain)
    assert known.function is plain
    assert known.classes is False
    assert known.probabilities is False
    assert known.ignored == frozenset()
    assert known.metric is None
    assert known.heads is None
    np.testing.assert_array_equal(known(LOGITS, LABELS), plain(LOGITS, LABELS))
    assert as_loss("loss", objective.hinge) is objective.hinge


def test_a_loss_that_is_not_a_function_raises():
    with pytest.raises(ConfigError, match=r"recipe loss: expected a function .* values, got 'mse'"):
        as_loss("recipe loss", "mse")


@pytest.mark.parametrize("change", [
    lambda loss: loss(label_smoothing=0.1),
    lambda loss: partial(loss, label_smoothing=0.1),
], ids=["options", "partial"])  # fmt: skip
def test_options_change_the_values_and_keep_the_attributes(change):
    smoothed = as_loss("loss", change(objective.cross_entropy))
    assert smoothed.classes
    assert smoothed.probabilities
    assert smoothed.metric == ("accuracy", objective.accuracy)
    assert smoothed == objective.cross_entropy(label_smoothing=0.1)
    wanted = objective.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    np.testing.assert_array_equal(smoothed(LOGITS, LABELS), wanted)
    assert np.abs(np.asarray(wanted) - objective.cross_entropy(LOGITS, LABELS)).min() > 1e-3


def test_the_options_are_the_leaves_of_a_loss():
    loss = objective.cross_entropy(label_smoothing=0.1)
    assert jax.tree.leaves(loss) == [0.1]
    assert repr(loss) == "objective.cross_entropy(label_smoothing=0.1)"
    assert loss.arguments == {"label_smoothing": 0.1} and loss.maker is objective.cross_entropy
    assert jax.tree.leaves(objective.cross_entropy()) == []

    def mean(loss):
        return loss(LOGITS, LABELS).mean()

    slope = jax.jit(jax.grad(mean))(loss)
    # The loss is linear in the smoothing.
    wanted = mean(objective.cross_entropy(label_smoothing=1.0)) - mean(objective.cross_entropy)
    np.testing.assert_allclose(jax.tree.leaves(slope), [wanted], rtol=1e-5)
    lanes = jax.vmap(mean)(
        train.stack([loss.replace(label_smoothing=share) for share in (0.0, 1.0)])
    )
    np.testing.assert_allclose(lanes[1] - lanes[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [objective.cross_entropy, objective.cross_entropy(label_smoothing=0.25), scaled_error],
    ids=repr,
)
def test_a_loss_can_be_pickled_copied_and_hashed(loss):
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert other == loss and hash(other) == hash(loss)
        np.testing.assert_array_equal(
            other(LOGITS, LOGITS / 2 + 0.1), loss(LOGITS, LOGITS / 2 + 0.1)
        )


def test_a_wrong_option_raises():
    with pytest.raises(TypeError, match="smoothing"):
        objective.cross_entropy(smoothing=0.1)
    with pytest.raises(ConfigError, match=r"focal gamma: expected a number in \[0, inf\), got -1"):
        objective.focal(gamma=-1)(LOGITS, LABELS)


def test_a_loss_declared_by_a_user_works_in_a_recipe(key):
    assert not scaled_error.classes and scaled_error.__doc__ == "The error to a power, scaled."
    doubled = scaled_error(scale=2.0, power=1)
    assert jax.tree.leaves(doubled) == [2.0]  # the power is structure
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
    np.testing.assert_array_equal(scaled_error(x, x / 2), np.full(4, 0.25))
    np.testing.assert_array_equal(doubled(x, x / 2), np.ones(4))
    recipe = train.recipe(nn.dense(3), optim.sgd(0.1), loss=doubled)
    _, measured = train.step(recipe, train.start(key, recipe, (2,)), (x, y))
    np.testing.assert_allclose(measured["loss"], 2 * measured["distance"], rtol=1e-6)


def test_ignored_labels_are_kept_by_other_transforms():
    smoothed = objective.cross_entropy(label_smoothing=0.1)
    once = objective.ignoring(smoothed, -100)
    twice = objective.ignoring(once, 7)
    weighted = objective.class_weighted(twice, [1.0] * 4)
    assert (once.ignored, twice.ignored, weighted.ignored) == ({-100}, {-100, 7}, {-100, 7})
    assert once.classes and twice.classes and weighted.classes and weighted.probabilities
    assert objective.ignoring(objective.squared_error, 0).metric is None
    assert not objective.ignoring(lambda o, t: o[:, 0], 0).classes


def test_the_metric_of_a_weighted_loss_has_its_weights():
    labels = jnp.where(LABELS == 3, -100, LABELS)
    name, metric = objective.ignoring(objective.nll, -100).metric
    hits = np.asarray(LOGITS).argmax(1) == LABELS
    measured = metric(LOGITS, labels)
    assert name == "accuracy"
    np.testing.assert_array_equal(measured.weights, labels != -100)
    np.testing.assert_array_equal(measured.values, hits & (np.asarray(labels) != -100))
    name, metric = objective.masked(objective.nll).metric
    measured = metric(LOGITS, (LABELS, labels != -100))
    np.testing.assert_array_equal(measured.weights, labels != -100)
    assert not objective.masked(objective.nll).classes  # its targets are a pair


def test_class_weights_keep_the_metric():
    weighted = objective.class_weighted(objective.cross_entropy, jnp.arange(1.0, 5.0))
    assert weighted.metric == ("accuracy", objective.accuracy) and weighted.classes


def test_a_metric_of_a_whole_data_set_is_dropped():
    with_f1 = Loss(objective.cross_entropy.function, metric=("f1", objective.f1()))
    assert objective.ignoring(with_f1, -1).metric is None
    assert objective.masked(with_f1).metric is None


def test_heads_keep_the_attributes_of_their_losses():
    loss = objective.multi_task(
        {"digit": objective.ignoring(objective.nll, 9), "side": objective.squared_error}
    )
    assert loss.metric is None and not loss.classes and list(loss.heads) == ["digit", "side"]
    assert loss.heads["digit"].classes
    assert loss.heads["digit"].ignored == {9}
    assert not loss.heads["side"].classes


def test_a_loss_takes_arrays_by_keyword():
    logits, labels = jnp.array([[2.0, 1.0]]), jnp.array([1])
    wanted = objective.cross_entropy(logits, labels, label_smoothing=0.2)
    got = objective.cross_entropy(logits=logits, labels=labels, label_smoothing=0.2)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(
        objective.cross_entropy(logits, labels=labels, label_smoothing=0.2), wanted
    )
