"""A network looked at without training it: every example once, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim import averaged_params, observe_loss
from fnn.optim.transforms.plateau import observes
from fnn.train.figures import VALID_LOSS, validation
from fnn.train.inputs import take
from fnn.train.measure import count_examples, measure_examples, reduce_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import (
    Data,
    Result,
    Scalar,
    TrainState,
    Weights,
)


def evaluate(
    recipe: Recipe, train_state: TrainState | Weights, data: Data, *, batch_size: int = 256
) -> dict[str, Scalar]:
    """The loss and each metric over a data set, every example counted once.

    It looks at what validation in a run looks at: inputs are prepared by the recipe's `prepare`, and where the
    optimizer keeps an average of the parameters, that is evaluated.

    Args:
        recipe: From `train.recipe`.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples that go through the network at once.
    """
    given = _weights("evaluate", recipe, train_state)
    return evaluated(recipe, given, data, checks.whole("evaluate batch_size", batch_size))


def predict(
    recipe: Recipe, train_state: TrainState | Weights, inputs: Any, *, batch_size: int = 256
) -> Any:
    """The network's outputs (n, ...) for inputs (n, ...), without noise.

    Inputs are prepared, and parameters averaged, as in `evaluate`.

    Args:
        recipe: From `train.recipe`.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        inputs: Arrays whose first axis is the example.
        batch_size: Examples that go through the network at once.
    """
    given = _weights("predict", recipe, train_state)
    return _predicted(recipe, given, inputs, checks.whole("predict batch_size", batch_size))


def weights(recipe: Recipe, train_state: TrainState | Weights) -> Weights:
    """What inference needs of a train state: the parameters, averaged where the optimizer averages, and the state.

    Save them with `lab.save`, and give them to `evaluate` or `predict` in place of a train state.

    Args:
        recipe: From `train.recipe`.
        train_state: Of a run of this recipe; weights are given back as they are.
    """
    return _weights("weights", recipe, train_state)


def _weights(where: str, recipe: Recipe, train_state: TrainState | Weights) -> Weights:
    expect_recipe(where, recipe, trains=False)
    if isinstance(train_state, Weights):
        return train_state
    if not isinstance(train_state, TrainState):
        got = "a Result" if isinstance(train_state, Result) else type(train_state).__name__
        raise ConfigError(
            f"{where} train_state", "a TrainState, or Weights", got, "give result.train_state"
        )
    return Weights(averaged_params(train_state.opt_state, train_state.params), train_state.state)


def validate(
    recipe: Recipe, train_state: TrainState, valid: Data | None, batch_size: int
) -> dict[str, Scalar]:
    """The figures on the validation data under the names that history gives them; none without such data.

    Where the optimizer keeps an average of the params, that is what is looked at.
    """
    if valid is None:
        return {}
    figures = evaluated(recipe, weights(recipe, train_state), valid, batch_size)
    return {validation(name): value for name, value in figures.items()}


def observed(recipe: Recipe, train_state: TrainState, figures: dict[str, Scalar]) -> TrainState:
    """The train state after an epoch with these figures, of which the optimizer and early stopping take note."""
    takes_note = recipe.early_stopping is not None or observes(train_state.opt_state)
    return _observed(recipe, train_state, figures) if figures and takes_note else train_state


@per_recipe()
def _observed(recipe: Recipe, train_state: TrainState, figures: dict[str, Scalar]) -> TrainState:
    train_state = train_state._replace(
        opt_state=observe_loss(train_state.opt_state, figures[VALID_LOSS])
    )
    return (
        train_state
        if recipe.early_stopping is None
        else recipe.early_stopping.observe(train_state, figures)
    )


@per_recipe(static=(3,))
def evaluated(recipe: Recipe, given: Weights, data: Data, batch_size: int) -> dict[str, Scalar]:
    """The loss and each metric over all of the data."""

    def seen(inputs: Any, targets: Any) -> dict[str, Any]:
        return measure_examples(
            recipe,
            recipe.network.apply(given.params, given.state, recipe.prepare(inputs), train=False)[0],
            targets,
        )

    return reduce_examples(recipe, _in_batches(seen, data, batch_size))


@per_recipe(static=(3,))
def _predicted(recipe: Recipe, given: Weights, inputs: Any, batch_size: int) -> Any:
    def outputs(inputs: Any) -> Any:
        return recipe.network.apply(given.params, given.state, recipe.prepare(inputs), train=False)[
            0
        ]

    return _in_batches(outputs, (inputs,), batch_size)


def _in_batches(function: Callable[..., Any], data: tuple[Any, ...], batch_size: int) -> Any:
    """function(*data), computed batch by batch; the last batch is filled up with its last example, then cut."""
    examples = count_examples(data)
    size = min(batch_size, examples)
    batches = -(-examples // size)
    rows = jnp.minimum(jnp.arange(batches * size), examples - 1).reshape(batches, size)
    results = jax.lax.map(lambda row: function(*take(data, row)), rows)
    return jax.tree.map(lambda result: result.reshape(-1, *result.shape[2:])[:examples], results)
