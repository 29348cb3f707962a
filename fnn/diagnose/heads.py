"""Heads of a recipe: the loss, outputs and targets of each, and the kind of its task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fnn.objective.loss import as_loss
from fnn.train.recipe import Recipe
from fnn.types import Loss
from fnn.values import Made

LIBRARY = "fnn."  # begins the names of the modules of this library
LOGITS = ("cross_entropy", "focal")  # losses of labels whose outputs are logits
BINARY = ("binary_cross_entropy", "binary_focal")  # losses whose outputs are logits of yes and no
VALUES = ("squared_error", "absolute_error", "huber", "log_cosh")  # losses of predicted values


class Head(NamedTuple):
    """One output of a network with its loss.

    Attributes:
        name: The name of the head; "" where the network has a single one.
        loss: Its loss.
        outputs: Arrays (n, ...), or the shape of one output.
        targets: Arrays (n, ...).
    """

    name: str
    loss: Loss
    outputs: Any
    targets: Any

    @property
    def where(self) -> str | None:
        """The name of the head, None where there is a single one."""
        return self.name or None

    @property
    def is_labeled(self) -> bool:
        """Whether each example has one target, which is the number of its class."""
        if not _is_array(self.targets) or self.targets.ndim != 1:
            return False
        is_integer = jnp.issubdtype(self.targets.dtype, jnp.integer)
        if not is_integer or self.classes is None:
            return False
        if self.loss.classes:
            return True
        # Of a plain function nothing is known. Integers are labels if the last one has an output,
        # and no output is left: otherwise the outputs may be features, as of a contrastive loss.
        largest = int(np.max(self.targets))
        return not is_declared(self.loss) and largest + 1 == self.classes

    @property
    def classes(self) -> int | None:
        """The length of the last axis of the outputs; None unless they are (n, classes)."""
        shape = self.outputs
        if _is_array(shape):
            shape = shape.shape[1:]
        # Of outputs of several axes, the labels are those of a text or an image.
        if not isinstance(shape, tuple) or len(shape) != 1:
            return None
        size = shape[0]
        return size if isinstance(size, int) and size > 1 else None

    @property
    def is_matched(self) -> bool:
        """Whether targets are floating-point numbers of the shape of the outputs."""
        if not _is_array(self.targets):
            return False
        shape = self.outputs.shape[1:] if _is_array(self.outputs) else self.outputs
        is_float = jnp.issubdtype(self.targets.dtype, jnp.floating)
        return bool(is_float and shape == self.targets.shape[1:])


def heads(recipe: Recipe, outputs: Any, targets: Any) -> list[Head]:
    """Return the heads of a recipe.

    Args:
        recipe: From `train.recipe`.
        outputs: Of the network, arrays (n, ...); or the shape of one output.
        targets: Arrays (n, ...).
    """
    loss = recipe.loss
    if loss.heads is None:
        return [Head("", loss, outputs, targets)]
    found = []
    for name, function in loss.heads.items():
        head_loss = as_loss(name, function)
        head = Head(name, head_loss, outputs[name], targets[name])
        found.append(head)
    return found


def last_size(out_shape: Any) -> int | None:
    """Return the length of the last axis of one output; None if there is no single output."""
    if not isinstance(out_shape, tuple) or not out_shape:
        return None
    last = out_shape[-1]
    return last if isinstance(last, int) else None


def loss_name(loss: Loss) -> str:
    """Return the name of a loss of this library; "" for any other function."""
    function: Any = loss.maker if isinstance(loss, Made) else loss
    name: str = getattr(function, "__name__", "")
    return name if is_library(function) else ""


def is_declared(loss: Loss) -> bool:
    """Return whether a loss is of this library, or declares its properties."""
    return loss.couples_examples is not None


def is_library(function: Callable[..., Any]) -> bool:
    """Return whether a function is defined in this library."""
    module: str = getattr(function, "__module__", None) or ""
    return module.startswith(LIBRARY)


def _is_array(value: Any) -> bool:
    # A shape is a tuple; other outputs may be any tree.
    return hasattr(value, "dtype") and isinstance(np.shape(value), tuple)
