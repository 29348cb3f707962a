"""Evaluation and prediction: every example once, in batches of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.objective.loss import has_coupled_values
from fnn.optim import averaged_params, observe_loss
from fnn.optim.transforms.averages import has_average
from fnn.optim.transforms.plateau import has_plateau
from fnn.train.common_layout import common_layout, expect_same_division
from fnn.train.devices import (
    adopt,
    are_several,
    as_layout,
    current_layout,
    divide,
    layout_of,
    layout_of_data,
    place_data,
    place_state,
    use_layout,
    whole_shapes,
)
from fnn.train.exchange import apply_network
from fnn.train.figures import VALID_LOSS, validation_name
from fnn.train.inputs import (
    EVALUATION,
    derive_key,
    take_examples,
    validate_examples,
    validate_inputs,
)
from fnn.train.layout import Devices, Layout
from fnn.train.measure import count_examples, measure_examples, reduce_examples
from fnn.train.mesh_axes import vary_like
from fnn.train.processes import agreement, spans_processes
from fnn.train.programs import cached, per_recipe, shared
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run_facts import call_facts
from fnn.types import Data, RandomKey, Result, Scalar, Step, TrainState, Weights

STEP_NAMES = "step names"  # key of these, in the cache of a recipe

# The key of layers that sample; or a train state of key and step alone, from which it follows.
Draws = RandomKey | TrainState | None


def evaluate(
    recipe: Recipe,
    train_state: TrainState | Weights,
    data: Data,
    *,
    batch_size: int = 256,
    key: RandomKey | None = None,
    mesh: Devices | None = None,
) -> dict[str, Scalar]:
    """Compute the loss and each metric over a data set, every example counted once.

    The figures are those of validation within a run: inputs are prepared by the recipe's `prepare`,
    and where the optimizer keeps an average of the parameters, the average is evaluated.

    Layers are applied with train=False and a key. Dropout draws nothing then, but a layer that
    samples in any mode, such as that of a variational autoencoder, uses the key.

    Args:
        recipe: From `train.recipe`. It needs no optimizer.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples that pass through the network at once. It affects memory, speed and
            which numbers a layer draws.
        key: Key of layers that sample at train=False. By default it is derived from key and step of
            the train state, as in validation; `Weights` have none.
        mesh: Devices among which the examples of each batch are divided, as for `train.run`. By
            default those among which the data is divided already, or those that the weights are on,
            as after a run with a mesh. Params that are divided stay as they are: then it must be
            their layout.

    Returns:
        The figures by name, loss first.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    layout = _layout("evaluate", mesh, data, train_state)
    with agreement("evaluate", layout) as agreed:
        given = expect_weights("evaluate", recipe, train_state)
        checks.whole("evaluate batch_size", batch_size)
        draws: Draws = None
        if key is not None:
            draws = checks.key("evaluate key", key)
        elif isinstance(train_state, TrainState):
            draws = _without_weights(train_state)
        data = validate_examples("data", recipe, adopt(layout, data))
        if spans_processes(layout):
            agreed.facts = call_facts(recipe, data, batch_size)
    if layout is None:
        # Without any placement, which would take a part of the time of a small network.
        figures = _evaluate(recipe, given, data, batch_size, draws)
    else:
        with use_layout(layout):
            given, draws = place_state(layout, (given, draws))
            placed = place_data(layout, data)
            figures = _evaluate(recipe, given, placed, batch_size, draws)
    # A compiled program returns the entries of a dict sorted by name.
    names = cached(recipe, STEP_NAMES, lambda: recipe.step_names)
    return {name: figures[name] for name in names if name in figures}


