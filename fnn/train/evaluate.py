"""Evaluation and prediction: every example once, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim import averaged_params, observe_loss
from fnn.optim.transforms.plateau import has_plateau
from fnn.train.figures import VALID_LOSS, validation_name
from fnn.train.inputs import take_examples, validate_examples, validate_inputs
from fnn.train.measure import count_examples, measure_examples, reduce_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Data, Result, Scalar, TrainState, Weights


def evaluate(
    recipe: Recipe,
    train_state: TrainState | Weights,
    data: Data,
    *,
    batch_size: int = 256,
) -> dict[str, Scalar]:
    """Compute the loss and each metric over a data set, every example counted once.

    The figures are those of validation within a run: inputs are prepared by the recipe's `prepare`,
    and where the optimizer keeps an average of the parameters, the average is evaluated.

    Args:
        recipe: From `train.recipe`. It needs no optimizer.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples that pass through the network at once. It affects memory and speed.

    Returns:
        The figures by name, loss first.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    given = _expect_weights("evaluate", recipe, train_state)
    checks.whole("evaluate batch_size", batch_size)
    return _evaluate(recipe, given, validate_examples("data", recipe, data), batch_size)


def predict(
    recipe: Recipe,
    train_state: TrainState | Weights,
    inputs: Any,
    *,
    batch_size: int = 256,
) -> Any:
    """Compute the network's outputs (n, ...) for inputs (n, ...), in inference mode.

    Inputs are prepared, and parameters averaged, as in `evaluate`.

    Args:
        recipe: From `train.recipe`. It needs no optimizer.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        inputs: Arrays whose first axis is the example.
        batch_size: Examples that pass through the network at once. It affects memory and speed.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The inputs do not fit the recipe, as for `train.run`.
    """
    given = _expect_weights("predict", recipe, train_state)
    checks.whole("predict batch_size", batch_size)
    return _predict(recipe, given, validate_inputs("inputs", recipe, inputs), batch_size)


def weights(recipe: Recipe, train_state: TrainState | Weights) -> Weights:
    """Extract the weights for inference: parameters and state.

    The parameters are averaged where the optimizer keeps an average. Save the weights with
    `lab.save`, and pass them to `evaluate` or `predict` instead of a train state.

    Args:
        recipe: From `train.recipe`.
        train_state: Of a run of this recipe; `Weights` are returned as they are.

    Raises:
        ConfigError: An argument is not of the type described here.
    """
    return _expect_weights("weights", recipe, train_state)


def _expect_weights(
    where: str,
    recipe: Recipe,
    train_state: TrainState | Weights,
) -> Weights:
    expect_recipe(where, recipe, trains=False)
    if isinstance(train_state, Weights):
        return train_state
    if not isinstance(train_state, TrainState):
        # The text of a Result would hold all of its arrays.
        raise ConfigError(
            f"{where} train_state",
            "a TrainState, or Weights",
            "a Result" if isinstance(train_state, Result) else type(train_state).__name__,
            "give result.train_state",
        )
    params = averaged_params(train_state.opt_state, train_state.params)
    return Weights(params, train_state.state)


def validate(
    recipe: Recipe,
    train_state: TrainState,
    valid: Data | None,
    batch_size: int,
) -> dict[str, Scalar]:
    """Return the figures on the validation data, under the names of the history.

    The result is empty if there is no validation data.
    """
    if valid is None:
        return {}
    figures = _evaluate(recipe, weights(recipe, train_state), valid, batch_size)
    return {validation_name(name): value for name, value in figures.items()}


def update_on_validation(
    recipe: Recipe,
    train_state: TrainState,
    figures: dict[str, Scalar],
) -> TrainState:
    """Update the optimizer and early stopping with the figures of validation after an epoch."""
    # This is known from the structure of the state, so it is decided while tracing.
    uses_figures = recipe.early_stopping is not None or has_plateau(train_state.opt_state)
    if not figures or not uses_figures:
        return train_state
    return _update_on_validation(recipe, train_state, figures)


@per_recipe()
def _update_on_validation(
    recipe: Recipe,
    train_state: TrainState,
    figures: dict[str, Scalar],
) -> TrainState:
    # Only optim.plateau uses the loss; other states stay as they are.
    opt_state = observe_loss(train_state.opt_state, figures[VALID_LOSS])
    train_state = train_state._replace(opt_state=opt_state)
    if recipe.early_stopping is None:
        return train_state
    return recipe.early_stopping.observe(train_state, figures)


@per_recipe(static=(3,))
def _evaluate(
    recipe: Recipe,
    given: Weights,
    data: Data,
    batch_size: int,
) -> dict[str, Scalar]:
    def measure_batch(inputs: Any, targets: Any) -> dict[str, Any]:
        outputs = _forward_pass(recipe, given, inputs)
        return measure_examples(recipe, outputs, targets)

    return reduce_examples(recipe, _map_batches(measure_batch, data, batch_size))


@per_recipe(static=(3,))
def _predict(
    recipe: Recipe,
    given: Weights,
    inputs: Any,
    batch_size: int,
) -> Any:
    def predict_batch(inputs: Any) -> Any:
        return _forward_pass(recipe, given, inputs)

    return _map_batches(predict_batch, (inputs,), batch_size)


def _forward_pass(recipe: Recipe, given: Weights, inputs: Any) -> Any:
    prepared = recipe.prepare(inputs)
    # With train=False there is no noise, and the state is used but not updated.
    outputs, _ = recipe.network.apply(given.params, given.state, prepared, train=False)
    return outputs


def _map_batches(
    function: Callable[..., Any],
    data: tuple[Any, ...],
    batch_size: int,
) -> Any:
    """Compute function(*data) batch by batch.

    The last batch is padded with the last example, so that all batches share one program. The
    results of the padding are cut off.
    """
    examples = count_examples(data)
    size = min(batch_size, examples)
    batches = -(-examples // size)
    indices = jnp.minimum(jnp.arange(batches * size), examples - 1)
    # (batches, size)
    rows = indices.reshape(batches, size)
    results = jax.lax.map(lambda row: function(*take_examples(data, row)), rows)
    # (batches, size, ...) -> (examples, ...)
    return jax.tree.map(lambda result: result.reshape(-1, *result.shape[2:])[:examples], results)
