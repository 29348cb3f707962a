"""Values of targets: labels that are classes of the network, and distributions over classes."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import LabelError
from fnn.objective.loss import as_loss
from fnn.objective.targets import SUM_TOLERANCE
from fnn.train.extremes import are_within, raise_at_first, read_extremes
from fnn.train.recipe import Recipe
from fnn.types import Loss, Shape


def expect_targets(
    prefix: str,
    recipe: Recipe,
    targets: Any,
    out_shape: Any,
    wait: bool,
) -> None:
    """Raise LabelError for targets that the loss of one of the heads cannot use."""
    for loss, head_targets, head_shape in _heads(recipe.loss, targets, out_shape):
        # A head whose outputs or targets are trees of arrays is checked by its loss alone.
        if trees.is_shape(head_shape) and isinstance(head_targets, jax.Array | np.ndarray):
            _expect_labels(prefix, loss, head_targets, head_shape, wait)
            _expect_probabilities(prefix, loss, head_targets, head_shape, wait)


def _heads(
    loss: Loss,
    targets: Any,
    out_shape: Any,
) -> Iterator[tuple[Loss, Any, Any]]:
    """Yield the loss, the targets and the output shape of each head of the network."""
    if loss.heads is None:
        yield loss, targets, out_shape
        return
    for head, function in loss.heads.items():
        yield as_loss(head, function), targets[head], out_shape[head]


def _expect_labels(
    prefix: str,
    loss: Loss,
    targets: jax.Array | np.ndarray,
    out_shape: Shape,
    wait: bool,
) -> None:
    """Raise LabelError for integer targets that are not classes of the outputs."""
    is_label = loss.classes and jnp.issubdtype(targets.dtype, jnp.integer)
    # Outputs are (batch, ..., classes), labels (batch, ...).
    if not is_label or not out_shape or targets.shape[1:] != out_shape[:-1]:
        return
    classes = out_shape[-1]
    if are_within(targets, classes, wait):
        return
    labels = np.asarray(targets).astype(np.int64)
    is_ignored = np.isin(labels, list(loss.ignored))
    wrong = ((labels < 0) | (labels >= classes)) & ~is_ignored
    if (labels[wrong] < 0).any():
        advice = "drop these examples, or wrap the loss in objective.ignoring"
    else:
        advice = "give the network more outputs, or, where targets are not labels, floats"
    name = f"{prefix}labels"
    raise_at_first(LabelError, name, f"0 <= label < {classes}", labels, wrong, advice)


def _expect_probabilities(
    prefix: str,
    loss: Loss,
    targets: jax.Array | np.ndarray,
    out_shape: Shape,
    wait: bool,
) -> None:
    """Raise LabelError for targets of a loss of probabilities that are no distributions."""
    is_float = jnp.issubdtype(targets.dtype, jnp.floating)
    # Outputs and targets are (batch, ..., classes).
    if not (loss.probabilities and is_float) or targets.shape[1:] != out_shape:
        return
    extremes = read_extremes(targets, wait)
    if extremes is None:
        return
    # In float64, so that rounding does not grow with the number of classes.
    host = np.asarray(targets, np.float64)
    name = f"{prefix}targets"
    sums = host.sum(-1)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    advice = "the one-hot row of a wrong label is all zeros"
    raise_at_first(LabelError, name, "rows that sum to 1", sums, wrong, advice)
    if extremes.low < -SUM_TOLERANCE:
        wrong = host < -SUM_TOLERANCE
        advice = "give probabilities, not scores"
        raise_at_first(LabelError, name, "probabilities >= 0", host, wrong, advice)
