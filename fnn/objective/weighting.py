"""Losses in which not all counts alike: transforms of a loss into one that gives values and weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective.targets import alarm, countable
from fnn.types import Loss, PerExample, Weighted


def ignoring(loss: Loss, label: int) -> Loss:
    """The loss, where targets of this label count nothing: their weight, value and gradient are exactly 0.

    targets (batch, ...) are integers, and each is taken for an example of its own, so that padding in a sequence, or a
    border in a map, may carry the label. The loss sees 0 in their place, and outputs of 0. ConfigError unless the label
    is a whole number; DTypeError for targets that are no integers.
    """
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise ConfigError("ignoring label", "a whole number", repr(label), "give the label itself, as in -100")
    return Ignoring(_expect_loss("ignoring", loss), int(label))


def masked(loss: Loss) -> Loss:
    """The loss of targets that are a pair (targets, mask), where each value counts as much as its mask says.

    The mask (batch, ...) holds truth values, or numbers >= 0: 0 for not at all, whatever stands there, with a gradient
    of exactly 0. Its axes tell what counts by itself: with a mask of the targets' shape, each number is an example of
    its own. A negative one makes the loss NaN. ShapeError where it fits not the first axes of outputs and targets.
    """
    return Masked(_expect_loss("masked", loss))


def class_weighted(loss: Loss, weights: Sequence[float] | jax.Array) -> Loss:
    """The loss, where an example counts by its class: the mean is Σ weights[label] value / Σ weights[label].

    weights (classes,) may be traced; targets (batch, ...) are integers, and the loss gives a value for each. A label
    that is no class makes the loss NaN, unless it is ignored. ConfigError unless weights are >= 0; ShapeError unless
    there is one for each class.
    """
    array = jnp.asarray(weights, None if hasattr(weights, "dtype") else jnp.result_type(float))
    if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise ConfigError("class_weighted weights", "floats (classes,)", checks.describe(array), "one for each class")
    if checks.is_concrete(array) and not (np.isfinite(array) & (np.asarray(array) >= 0)).all():
        raise ConfigError("class_weighted weights", "finite numbers >= 0", np.asarray(array), "0 ignores a class")
    return ClassWeighted(_expect_loss("class_weighted", loss), array)


def within(loss: Any) -> Iterator[Any]:
    """The loss, the one it is made of, and so on: what looks for a certain one finds it under transforms."""
    while loss is not None:
        yield loss
        loss = getattr(loss, "loss", getattr(loss, "func", None))


def as_weighted(values: PerExample | Weighted) -> Weighted:
    """What a loss gives, with weights of 1 where it gives none."""
    return values if isinstance(values, Weighted) else Weighted(values, jnp.ones_like(values))


@dataclass(frozen=True)
class Ignoring:
    """What `ignoring` gives."""

    loss: Loss
    label: int

    def __call__(self, outputs: Any, targets: jax.Array) -> Weighted:
        labels = _expect_labels("ignoring", targets)
        counts = labels != self.label
        return _each(self.loss, outputs, jnp.where(counts, labels, 0), counts)


@dataclass(frozen=True)
class Masked:
    """What `masked` gives."""

    loss: Loss

    def __call__(self, outputs: Any, targets: Any) -> Weighted:
        if not isinstance(targets, tuple | list) or len(targets) != 2:
            raise ShapeError("targets", "a pair (targets, mask)", type(targets).__name__, "give the mask with them")
        return _each(self.loss, outputs, *targets)


@dataclass(frozen=True, eq=False)  # an array has no hash: equal only to itself
class ClassWeighted:
    """What `class_weighted` gives."""

    loss: Loss
    weights: jax.Array

    def __call__(self, outputs: Any, targets: jax.Array) -> Weighted:
        labels, classes = _expect_labels("class_weighted", targets), len(self.weights)
        values, counts = as_weighted(self.loss(outputs, targets))
        if values.shape != labels.shape:
            raise ShapeError("class_weighted loss", f"a value a label {labels.shape}", values.shape, "use masked")
        if outputs.shape[-1] != classes:
            raise ShapeError("class_weighted weights", f"({outputs.shape[-1]},)", (classes,), "one for each class")
        known = (labels >= 0) & (labels < classes)
        own = self.weights.astype(values.dtype)[labels.clip(0, classes - 1)] * alarm(known, values.dtype)
        return Weighted(values, jnp.where(counts == 0, 0, counts * own))  # what counts nothing may have any label


def _each(loss: Loss, outputs: Any, targets: Any, mask: jax.Array) -> Weighted:
    """The loss of each example that the mask (batch, ...) tells apart, its axes made one."""
    axes = mask.ndim
    for leaf in jax.tree.leaves((outputs, targets)):
        if leaf.shape[:axes] != mask.shape or axes == 0:
            raise ShapeError("mask", f"the first axes of {leaf.shape}", mask.shape, "it tells what counts by itself")
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


def _expect_loss(where: str, loss: Any) -> Loss:
    if not callable(loss):
        raise ConfigError(f"{where} loss", "a loss", repr(loss), "give the function itself")
    return loss
