"""One step of training."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, optim, trees
from fnn.augment import Batch, batched
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.optim.transform import find_states, frozen_paths, last_rate
from fnn.optim.transforms.half_precision import RoundingState
from fnn.optim.transforms.loss_scale import skipped_state
from fnn.train.common_layout import common_layout
from fnn.train.devices import (
    adopt,
    as_layout,
    current_layout,
    divide,
    layout_of_data,
    layout_of_state,
    place_batch,
    place_state,
    use_layout,
)
from fnn.train.exchange import constrain_state
from fnn.train.figures import FINITE, LOSS, RATE
from fnn.train.gradients import gradients, make_objective, objective_terms
from fnn.train.inputs import AUGMENT, INIT, derive_key, example_shapes, validate_examples
from fnn.train.instrumentation import instrument_figures
from fnn.train.layout import Devices
from fnn.train.measure import count_examples
from fnn.train.mesh_axes import vary_by, vary_like
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.tasks import optimizer_of
from fnn.types import (
    Data,
    OptState,
    Params,
    RandomKey,
    Scalar,
    Shape,
    Step,
    StepRecord,
    TrainState,
)


def start(
    key: RandomKey,
    recipe: Recipe,
    shape: Shape,
    *,
    mesh: Devices | None = None,
) -> TrainState:
    """Return the train state before the first step.

    Args:
        key: From `jax.random.key`. All random numbers of the run follow from it.
        recipe: From `train.recipe`, with an optimizer.
        shape: Shape of the inputs of one example as the network gets them, without the batch axis;
            for inputs of several arrays, a tuple or dict of their shapes.
        mesh: Devices on which to make it, as for `train.run`; None for one. With a layout that
            divides the params, no device ever has all of them. `train.step` and `train.epoch` then
            divide their batches among these devices.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, or the layout does not fit it.
        DTypeError: `key` is not a typed key.
        ShapeError: `shape` is not a shape, or the network does not accept inputs of this shape.
    """
    checks.key("key", key)
    expect_recipe("start", recipe)
    _expect_shape(shape)
    shapes = jax.tree.leaves(shape, is_leaf=trees.is_shape)
    layout = as_layout("start mesh", mesh)
    with checks.reject_channels_first(shapes), use_layout(layout):
        if layout is None:
            return _start(recipe, key, shape)
        return place_state(layout, _start_divided(recipe, key, shape))


def _expect_shape(shape: Any) -> None:
    """Raise ShapeError unless the value is a shape, or a tree of shapes."""
    for leaf in jax.tree.leaves(shape, is_leaf=trees.is_shape) or [shape]:
        if not trees.is_shape(leaf):
            raise ShapeError(
                "start shape",
                "the shape of one example, such as (28, 28, 1)",
                checks.show(leaf),
                "give x.shape[1:]",
            )


def start_on_data(recipe: Recipe, key: RandomKey, data: Data) -> TrainState:
    """Return the train state before the first step of a run on this data."""
    layout = current_layout()
    if layout is None or not layout.divides_params:
        return _start_on_data(recipe, key, data)
    return _start_divided(recipe, key, example_shapes(recipe, data[0]))


@per_recipe()
def _start_on_data(recipe: Recipe, key: RandomKey, data: Data) -> TrainState:
    return _start(recipe, key, example_shapes(recipe, data[0]))


def _start_divided(recipe: Recipe, key: RandomKey, shape: Shape) -> TrainState:
    """Return the train state before the first step, made on the devices of the current layout."""
    shapes, structure = jax.tree.flatten(shape, is_leaf=trees.is_shape)
    # A program has static arguments that are hashable.
    return _start_of_shapes(recipe, place_state(current_layout(), key), tuple(shapes), structure)


@per_recipe(static=(2, 3))
def _start_of_shapes(
    recipe: Recipe,
    key: RandomKey,
    shapes: tuple[Shape, ...],
    structure: Any,
) -> TrainState:
    # Each device computes its parts alone.
    return constrain_state(_start(recipe, key, jax.tree.unflatten(structure, shapes)))


def _start(recipe: Recipe, key: RandomKey, shape: Shape) -> TrainState:
    # Each purpose of random numbers has a different key, see inputs.py.
    params, state, _ = recipe.network.init(jax.random.fold_in(key, INIT), shape)
    opt_state = optimizer_of(recipe).init(params)
    # A copy, so that a caller who donates the train state to jax.jit keeps the key.
    own_key = jax.random.clone(key)
    train_state = TrainState(params, state, opt_state, jnp.zeros((), jnp.int32), own_key)
    if recipe.early_stopping is not None:
        train_state = recipe.early_stopping.begin(train_state, recipe.stopping_sign)
    return vary_by(train_state, (key, recipe))


def step(
    recipe: Recipe,
    train_state: TrainState,
    batch: Data,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Train one step on a batch.

    The step minimizes the mean loss + penalties. The penalties are regularizer(params), and each
    leaf of the network's state that is named penalty.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        train_state: From `train.start`, or from an earlier step.
        batch: (inputs, targets), arrays of any loader whose first axis is the example. If they are
            divided among the devices of a mesh, or the train state is on one, each device computes
            a part of the batch.

    Returns:
        The next train state, and the figures of the step by name: loss, penalty, the recipe's
        metrics and measures, rate (of the optimizer, NaN if it has none), and finite: whether loss,
        gradients and state are finite; with instruments also their arrays, which are NaN at steps
        that are not measured. With on_nonfinite="skip" a step that is not finite changes
        only the step count.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, or the batch is not a pair.
        FnnError: The batch does not fit the recipe, as for `train.run`. The values of arrays on an
            accelerator are not checked, since reading them would wait for the steps before.
        TreeMismatchError: The train state belongs to another optimizer.
    """
    expect_recipe("step", recipe)
    expect_train_state("step", train_state)
    layout = common_layout("step batch", layout_of_data(batch), layout_of_state(train_state))
    own = adopt(layout, batch)
    inputs, targets = validate_examples("batch", recipe, own, is_step=True)
    _wait_for_simulated_devices(train_state)
    if layout is None:
        return train_step_on_batch(recipe, train_state, inputs, targets)
    with use_layout(layout):
        placed = place_batch(layout, (inputs, targets))
        return train_step_on_batch(recipe, place_state(layout, train_state), *placed)


