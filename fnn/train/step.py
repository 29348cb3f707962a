"""One step of training."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, optim, trees
from fnn.augment import batched
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.optim.transform import extended, rate
from fnn.train.figures import FINITE, LOSS, RATE
from fnn.train.gradients import gradients, minimized, objective
from fnn.train.inputs import AUGMENT, INIT, own_batch, own_key
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import (
    Data,
    Optimizer,
    OptState,
    Params,
    RandomKey,
    Scalar,
    Shape,
    Step,
    StepRecord,
    TrainState,
)


def start(key: RandomKey, recipe: Recipe, shape: Shape) -> TrainState:
    """The train state before the first step.

    Args:
        key: From `jax.random.key`. All that the run draws follows from it.
        recipe: From `train.recipe`.
        shape: The shape of one example's inputs, without the batch axis.
    """
    checks.key("key", key)
    return _start(expect_recipe("start", recipe), key, shape)


def _start(recipe: Recipe, key: RandomKey, shape: Shape) -> TrainState:
    params, state, _ = recipe.network.init(jax.random.fold_in(key, INIT), shape)
    opt_state = _optimizer(recipe).init(params)
    train_state = TrainState(params, state, opt_state, jnp.zeros((), jnp.int32), key)
    return (
        train_state if recipe.early_stopping is None else recipe.early_stopping.begin(train_state)
    )


@per_recipe()
def start_on(recipe: Recipe, key: RandomKey, data: Data) -> TrainState:
    """The train state before the first step of a run on this data."""
    return _start(recipe, key, jax.tree.map(lambda array: array.shape[1:], data[0]))


def _optimizer(recipe: Recipe) -> Optimizer:
    assert recipe.optimizer is not None  # as expect_recipe has found
    return extended("recipe optimizer", recipe.optimizer)


def step(
    recipe: Recipe, train_state: TrainState, batch: Data
) -> tuple[TrainState, dict[str, Scalar]]:
    """One step of training.

    Minimized are the loss and, where there is any, the penalty: the recipe's regularizer(params), and each leaf of the
    network's state that is named penalty.

    Args:
        recipe: From `train.recipe`.
        train_state: From `train.start` or a step before.
        batch: (inputs, targets), arrays of any loader whose first axis is the example.

    Returns:
        The next train state, and the figures of the step by name: loss, penalty, the recipe's metrics and measures,
        rate (the optimizer's, NaN if it has none), and finite: whether loss, gradients and state are. With
        on_nonfinite="skip" a step that is not finite changes nothing but the step count.

    Raises:
        ShapeError: The batch is empty, or the loss does not give one value an example.
    """
    inputs, targets = own_batch("batch", batch)
    return stepped(expect_recipe("step", recipe), train_state, inputs, targets)


def num_steps(data: Data, *, epochs: int, batch_size: int) -> int:
    """The number of steps of a run; the examples that fill no batch sit an epoch out.

    Args:
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data.
        batch_size: Examples a step.

    Raises:
        ConfigError: The data does not fill one batch.
    """
    return checks.whole("epochs", epochs, 0) * steps_per_epoch(data, batch_size)


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """How many whole batches the data fills, at least one."""
    examples = count_examples(data)
    if checks.whole("batch_size", batch_size) > examples:
        raise ConfigError(
            "batch_size", f"at most the {examples} examples", batch_size, "use smaller batches"
        )
    return examples // batch_size


def augmented(
    recipe: Recipe,
    train_state: TrainState,
    moment: Step,
    inputs: Any,
    targets: Any,
    examples: jax.Array | None = None,
) -> tuple[Any, Any]:
    """The batch ready for the network: augmented, each input by its own key of that moment, then prepared.

    The moment is the epoch where the numbers of the examples are known, else the step.
    """
    if recipe.augment is not None:
        key, epoch = own_key(train_state, AUGMENT, moment), None if examples is None else moment
        inputs, targets = batched(recipe.augment)(key, inputs, targets, examples, epoch)
    return recipe.prepare(inputs), targets


def descend(
    recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any
) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on inputs that are ready for the network."""
    params, state, opt_state = train_state[:3]
    _expect_own(recipe, params, opt_state)
    measured, grads, new_state = gradients(recipe, train_state, inputs, targets)
    value, value_fn = (
        sum(minimized(measured).values()),
        objective(recipe, train_state, inputs, targets),
    )
    told = {"value": value, "grad": grads, "value_fn": value_fn}
    new_params, new_opt_state = optim.step(_optimizer(recipe), grads, opt_state, params, **told)
    new = new_params, new_state, new_opt_state
    finite = trees.all_finite((minimized(measured), grads, new_state))
    if recipe.on_nonfinite == "skip":
        new = trees.select(finite, new, (params, state, optim.back_off_scale(opt_state)))
    record = StepRecord(params, state, opt_state, grads, new_params, new_state, new_opt_state)
    measured |= {name: _scalar(name, measure(record)) for name, measure in recipe.measures.items()}
    measured |= {RATE: jnp.asarray(rate(new_opt_state), measured[LOSS].dtype), FINITE: finite}
    return train_state._replace(
        params=new[0], state=new[1], opt_state=new[2], step=train_state.step + 1
    ), measured


@per_recipe()
def stepped(
    recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any
) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on a batch as it came: each input is augmented by its own key of this step."""
    return descend(
        recipe, train_state, *augmented(recipe, train_state, train_state.step, inputs, targets)
    )


def _expect_own(recipe: Recipe, params: Params, opt_state: OptState) -> None:
    """Raise TreeMismatchError, while tracing, unless the optimizer state is one of the recipe's optimizer."""
    wanted: Any = jax.tree.structure(jax.eval_shape(_optimizer(recipe).init, params))
    if jax.tree.structure(opt_state) != wanted:
        advice = "give the state that train.start(key, recipe, shape) or a run of this recipe gave"
        got = "one of another optimizer"
        raise TreeMismatchError(
            "train_state opt_state", f"the state of {recipe.optimizer}", got, advice
        )


def _scalar(name: str, value: Any) -> Scalar:
    """The figure of a measure; ShapeError for what is no single number."""
    if jnp.shape(value) != ():
        raise ShapeError(
            f"measures {name}", "one number", jnp.shape(value), "take its mean or its norm"
        )
    return jnp.asarray(value)
