"""Weighted losses: transforms of a loss into one that returns values and their weights."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective.loss import as_loss
from fnn.objective.targets import (
    are_distributions,
    as_int32,
    class_weights,
    expect_class_weights,
    nan_unless,
)
from fnn.types import HeadLosses, Loss, LossFunction, Metric, Number, PerExample, Weighted
from fnn.values import maker


@maker
def ignoring(loss: LossFunction, label: int) -> Loss:
    """Ignore targets of one label: their weight, value and gradient are exactly 0.

    Each target is an example, so that padding in a sequence or a border in a map may have the
    label. The loss gets 0 in place of these targets, and outputs of 0.

    Args:
        loss: A loss with integer targets (batch, ...).
        label: The label to ignore, such as -100.

    Raises:
        ConfigError: `label` is not a whole number, or `loss` is not a function; or it is a `Metric`
            of a whole data set, which has an option `ignore`.
        DTypeError: When called, the targets are not integers.
    """
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        advice = "give the label itself, as in -100"
        raise ConfigError(
            "ignoring label",
            "a whole number",
            repr(label),
            advice,
        )
    # A Python int, so that np.int64(0) and 0 make equal losses.
    label = int(label)
    inner = as_loss("ignoring loss", _expect_loss("ignoring", loss, "give the metric ignore="))

    def ignored(outputs: Any, targets: jax.Array) -> Weighted:
        labels = _expect_labels("ignoring", targets)
        counts = labels != label
        # A label such as -100 would be out of range for the loss, so it gets class 0.
        return _weigh_each(inner, outputs, jnp.where(counts, labels, 0), counts)

    return _with_function(
        inner,
        ignored,
        ignored=inner.ignored | {label},
        metric=_change_metric(inner, partial(ignoring, label=label)),
    )


@maker
def masked(loss: LossFunction) -> Loss:
    """Weigh each value of a loss by a mask: targets are a pair (targets, mask).

    The mask (batch, ...) holds booleans or numbers >= 0; a negative one makes the loss NaN. At 0,
    value and gradient are exactly 0, whatever the outputs and targets are. Each entry of the mask
    is an example: with a mask of the targets' shape, each number is.

    Args:
        loss: A loss of outputs and targets whose first axes are those of the mask.

    Raises:
        ConfigError: `loss` is not a function.
        ShapeError: When called, the targets are not a pair, or the mask does not fit the first axes
            of outputs and targets.
    """
    advice = "give examples weights, as in metric(outputs, targets, weights)"
    inner = as_loss("masked loss", _expect_loss("masked", loss, advice))

    def weigh_by_mask(outputs: Any, targets: Any) -> Weighted:
        if not isinstance(targets, tuple | list) or len(targets) != 2:
            got = type(targets).__name__
            raise ShapeError(
                "targets",
                "a pair (targets, mask)",
                got,
                "give the mask with them",
            )
        inner_targets, mask = targets
        return _weigh_each(inner, outputs, inner_targets, mask)

    # Targets that are a pair cannot be checked as labels before a run.
    return _with_function(
        inner,
        weigh_by_mask,
        classes=False,
        probabilities=False,
        metric=_change_metric(inner, masked),
    )


@maker
def class_weighted(loss: LossFunction, weights: Sequence[Number] | jax.Array) -> Loss:
    """Weigh examples by their class: the mean is Σ weights[label] value / Σ weights[label].

    Targets that are probabilities q are weighted class by class, as -Σ_c weights[c] q_c log p_c for
    cross_entropy, and the weight of an example is Σ_c weights[c] q_c. A label that is not a class
    makes the loss NaN, unless it is ignored.

    Args:
        loss: A loss with integer targets (batch, ...) and a value for each; for probabilities one
            that is linear in them, such as cross_entropy. Of a loss of one yes-or-no output, such
            as binary_cross_entropy with logits (batch,) or (batch, 1), the classes are 0 and 1.
        weights: (classes,), numbers >= 0, which may be traced. Their scale does not matter.

    Raises:
        ConfigError: A weight is negative or not finite, or `loss` is not a function.
        DTypeError: When called, the targets are neither integers nor probabilities.
        ShapeError: When called, there is not one weight for each class, or one value for each
            label.
    """
    expect_class_weights("class_weighted weights", weights)
    inner = as_loss("class_weighted loss", _expect_loss("class_weighted", loss, "use its average"))
    classes = len(weights)

    def weigh_by_class(outputs: Any, targets: jax.Array) -> Weighted:
        shape: tuple[int, ...] = getattr(outputs, "shape", ())
        is_floating = hasattr(targets, "dtype") and jnp.issubdtype(targets.dtype, jnp.floating)
        if inner.classes and is_floating and targets.shape == shape:
            _expect_classes(shape[-1], classes)
            return _weigh_probabilities(inner, outputs, targets, weights)
        labels = _expect_labels("class_weighted", targets)
        values, counts = as_weighted(inner(outputs, targets))
        # Of one output (batch, 1) the loss has a value an example, (batch,).
        is_single = not inner.classes and shape == labels.shape and shape[1:] in ((), (1,))
        if is_single:
            labels = labels.reshape(shape[:1])
        if values.shape != labels.shape:
            expected = f"a value a label {labels.shape}"
            raise ShapeError(
                "class_weighted loss",
                expected,
                values.shape,
                "use masked, or the pos_weight of binary_cross_entropy",
            )
        if not is_single and shape[:-1] != labels.shape:
            raise ShapeError(
                "class_weighted outputs",
                f"(..., classes) for labels {labels.shape}",
                shape,
                "use masked for losses without classes",
            )
        _expect_classes(2 if is_single else shape[-1], classes)
        # values and counts have the shape of the labels, (batch, ...).
        known = (labels >= 0) & (labels < classes)
        table = class_weights("class_weighted weights", weights, values.dtype)  # (classes,)
        # Labels are clipped for the lookup; the guard then marks those out of range.
        label_weights = table[labels.clip(0, classes - 1)]
        label_weights = label_weights * nan_unless(known, values.dtype)
        # An ignored example may have any label; where, since 0 times NaN is NaN.
        return Weighted(values, jnp.where(counts == 0, 0, counts * label_weights))

    return _with_function(inner, weigh_by_class)


def _weigh_probabilities(
    loss: Loss,
    outputs: jax.Array,
    targets: jax.Array,
    weights: Sequence[Number] | jax.Array,
) -> Weighted:
    """Weigh each class of targets that are probabilities (..., classes)."""
    # The loss gets the weighted probabilities divided by their sum, which is a distribution again,
    # and the sum is the weight of the example.
    wide = trees.wide(targets)
    table = class_weights("class_weighted weights", weights, wide)  # (classes,)
    parts = targets.astype(wide) * jnp.broadcast_to(table, targets.shape)
    totals = parts.sum(-1, keepdims=True)
    is_weighted = totals > 0
    shares = jnp.where(is_weighted, parts / jnp.where(is_weighted, totals, 1), targets)
    # Rows that are no distribution stay so.
    known = are_distributions(targets)[..., None]
    values, counts = as_weighted(loss(outputs, jnp.where(known, shares, jnp.nan)))
    return Weighted(values, counts * totals.squeeze(-1).astype(values.dtype))


def as_weighted(values: PerExample | Weighted | HeadLosses) -> Weighted:
    """Return the result of a loss with weights; they are 1 if the loss returns none.

    Raises:
        ConfigError: The loss has several heads with weights of their own, which have no one weight.
    """
    if isinstance(values, Weighted):
        return values
    if isinstance(values, HeadLosses):
        raise ConfigError(
            "loss",
            "a loss with one value and one weight an example",
            "a multi_task loss whose heads have weights of their own",
            "weigh the losses of its heads instead, as in multi_task({head: masked(loss)})",
        )
    # Weights of 1 have the dtype of the values, which may be bfloat16 or float64.
    return Weighted(values, jnp.ones_like(values))


def _with_function(loss: Loss, function: LossFunction, **changes: Any) -> Loss:
    """Return the loss with another function, and with these of its attributes changed."""
    attributes: dict[str, Any] = {
        "classes": loss.classes,
        "probabilities": loss.probabilities,
        "ignored": loss.ignored,
        "couples_examples": loss.couples_examples,
        "mode": loss.mode,
        "metric": loss.metric,
        "heads": loss.heads,
        "aggregator": loss.aggregator,
    }
    return Loss(function, **attributes | changes)


def _change_metric(loss: Loss, change: Callable[[LossFunction], LossFunction]) -> Any:
    """Return the metric of the loss, changed as the loss is; None for one of a whole data set."""
    # A metric of a whole data set has no value for each example that could be weighed.
    if loss.metric is None or isinstance(loss.metric[1], Metric):
        return None
    name, function = loss.metric
    return name, change(function)


def _weigh_each(
    loss: LossFunction,
    outputs: Any,
    targets: Any,
    mask: jax.Array,
) -> Weighted:
    """Apply the loss with each entry of the mask (batch, ...) as an example and as its weight."""
    axes = mask.ndim
    # An array with fewer axes would be broadcast against other examples.
    for leaf in jax.tree.leaves((outputs, targets)):
        if leaf.shape[:axes] != mask.shape or axes == 0:
            expected = f"the first axes of {leaf.shape}"
            advice = "give one entry for each example"
            raise ShapeError(
                "mask",
                expected,
                mask.shape,
                advice,
            )
    # One row for each entry of the mask, (examples,).
    counts = mask.astype(bool).reshape(-1)

    def merge_axes(array: jax.Array) -> jax.Array:
        """Reshape (*mask axes, ...) to (examples, ...)."""
        return array.reshape(-1, *array.shape[axes:])

    def zero_uncounted(array: jax.Array) -> jax.Array:
        # A selection, so that no number of a masked example reaches the loss, and that no gradient
        # of it, not even NaN, comes back.
        return jnp.where(_broadcast_first(counts, array), array, 0)

    counted_outputs = jax.tree.map(lambda array: zero_uncounted(merge_axes(array)), outputs)
    merged_targets = jax.tree.map(merge_axes, targets)
    values, weights = as_weighted(loss(counted_outputs, merged_targets))
    mask_weights = _broadcast_first(mask.reshape(-1).astype(values.dtype), weights)
    weights = weights * mask_weights * nan_unless(mask_weights >= 0, values.dtype)
    # Back to the axes of the mask, (*mask axes, ...).
    shape = (*mask.shape, *values.shape[1:])
    return Weighted(zero_uncounted(values).reshape(shape), zero_uncounted(weights).reshape(shape))


def _broadcast_first(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Broadcast a vector (batch,) along the first axis to the shape of x (batch, ...)."""
    column = vector.reshape(-1, *(1,) * (x.ndim - 1))  # (batch, 1, ..., 1)
    return jnp.broadcast_to(column, x.shape)


def _expect_classes(expected: int, given: int) -> None:
    if expected != given:
        raise ShapeError(
            "class_weighted weights",
            f"({expected},)",
            (given,),
            "one for each class",
        )


def _expect_loss(where: str, loss: Any, advice: str) -> Any:
    """Return the loss; ConfigError for a metric of a whole data set, which has no values."""
    if isinstance(loss, Metric):
        raise ConfigError(
            f"{where} loss",
            "a function (outputs, targets) -> a value an example",
            f"a Metric of the whole data set, {loss!r}",
            advice,
        )
    return loss


def _expect_labels(where: str, targets: Any) -> jax.Array:
    if not hasattr(targets, "dtype") or not jnp.issubdtype(targets.dtype, jnp.integer):
        got = getattr(targets, "dtype", type(targets).__name__)
        raise DTypeError(
            f"{where} targets",
            "an integer dtype",
            got,
            "use masked for others",
        )
    return as_int32(targets)
