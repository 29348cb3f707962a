"""Losses in which not all counts alike: transforms of a loss into one that gives values and weights."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective.loss import as_loss
from fnn.objective.targets import alarm, countable
from fnn.types import Loss, LossFunction, Metric, Number, PerExample, Weighted
from fnn.values import maker


@maker
def ignoring(loss: LossFunction, label: int) -> Loss:
    """The loss, where targets of this label count nothing: their weight, value and gradient are exactly 0.

    targets (batch, ...) are integers, and each is taken for an example of its own, so that padding in a sequence, or a
    border in a map, may carry the label. The loss sees 0 in their place, and outputs of 0. ConfigError unless the label
    is a whole number; DTypeError for targets that are no integers.
    """
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise ConfigError(
            "ignoring label", "a whole number", repr(label), "give the label itself, as in -100"
        )
    label, inner = int(label), as_loss("ignoring loss", loss)

    def ignored(outputs: Any, targets: jax.Array) -> Weighted:
        labels = _expect_labels("ignoring", targets)
        counts = labels != label
        return _each(inner, outputs, jnp.where(counts, labels, 0), counts)

    return replace(
        inner,
        ignored,
        ignored=inner.ignored | {label},
        metric=_of_metric(inner, partial(ignoring, label=label)),
    )


@maker
def masked(loss: LossFunction) -> Loss:
    """The loss of targets that are a pair (targets, mask), where each value counts as much as its mask says.

    The mask (batch, ...) holds truth values, or numbers >= 0: 0 for not at all, whatever stands there, with a gradient
    of exactly 0. Its axes tell what counts by itself: with a mask of the targets' shape, each number is an example of
    its own. A negative one makes the loss NaN. ShapeError where it fits not the first axes of outputs and targets.
    """
    inner = as_loss("masked loss", loss)

    def counted(outputs: Any, targets: Any) -> Weighted:
        if not isinstance(targets, tuple | list) or len(targets) != 2:
            raise ShapeError(
                "targets",
                "a pair (targets, mask)",
                type(targets).__name__,
                "give the mask with them",
            )
        return _each(inner, outputs, *targets)

    return replace(
        inner, counted, classes=False, probabilities=False, metric=_of_metric(inner, masked)
    )


@maker
def class_weighted(loss: LossFunction, weights: Sequence[Number] | jax.Array) -> Loss:
    """The loss, where an example counts by its class: the mean is Σ weights[label] value / Σ weights[label].

    weights (classes,) may be traced; targets (batch, ...) are integers, and the loss gives a value for each. A label
    that is no class makes the loss NaN, unless it is ignored. ConfigError unless weights are >= 0; ShapeError unless
    there is one for each class.
    """
    if not isinstance(weights, jax.Array | np.ndarray):
        for place, weight in enumerate(weights):
            checks.number(f"class_weighted weights {place}", weight, "[0, inf)")
    elif weights.ndim != 1 or not jnp.issubdtype(weights.dtype, jnp.floating):
        raise ConfigError(
            "class_weighted weights",
            "floats (classes,)",
            checks.describe(weights),
            "one for each class",
        )
    elif (
        checks.is_concrete(weights)
        and not (np.isfinite(weights) & (np.asarray(weights) >= 0)).all()
    ):
        raise ConfigError(
            "class_weighted weights",
            "finite numbers >= 0",
            np.asarray(weights),
            "0 ignores a class",
        )
    inner, classes = as_loss("class_weighted loss", loss), len(weights)

    def weighted(outputs: Any, targets: jax.Array) -> Weighted:
        labels = _expect_labels("class_weighted", targets)
        values, counts = as_weighted(inner(outputs, targets))
        if values.shape != labels.shape:
            raise ShapeError(
                "class_weighted loss", f"a value a label {labels.shape}", values.shape, "use masked"
            )
        if outputs.shape[-1] != classes:
            raise ShapeError(
                "class_weighted weights",
                f"({outputs.shape[-1]},)",
                (classes,),
                "one for each class",
            )
        known = (labels >= 0) & (labels < classes)
        own = _row(weights, values.dtype)[labels.clip(0, classes - 1)] * alarm(known, values.dtype)
        return Weighted(
            values, jnp.where(counts == 0, 0, counts * own)
        )  # what counts nothing may have any label

    return replace(inner, weighted)


def _row(weights: Sequence[Number] | jax.Array, dtype: Any) -> jax.Array:
    """The weights as an array (classes,), of which each may be traced."""
    if isinstance(weights, jax.Array | np.ndarray):
        return jnp.asarray(weights, dtype)
    return jnp.stack([jnp.asarray(weight, dtype) for weight in weights])


def replace(loss: Loss, function: LossFunction, **known: Any) -> Loss:
    """Another loss, of whose targets the same is known but for what is given."""
    same = {
        name: getattr(loss, name)
        for name in ("classes", "probabilities", "ignored", "metric", "heads")
    }
    return Loss(function, **same | known)


def _of_metric(loss: Loss, change: Callable[[LossFunction], LossFunction]) -> Any:
    """The loss's own metric, changed as the loss is."""
    if loss.metric is None or isinstance(loss.metric[1], Metric):
        return None
    name, function = loss.metric
    return name, change(function)


def as_weighted(values: PerExample | Weighted) -> Weighted:
    """What a loss gives, with weights of 1 where it gives none."""
    return values if isinstance(values, Weighted) else Weighted(values, jnp.ones_like(values))


def _each(loss: LossFunction, outputs: Any, targets: Any, mask: jax.Array) -> Weighted:
    """The loss of each example that the mask (batch, ...) tells apart, its axes made one."""
    axes = mask.ndim
    for leaf in jax.tree.leaves((outputs, targets)):
        if leaf.shape[:axes] != mask.shape or axes == 0:
            raise ShapeError(
                "mask",
                f"the first axes of {leaf.shape}",
                mask.shape,
                "it tells what counts by itself",
            )
    counts = mask.astype(bool).reshape(-1)

    def row(array: jax.Array) -> jax.Array:
        return array.reshape(-1, *array.shape[axes:])

    def silenced(array: jax.Array) -> jax.Array:
        """Cut off where nothing counts: no number there reaches the loss, and no gradient, not even NaN, comes back."""
        return jnp.where(_along_first(counts, array), array, 0)

    outputs = jax.tree.map(lambda array: silenced(row(array)), outputs)
    values, weights = as_weighted(loss(outputs, jax.tree.map(row, targets)))
    own = _along_first(mask.reshape(-1).astype(values.dtype), weights)
    weights = weights * own * alarm(own >= 0, values.dtype)
    shape = (*mask.shape, *values.shape[1:])
    return Weighted(silenced(values).reshape(shape), silenced(weights).reshape(shape))


def _along_first(vector: jax.Array, x: jax.Array) -> jax.Array:
    """A vector (batch,) as (batch, 1, ..., 1), ready to meet x (batch, ...)."""
    return jnp.broadcast_to(vector.reshape(-1, *(1,) * (x.ndim - 1)), x.shape)


def _expect_labels(where: str, targets: Any) -> jax.Array:
    if not hasattr(targets, "dtype") or not jnp.issubdtype(targets.dtype, jnp.integer):
        got = getattr(targets, "dtype", type(targets).__name__)
        raise DTypeError(f"{where} targets", "an integer dtype", got, "use masked for others")
    return countable(targets)
