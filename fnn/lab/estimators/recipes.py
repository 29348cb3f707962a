"""Recipes of estimators: made for a number of outputs, traced for their inputs, and weighted."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError
from fnn.objective import cross_entropy, masked
from fnn.train.inputs import example_shapes
from fnn.train.programs import shared
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Metric, RandomKey, Shape
from fnn.values import maker

STEPS = "steps"  # the option of a function of the recipe that gets the number of steps


def make_recipe(
    where: str, recipe: Recipe | Callable[..., Recipe], outputs: int, steps: int | None
) -> Recipe:
    """Return the recipe, or that which a function makes for a number of outputs.

    Args:
        where: Name of the estimator in errors.
        recipe: A recipe, or a function (outputs) or (outputs, steps=) -> recipe.
        outputs: Number of outputs of the network.
        steps: Number of steps of the run; None if it is not known.

    Raises:
        ConfigError: There is no recipe with an optimizer, or the function needs the steps.
    """
    if not isinstance(recipe, Recipe) and callable(recipe):
        recipe = recipe(outputs, **_step_option(where, recipe, steps))
    return expect_recipe(where, recipe)


def _step_option(
    where: str,
    function: Callable[..., Recipe],
    steps: int | None,
) -> dict[str, int]:
    """Return the number of steps as an option, if the function has it."""
    # Schedules such as one_cycle need the length of the run.
    option = inspect.signature(function).parameters.get(STEPS)
    if option is None:
        return {}
    if steps is not None:
        return {STEPS: steps}
    if option.default is option.empty:
        expected = "a function with a default for steps"
        got = "partial_fit, whose number of steps is not known"
        raise ConfigError(
            f"{where} recipe",
            expected,
            got,
            "give it one, or use fit",
        )
    return {}


def trace_recipe(recipe: Recipe, inputs: np.ndarray) -> tuple[np.dtype[Any], Shape]:
    """Return the dtype that the network takes such inputs in, and the shape of an output.

    Args:
        recipe: From `train.recipe`.
        inputs: Numbers (n, ...).

    Raises:
        FnnError: The network does not accept inputs of this shape.
    """
    # Integers can be indices, as for nn.embed, so they are first tried as they are.
    if inputs.dtype.kind in "iu":
        try:
            return inputs.dtype, _output_shape(recipe, inputs.shape, inputs.dtype)
        except TypeError:
            # Most networks take floats. Bytes as floats would be levels of another scale.
            if inputs.dtype == np.uint8:
                raise
    dtype = np.dtype(jnp.result_type(float))
    return dtype, _output_shape(recipe, inputs.shape, dtype)


def _output_shape(
    recipe: Recipe,
    shape: Shape,
    dtype: Any,
) -> Shape:
    """Return the shape of an output of the network for stored inputs of this shape (n, ...)."""

    def forward_pass(key: RandomKey, stored: jax.Array) -> Any:
        params, state, _ = recipe.network.init(key, example_shapes(recipe, stored))
        prepared = recipe.prepare(stored)
        outputs, _ = recipe.network.apply(params, state, prepared, train=False)
        return outputs

    # One example; nothing is computed.
    stored = jax.ShapeDtypeStruct((1, *shape[1:]), jax.dtypes.canonicalize_dtype(dtype))

    def trace() -> Any:
        return jax.eval_shape(forward_pass, jax.random.key(0), stored)

    outputs = shared(recipe, ("outputs", stored.shape, stored.dtype), trace)
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        got, advice = f"a {type(outputs).__name__}", "choose one, as by nn.pick"
        raise ConfigError(
            "recipe network",
            "one array of outputs",
            got,
            advice,
        )
    return outputs.shape[1:]


def weigh(recipe: Any) -> Any:
    """Return the recipe with a loss that takes pairs (targets, weights).

    Metrics are weighted too, except those of a whole data set.

    Args:
        recipe: From `train.recipe`.
    """
    # The functions as they were given, since recipes are compared by their identity.
    given = recipe.arguments
    changes: dict[str, Any] = {"loss": masked(given.get("loss", cross_entropy))}
    if given.get("metrics") is not None:
        changes["metrics"] = {
            name: unweighted(metric) if isinstance(metric, Metric) else masked(metric)
            for name, metric in given["metrics"].items()
        }
    return recipe.replace(**changes)


@maker
def unweighted(metric: Metric) -> Metric:
    """A metric of a whole data set that leaves the weights of pairs (targets, weights) out.

    Args:
        metric: The metric of outputs and targets.
    """

    def per_example(outputs: Any, targets: Any) -> Any:
        return metric.per_example(outputs, targets[0])

    # All other properties are those of the metric.
    properties = {field.name: getattr(metric, field.name) for field in fields(Metric)}
    return Metric(**properties | {"per_example": per_example})