def _wait_for_simulated_devices(train_state: TrainState) -> None:
    """Wait for the step before, where the devices are parts of one CPU.

    These run the steps in threads of one pool. In a queue of steps, each could wait for threads
    that others hold until XLA ends the process.
    """
    step = train_state.step
    if not isinstance(step, jax.Array) or not checks.is_concrete(step):
        return
    devices: Any = step.sharding.device_set
    if len(devices) > 1 and next(iter(devices)).platform == "cpu":
        step.block_until_ready()


def expect_train_state(where: str, train_state: Any) -> None:
    """Raise ConfigError unless the value is a train state."""
    if not isinstance(train_state, TrainState):
        raise ConfigError(
            f"{where} train_state",
            "a TrainState",
            checks.show(train_state),
            "give that of train.start, or result.train_state",
        )
    if jnp.ndim(train_state.step):
        raise ConfigError(
            f"{where} train_state",
            "that of one run",
            f"{len(train_state.step)} lanes",
            "take one, as by jax.tree.map(lambda leaf: leaf[0], train_state), or use jax.vmap",
        )
    trees.expect_not_donated(f"{where} train_state", train_state.params)


def num_steps(data: Data, *, epochs: int, batch_size: int) -> int:
    """Return the number of steps of a run; examples that fill no batch are left out of an epoch.

    Args:
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data.
        batch_size: Examples per step.

    Raises:
        ConfigError: The data does not fill one batch.
    """
    return checks.whole("epochs", epochs, 0) * steps_per_epoch(data, batch_size)


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """Return the number of full batches in the data; ConfigError if there are none."""
    examples = count_examples(data)
    if checks.whole("batch_size", batch_size) > examples:
        raise ConfigError(
            "batch_size",
            f"at most the {examples} examples",
            batch_size,
            "use smaller batches",
        )
    return examples // batch_size