def predict(
    recipe: Recipe,
    train_state: TrainState | Weights,
    inputs: Any,
    *,
    batch_size: int = 256,
    key: RandomKey | None = None,
    mesh: Devices | None = None,
) -> Any:
    """Compute the network's outputs (n, ...) for inputs (n, ...), in inference mode.

    Inputs are prepared, and parameters averaged, as in `evaluate`. With a key, layers that sample
    at train=False draw from it: predictions of several keys are samples of the outputs.

    The inputs must have the dtype and scale of those of training, which weights do not record: the
    default `prepare` divides bytes by 255 and leaves floats as they are. If this recipe was trained
    in this process on inputs of another scale, there is a warning, as in `evaluate`.

    Args:
        recipe: From `train.recipe`. It needs no optimizer.
        train_state: Of a run of this recipe; or `Weights`, which need no optimizer.
        inputs: Arrays whose first axis is the example.
        batch_size: Examples that pass through the network at once. It affects memory, speed and
            which numbers a layer draws.
        key: Key of layers that sample at train=False; None for none.
        mesh: Devices among which the examples of each batch are divided, as for `train.run`. By
            default those among which the data is divided already, or those that the weights are on,
            as after a run with a mesh. Params that are divided stay as they are: then it must be
            their layout.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The inputs do not fit the recipe, as for `train.run`.
    """
    layout = _layout("predict", mesh, inputs, train_state)
    with agreement("predict", layout) as agreed:
        given = expect_weights("predict", recipe, train_state)
        checks.whole("predict batch_size", batch_size)
        if key is not None:
            checks.key("predict key", key)
        inputs = validate_inputs("inputs", recipe, adopt(layout, inputs))
        if spans_processes(layout):
            agreed.facts = call_facts(recipe, inputs, batch_size)
    if layout is None:
        return _predict(recipe, given, inputs, batch_size, key)
    with use_layout(layout):
        given, key = place_state(layout, (given, key))
        placed = place_data(layout, inputs)
        return _predict(recipe, given, placed, batch_size, key)


def _layout(
    where: str,
    mesh: Any,
    data: Any,
    given: Any,
) -> Layout | None:
    """Return the layout of an argument `mesh`, by default that of the data or the weights."""
    # Another value is left to the check of weights.
    params = given.params if isinstance(given, TrainState | Weights) else None
    if mesh is not None:
        layout = as_layout(f"{where} mesh", mesh)
        expect_same_division(f"{where} mesh", layout, params)
        return layout
    if not are_several():
        return None
    return common_layout(f"{where} data", layout_of_data(data), layout_of(params))


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
    return expect_weights("weights", recipe, train_state)


def expect_weights(
    where: str,
    recipe: Recipe,
    train_state: TrainState | Weights,
) -> Weights:
    """Return the weights of a train state, or `Weights` as they are; ConfigError for others.

    Args:
        where: Name of the function in errors.
        recipe: From `train.recipe`.
        train_state: Of a run of this recipe, or `Weights`.
    """
    expect_recipe(where, recipe, trains=False)
    if isinstance(train_state, Weights):
        trees.expect_not_donated(f"{where} weights", train_state.params)
        return train_state
    if not isinstance(train_state, TrainState):
        # The text of a Result would hold all of its arrays.
        raise ConfigError(
            f"{where} train_state",
            "a TrainState, or Weights",
            "a Result" if isinstance(train_state, Result) else type(train_state).__name__,
            "give result.train_state",
        )
    trees.expect_not_donated(f"{where} train_state", train_state.params)
    params, opt_state = train_state.params, train_state.opt_state
    # The search of all parts of a state would take a third of an evaluation of a small network.
    key = "average", jax.tree.structure(opt_state)
    if shared(recipe, key, lambda: has_average(opt_state)):
        params = averaged_params(opt_state, params)
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
    given, draws = weights(recipe, train_state), _without_weights(train_state)
    figures = _evaluate(recipe, given, valid, batch_size, draws)
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
    updated = train_state._replace(opt_state=opt_state)
    if recipe.early_stopping is not None:
        updated = recipe.early_stopping.observe(updated, figures, recipe.stopping_sign)
    return vary_like(updated, train_state)


def _evaluation_key(draws: Draws) -> RandomKey | None:
    """Return the key of layers that sample at train=False."""
    # It is derived within the compiled program, which is faster than outside of it.
    if isinstance(draws, TrainState):
        return derive_key(draws, EVALUATION, draws.step)
    return draws


def _without_weights(train_state: TrainState) -> TrainState:
    return TrainState((), (), (), train_state.step, train_state.key)


