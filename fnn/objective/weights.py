"""Weighted losses: transforms of a loss into one that returns values and their weights."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective.loss import as_loss
from fnn.objective.targets import as_int32, nan_unless
from fnn.types import Loss, LossFunction, Metric, Number, PerExample, Weighted
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
        ConfigError: `label` is not a whole number, or `loss` is not a function.
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
    inner = as_loss("ignoring loss", loss)

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
    inner = as_loss("masked loss", loss)

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

    A label that is not a class makes the loss NaN, unless it is ignored.

    Args:
        loss: A loss with integer targets (batch, ...) and a value for each.
        weights: (classes,), numbers >= 0, which may be traced. Their scale does not matter.

    Raises:
        ConfigError: A weight is negative or not finite, or `loss` is not a function.
        DTypeError: When called, the targets are not integers.
        ShapeError: When called, there is not one weight for each class, or one value for each
            label.
    """
    _expect_class_weights(weights)
    inner = as_loss("class_weighted loss", loss)
    classes = len(weights)

    def weigh_by_class(outputs: Any, targets: jax.Array) -> Weighted:
        labels = _expect_labels("class_weighted", targets)
        values, counts = as_weighted(inner(outputs, targets))
        if values.shape != labels.shape:
            expected = f"a value a label {labels.shape}"
            raise ShapeError(
                "class_weighted loss",
                expected,
                values.shape,
                "use masked",
            )
        if outputs.shape[-1] != classes:
            expected = f"({outputs.shape[-1]},)"
            advice = "one for each class"
            raise ShapeError(
                "class_weighted weights",
                expected,
                (classes,),
                advice,
            )
        # values and counts have the shape of the labels, (batch, ...).
        known = (labels >= 0) & (labels < classes)
        table = _weight_table(weights, values.dtype)  # (classes,)
        # Labels are clipped for the lookup; the guard then marks those out of range.
        label_weights = table[labels.clip(0, classes - 1)]
        label_weights = label_weights * nan_unless(known, values.dtype)
        # An ignored example may have any label; where, since 0 times NaN is NaN.
        return Weighted(values, jnp.where(counts == 0, 0, counts * label_weights))

    return _with_function(inner, weigh_by_class)


def as_weighted(values: PerExample | Weighted) -> Weighted:
    """Return the result of a loss with weights; they are 1 if the loss returns none."""
    if isinstance(values, Weighted):
        return values
    # Weights of 1 have the dtype of the values, which may be bfloat16 or float64.
    return Weighted(values, jnp.ones_like(values))


def _with_function(loss: Loss, function: LossFunction, **changes: Any) -> Loss:
    """Return the loss with another function, and with these of its attributes changed."""
    attributes: dict[str, Any] = {
        "classes": loss.classes,
        "probabilities": loss.probabilities,
        "ignored": loss.ignored,
        "couples_examples": loss.couples_examples,
        "metric": loss.metric,
        "heads": loss.heads,
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


def _expect_class_weights(weights: Sequence[Number] | jax.Array) -> None:
    where = "class_weighted weights"
    if not isinstance(weights, jax.Array | np.ndarray):
        for index, weight in enumerate(weights):
            checks.number(f"{where} {index}", weight, "[0, inf)")
        return
    if weights.ndim != 1 or not jnp.issubdtype(weights.dtype, jnp.floating):
        got = checks.describe(weights)
        raise ConfigError(
            where,
            "floats (classes,)",
            got,
            "one for each class",
        )
    # The numbers of a traced array are not known yet.
    if not checks.is_concrete(weights):
        return
    numbers = np.asarray(weights)
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ConfigError(
            where,
            "finite numbers >= 0",
            numbers,
            "0 ignores a class",
        )


def _weight_table(weights: Sequence[Number] | jax.Array, dtype: Any) -> jax.Array:
    """Return the weights as an array (classes,); each number of a sequence may be traced."""
    if isinstance(weights, jax.Array | np.ndarray):
        return jnp.asarray(weights, dtype)
    # Converted one by one, since some of them may be traced.
    return jnp.stack([jnp.asarray(weight, dtype) for weight in weights])


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
