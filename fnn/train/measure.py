"""The loss and the metrics of outputs: a value for each example, then one figure for all of them.

A batch that goes through the network in parts is measured part by part. The values of the examples are kept, and figures are
taken once over all of them, so that parts change no figure.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import ShapeError
from fnn.train.figures import LOSS
from fnn.train.recipe import Recipe
from fnn.types import LossFunction, Metric, PerExample, Scalar, Weighted


def measure_examples(recipe: Recipe, outputs: Any, targets: Any) -> dict[str, Any]:
    """The values of the loss and of each metric for each example, by name.

    Args:
        recipe: Its loss and metrics are evaluated.
        outputs: Of the network, arrays (n, ...).
        targets: Arrays (n, ...).

    Raises:
        ShapeError: A function does not give one value an example.
    """
    examples = count_examples(targets)
    values = {}
    for name, function in _functions(recipe).items():
        per_example = function.per_example if isinstance(function, Metric) else function
        each = partial(_expect_one_each, name, examples)
        values[name] = jax.tree.map(each, per_example(outputs, targets))
    return values


def reduce_examples(recipe: Recipe, values: dict[str, Any]) -> dict[str, Scalar]:
    """The figures of all examples, from what `measure_examples` gave for each."""
    return {name: _reduce(function, values[name]) for name, function in _functions(recipe).items()}


def mean(values: PerExample | Weighted) -> Scalar:
    """The mean over examples (n, ...), weighted where the values are; 0 where all weights are 0."""
    if isinstance(values, Weighted):
        total = values.weights.sum()
        least = jnp.finfo(total.dtype).tiny  # so that nothing is divided by 0
        return (values.weights * values.values).sum() / jnp.maximum(total, least)
    return values.reshape(values.shape[0], -1).mean(1).mean()


def count_examples(data: Any) -> int:
    """The length of the first axis of all arrays; ShapeError if it is 0."""
    examples = int(jax.tree.leaves(data)[0].shape[0])
    if examples == 0:
        got, advice = "a batch axis with 0 examples", "check how the data was selected"
        raise ShapeError("batch", "at least one example", got, advice)
    return examples


def _functions(recipe: Recipe) -> dict[str, LossFunction | Metric]:
    return {LOSS: recipe.loss, **recipe.metrics}


def _reduce(function: LossFunction | Metric, values: Any) -> Scalar:
    if isinstance(function, Metric):
        return function.reduce(values, jnp.ones(count_examples(values)))
    return mean(values)


def _expect_one_each(name: str, examples: int, values: jax.Array) -> PerExample:
    if values.ndim == 0 or values.shape[0] != examples:
        expected = f"one value an example, ({examples},)"
        raise ShapeError(name, expected, values.shape, "leave the mean to fnn")
    return values