@per_recipe()
def train_step_on_batch(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> tuple[TrainState, dict[str, Scalar]]:
    """Train one step on a batch of a loader; augmentation draws from the key of this step."""
    inputs, targets = prepare_batch(recipe, train_state, train_state.step, inputs, targets)
    return train_step(recipe, train_state, inputs, targets)


def prepare_batch(
    recipe: Recipe,
    train_state: TrainState,
    count: Step | int,
    inputs: Any,
    targets: Any,
    examples: jax.Array | None = None,
) -> tuple[Any, Any]:
    """Augment a batch, then prepare its inputs for the network.

    Args:
        recipe: From `train.recipe`.
        train_state: Its key is used, nothing else.
        count: Index of the epoch if `examples` are given, else of the step. Augmentation draws from
            a key of this count.
        inputs: Arrays (batch, ...), as they are stored.
        targets: Arrays (batch, ...).
        examples: Indices of the examples in the data (batch,); None for a batch of a stream.

    Returns:
        (inputs, targets) for the network and the loss.
    """
    # Inputs are augmented as they are stored, bytes as bytes, and prepared afterwards.
    if recipe.augment is not None:
        key = derive_key(train_state, AUGMENT, count)
        # The index of an example and the epoch determine its augmentation, so the order and the
        # batch size do not.
        epoch = None if examples is None else count
        batch = batched(recipe.augment)(key, Batch(inputs, targets, examples, epoch))
        inputs, targets = batch.images, batch.targets
    return divide((recipe.prepare(inputs), targets))


def train_step(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> tuple[TrainState, dict[str, Scalar]]:
    """Train one step on inputs that are augmented and prepared."""
    params, state, opt_state = train_state[:3]
    optimizer = optimizer_of(recipe)
    expect_opt_state(recipe, params, opt_state)
    _warn_of_rounding(params, opt_state)
    figures, grads, new_state, of_tasks = gradients(recipe, train_state, inputs, targets)
    # Optimizers with a line search or a step of Polyak's length use these.
    extra = {
        "value": sum(objective_terms(figures).values()),
        "grad": grads,
        "value_fn": make_objective(recipe, train_state, inputs, targets),
        **of_tasks,
    }
    new_params, new_opt_state = optim.step(optimizer, grads, opt_state, params, **extra)
    # An overflow of the new parameters shows in the loss of the next step.
    finite = trees.all_finite((objective_terms(figures), grads, new_state))
    kept = new_params, new_state, new_opt_state
    if recipe.on_nonfinite == "skip":
        # A skipped step changes only the loss scale of the optimizer, if it has one.
        # The step is computed in any case, since under vmap other lanes may not skip it.
        skipped = params, state, skipped_state(opt_state, new_opt_state)
        kept = trees.select(finite, kept, skipped)
    record = StepRecord(params, state, opt_state, grads, new_params, new_state, new_opt_state)
    for name, measure in recipe.measures.items():
        figures[name] = _scalar(name, measure(record))
    figures[RATE] = jnp.asarray(last_rate(new_opt_state, jnp.nan), figures[LOSS].dtype)
    figures[FINITE] = finite
    if recipe.instruments is not None:
        figures |= instrument_figures(recipe, train_state, inputs, targets, record)
    next_state = train_state._replace(
        params=kept[0], state=kept[1], opt_state=kept[2], step=train_state.step + 1
    )
    return constrain_state(vary_like(next_state, train_state)), figures


def expect_opt_state(
    recipe: Recipe,
    params: Params,
    opt_state: OptState,
    where: str = "train_state opt_state",
) -> None:
    """Raise TreeMismatchError unless the optimizer state is one of the recipe's optimizer.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        params: Parameters of the network.
        opt_state: State of an optimizer.
        where: Its name in the error.
    """
    wanted: Any = jax.tree.structure(jax.eval_shape(optimizer_of(recipe).init, params))
    # Only structures are compared: eval_shape computes nothing, and this happens once per trace.
    if jax.tree.structure(opt_state) != wanted:
        raise TreeMismatchError(
            where,
            f"the state of {recipe.optimizer}",
            "one of another optimizer",
            "give the state that train.start(key, recipe, shape) or a run of this recipe gave",
        )


def _warn_of_rounding(params: Params, opt_state: OptState) -> None:
    """Warn of params in half precision that are rounded to the nearest number."""
    if find_states(opt_state, RoundingState):
        return
    frozen = frozen_paths(opt_state)
    for path, leaf in trees.named_leaves(params).items():
        if jnp.finfo(leaf.dtype).bits < 32 and path not in frozen:
            # The number next below 2 is 2 - eps: half of that gap, relative to it, is eps / 4.
            share = float(jnp.finfo(leaf.dtype).eps) / 4
            message = (
                f"params {path}: expected float32, got {leaf.dtype}, which rounds updates below "
                f"{share:.1g} of a parameter away; compute in half precision with nn.cast, or wrap "
                "the optimizer in optim.stochastic_rounding"
            )
            # One leaf says it for all. This happens once per trace.
            warnings.warn(message, stacklevel=2)
            return


def _scalar(name: str, value: Any) -> Scalar:
    """Return the figure of a measure; ShapeError unless it is a single number."""
    if jnp.shape(value) != ():
        raise ShapeError(
            f"measures {name}",
            "one number",
            jnp.shape(value),
            "take its mean or its norm",
        )
    return jnp.asarray(value)
