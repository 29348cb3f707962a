"""What integer targets are to a loss: the numbers of classes, for most."""

from typing import Any

import jax.numpy as jnp

from fnn.objective import accuracy, binary_cross_entropy, dice, ignoring, nt_xent, triplet
from fnn.objective.weighting import Ignoring, within
from fnn.types import Loss, Metrics

OTHERWISE = (binary_cross_entropy, dice, nt_xent, triplet)  # to these they are answers, masks, or names of things


def are_classes(loss: Loss, targets: Any) -> bool:
    """Whether the targets are integers that number the classes of the outputs."""
    is_integer = hasattr(targets, "dtype") and jnp.issubdtype(targets.dtype, jnp.integer)
    return is_integer and not any(part is other for part in within(loss) for other in OTHERWISE)


def ignored(loss: Loss) -> set[int]:
    """The labels that count nothing."""
    return {part.label for part in within(loss) if isinstance(part, Ignoring)}


def default_metrics(loss: Loss, targets: Any) -> Metrics:
    """Accuracy, over what counts, where the targets number classes."""
    if not are_classes(loss, targets):
        return {}
    metric: Loss = accuracy
    for label in ignored(loss):
        metric = ignoring(metric, label)
    return {"accuracy": metric}
