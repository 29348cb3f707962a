"""The loss and the metrics of outputs: values per example, and their reduction to figures.

A batch may pass through the network in micro-batches, each of which is measured separately. The
values per example are kept, and figures are reduced once over all of them. Therefore splitting a
batch changes no figure.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import DTypeError, ShapeError
from fnn.train.devices import is_rows
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe
from fnn.types import HeadLosses, LossFunction, Metric, PerExample, Scalar, Weighted


def measure_examples(recipe: Recipe, outputs: Any, targets: Any) -> dict[str, Any]:
    """Return the values of the loss and of each metric for each example, by name.

    Args:
        recipe: Its loss and metrics are evaluated.
        outputs: Of the network, arrays (n, ...).
        targets: Arrays (n, ...).

    Raises:
        ShapeError: A function does not return one value per example.
        DTypeError: The values of the loss are not floating-point numbers.
    """
    examples = count_examples(targets)
    values = {}
    for name, function in _functions(recipe).items():
        # A Metric has a function that reduces the values; all others are reduced by the mean.
        per_example = function.per_example if isinstance(function, Metric) else function
        value = per_example(outputs, targets)
        arrays = jax.tree.leaves(value)
        if not arrays:
            advice = "return the values, as by a return statement"
            raise ShapeError(
                name,
                f"one value an example, ({examples},)",
                value,
                advice,
            )
        for array in arrays:
            _expect_one_each(name, examples, array)
        if name == LOSS:
            _expect_differentiable(value)
        values[name] = value
    return values


def reduce_examples(
    recipe: Recipe, values: dict[str, Any], weights: jax.Array | None = None
) -> dict[str, Scalar]:
    """Reduce the values that `measure_examples` returned to one figure per function.

    Args:
        recipe: Its loss and metrics were evaluated.
        values: By name, of each example.
        weights: Of the examples, (n,); None if each counts once.
    """
    return {
        name: _reduce(function, values[name], weights)
        for name, function in _functions(recipe).items()
    }


def mean(values: PerExample | Weighted | HeadLosses) -> Scalar:
    """Return the mean over values (n, ...), weighted if they have weights; 0 if these are all 0.

    Of several heads it is the sum of their means.
    """
    if isinstance(values, HeadLosses):
        return head_means(values).sum()
    if isinstance(values, Weighted):
        total = values.weights.sum()
        smallest = jnp.finfo(total.dtype).tiny  # avoids the division 0 / 0
        return (values.weights * values.values).sum() / jnp.maximum(total, smallest)
    # (n, ...) -> (n, values) -> (n,): every example has the same weight.
    return values.reshape(values.shape[0], -1).mean(1).mean()


def head_means(values: HeadLosses, totals: jax.Array | None = None) -> jax.Array:
    """Return the weighted mean of each head (heads,); 0 for a head whose weights are all 0.

    Args:
        values: Of a batch, or of a micro-batch.
        totals: Sums of the weights (heads,) to divide by; None for those of these values.
    """
    if totals is None:
        totals = values.weights.sum(0)
    smallest = jnp.finfo(totals.dtype).tiny  # avoids the division 0 / 0
    return (values.weights * values.values).sum(0) / jnp.maximum(totals, smallest)


def count_examples(data: Any) -> int:
    """Return the length of the first axis of all arrays; ShapeError if it is 0."""
    examples: int = jax.tree.leaves(data, is_leaf=is_rows)[0].shape[0]
    if examples == 0:
        raise ShapeError(
            "batch",
            "at least one example",
            "a batch axis with 0 examples",
            "check how the data was selected",
        )
    return examples


def _functions(recipe: Recipe) -> dict[str, LossFunction | Metric]:
    return {LOSS: recipe.loss, **recipe.metrics}


def _reduce(function: LossFunction | Metric, values: Any, weights: jax.Array | None) -> Scalar:
    if isinstance(function, Metric):
        given = jnp.ones(count_examples(values)) if weights is None else weights
        return function.reduce(values, given)
    return mean(values if weights is None else _weigh(values, weights))


def _weigh(values: Any, weights: jax.Array) -> Weighted | HeadLosses:
    """Multiply the weights of values (n, ...) by weights of the examples (n,)."""
    if isinstance(values, Weighted | HeadLosses):
        own = values.weights
        each = weights.astype(own.dtype).reshape(-1, *(1,) * (own.ndim - 1))
        return values._replace(weights=own * each)
    # (n, ...) -> (n,)
    means = values.reshape(values.shape[0], -1).mean(1)
    return Weighted(means, weights.astype(means.dtype))


def _expect_one_each(name: str, examples: int, values: jax.Array) -> None:
    if values.ndim == 0 or values.shape[0] != examples:
        raise ShapeError(
            name,
            f"one value an example, ({examples},)",
            values.shape,
            "leave the mean to fnn",
        )


def _expect_differentiable(losses: Any) -> None:
    # The gradient of integers is 0 everywhere, so that training would change nothing.
    dtype = (losses.values if isinstance(losses, Weighted | HeadLosses) else losses).dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        advice = "give a loss with a gradient; figures such as accuracy are metrics"
        raise DTypeError(
            LOSS,
            "floating-point numbers",
            dtype,
            advice,
        )