@per_recipe(static=(3,))
def _evaluate(
    recipe: Recipe,
    given: Weights,
    data: Data,
    batch_size: int,
    draws: Draws,
) -> dict[str, Scalar]:
    key = _evaluation_key(draws)

    def measure_batch(index: Step, inputs: Any, targets: Any) -> dict[str, Any]:
        outputs = forward_pass(recipe, given, inputs, key, index)
        return measure_examples(recipe, outputs, targets)

    is_coupled = recipe.couples_examples
    if is_coupled is None:
        is_coupled = _is_padded(data, batch_size) and _couples_examples(measure_batch, data)
    by_batch = _map_unpadded_batches if is_coupled else map_batches
    return reduce_examples(recipe, by_batch(measure_batch, data, batch_size))


def _is_padded(data: Data, batch_size: int) -> bool:
    examples = count_examples(data)
    return isinstance(examples, int) and examples > batch_size and examples % batch_size != 0


def _couples_examples(measure_batch: Callable[..., Any], data: Data) -> bool:
    """Return whether plain functions of a recipe call a loss that couples the examples."""
    return has_coupled_values(jax.make_jaxpr(measure_batch)(jnp.int32(0), *whole_shapes(data)))


@per_recipe(static=(3,))
def _predict(
    recipe: Recipe,
    given: Weights,
    inputs: Any,
    batch_size: int,
    key: RandomKey | None,
) -> Any:
    def predict_batch(index: Step, inputs: Any) -> Any:
        return forward_pass(recipe, given, inputs, key, index)

    return map_batches(predict_batch, (inputs,), batch_size)


def forward_pass(
    recipe: Recipe,
    given: Weights,
    inputs: Any,
    key: RandomKey | None,
    index: Step,
) -> Any:
    """Return the outputs of a batch, given its index."""
    prepared = divide(recipe.prepare(inputs))
    own_key = None if key is None else jax.random.fold_in(key, index)
    # With train=False dropout is off, and the state is used but not updated.
    outputs, _ = apply_network(
        recipe.network,
        given.params,
        given.state,
        prepared,
        key=own_key,
        train=False,
    )
    return outputs


def map_batches(
    function: Callable[..., Any],
    data: tuple[Any, ...],
    batch_size: int,
) -> Any:
    """Compute function(index, *data) batch by batch, index counts them.

    The last batch is padded with the last example, so that all batches share one program. The
    results of the padding are cut off.
    """
    examples = count_examples(data)
    # In jax.export, the number may be a symbol. All examples are then one batch.
    if not isinstance(examples, int):
        return function(jnp.int32(0), *data)
    size = min(batch_size, examples)
    batches = -(-examples // size)
    indices = jnp.minimum(jnp.arange(batches * size), examples - 1)
    # (batches, size)
    rows = indices.reshape(batches, size)
    layout = current_layout()
    if layout is not None:
        # The batches stay the same: each has copies at its end that make the parts equal.
        missing = -size % layout.parts
        rows = jnp.pad(rows, ((0, 0), (0, missing)), mode="edge")

    def compute(batch: tuple[Step, jax.Array]) -> Any:
        index, row = batch
        return function(index, *take_examples(data, row))

    results = jax.lax.map(compute, (jnp.arange(batches), rows))

    def merge(result: jax.Array) -> jax.Array:
        # (batches, size, ...) -> (examples, ...)
        return result[:, :size].reshape(-1, *result.shape[2:])[:examples]

    return jax.tree.map(merge, results)


def _map_unpadded_batches(
    function: Callable[..., Any],
    data: tuple[Any, ...],
    batch_size: int,
) -> Any:
    """Compute function(index, *data) batch by batch, without padding.

    A copy of an example would change the values of others if the loss couples them. So there are
    batches of two sizes, which differ by 1: as few as possible with at most batch_size examples.
    """
    examples = count_examples(data)
    count = -(-examples // batch_size)
    size, longer = divmod(examples, count)

    def compute(batch: tuple[Step, jax.Array]) -> Any:
        index, row = batch
        return function(index, *take_examples(data, row))

    parts = []
    begin, index = 0, 0
    for batches, length in ((longer, size + 1), (count - longer, size)):
        if batches:
            end = begin + batches * length
            rows = jnp.arange(begin, end).reshape(batches, length)
            results = jax.lax.map(compute, (jnp.arange(index, index + batches), rows))
            # (batches, length, ...) -> (batches * length, ...)
            parts.append(jax.tree.map(_merge_batches, results))
            begin, index = end, index + batches
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


def _merge_batches(result: jax.Array) -> jax.Array:
    return result.reshape(-1, *result.shape[2:])
