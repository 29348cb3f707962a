"""One step of training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, optim, trees
from fnn.augment import BatchPolicy, batched
from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.objective import cross_entropy
from fnn.optim.wrapping import extended, rate
from fnn.train.batching import own_batch
from fnn.train.evaluation import conclude, count_examples, look
from fnn.train.task import Task, make_task
from fnn.types import (
    Augmentation,
    Data,
    Layer,
    Loss,
    Metrics,
    Optimizer,
    Params,
    Prepare,
    RandomKey,
    Regularizer,
    Scalar,
    Shape,
    State,
    Step,
    TrainState,
)

# What a run's key is folded with, one number a purpose.
INIT, ORDER, AUGMENT, NOISE = range(4)


def start(key: RandomKey, network: Layer, optimizer: Optimizer, shape: Shape) -> TrainState:
    """The state of a run before its first step; shape is one example's, without the batch axis."""
    params, state, _ = network.init(jax.random.fold_in(checks.key("key", key), INIT), shape)
    return TrainState(params, state, optimizer.init(params), jnp.zeros((), jnp.int32), key)


@partial(jax.jit, static_argnums=0)
def start_on(task: Task, key: RandomKey, data: Data) -> TrainState:
    """The state before the first step of a run on this data."""
    train_state = start(key, task.network, task.optimizer, jax.tree.map(lambda array: array.shape[1:], data[0]))
    return train_state if task.early_stopping is None else task.early_stopping.begin(train_state)


def step(
    train_state: TrainState,
    network: Layer,
    optimizer: Optimizer,
    batch: Data,
    *,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
) -> tuple[TrainState, dict[str, Scalar]]:
    """One step of descent on a batch (inputs, targets), of any loader: the next train state, and what was measured.

    Minimized are the loss and, where there is any, the penalty: regularizer(params), and each leaf of the network's
    state that is named penalty. Measured are loss, penalty, the metrics, rate (the optimizer's, NaN if it tells none),
    and finite: whether loss, gradients and state all are. With on_nonfinite="skip" a step that is not finite changes
    nothing but the step count. ShapeError for an empty batch, or for a loss that does not give one value an example.
    """
    inputs, targets = own_batch("batch", batch)
    task = make_task(network, targets, optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer)
    return stepped(task, train_state, inputs, targets)


def steps(data: Data, *, epochs: int, batch_size: int) -> int:
    """How many steps a run of so many epochs takes; the examples that fill no batch sit an epoch out.

    ConfigError where the data does not fill one batch.
    """
    return checks.whole("epochs", epochs, 0) * steps_per_epoch(data, batch_size)


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """How many whole batches the data fills, at least one."""
    examples = count_examples(data)
    if checks.whole("batch_size", batch_size) > examples:
        raise ConfigError("batch_size", f"at most the {examples} examples", batch_size, "use smaller batches")
    return examples // batch_size


def own_key(train_state: TrainState, purpose: int, number: Step) -> RandomKey:
    """The key for a purpose at a step or an epoch, by position, so that any moment of a run can be asked for."""
    return jax.random.fold_in(jax.random.fold_in(train_state.key, purpose), number)


def augmented(
    task: Task, train_state: TrainState, moment: Step, inputs: Any, targets: Any, examples: jax.Array | None = None
) -> tuple[Any, Any]:
    """The batch ready for the network: augmented, each input by its own key of that moment, then prepared.

    The moment is the epoch where the numbers of the examples are known, else the step.
    """
    if task.augment is not None:
        key, epoch = own_key(train_state, AUGMENT, moment), None if examples is None else moment
        inputs, targets = batched(task.augment)(key, inputs, targets, examples, epoch)
    return task.prepare(inputs), targets


def descend(task: Task, train_state: TrainState, inputs: Any, targets: Any) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on inputs that are ready for the network."""
    params, state, opt_state = train_state[:3]
    minimize = objective(task, train_state, inputs, targets)
    measured, grads, new_state = gradients(task, train_state, inputs, targets)
    told = {"value": _total(measured), "grad": grads, "value_fn": lambda params: minimize(params)[0]}
    new_params, new_opt_state = optim.step(extended("optimizer", task.optimizer), grads, opt_state, params, **told)
    new = new_params, new_state, new_opt_state
    finite = trees.all_finite((_minimized(measured), grads, new_state))
    if task.on_nonfinite == "skip":
        new = trees.select(finite, new, (params, state, optim.backed_off(opt_state)))
    measured |= {"rate": jnp.asarray(rate(new_opt_state), measured["loss"].dtype), "finite": finite}
    return train_state._replace(params=new[0], state=new[1], opt_state=new[2], step=train_state.step + 1), measured


def gradients(
    task: Task, train_state: TrainState, inputs: Any, targets: Any
) -> tuple[dict[str, Scalar], Params, State]:
    """The loss and metrics of a batch, the gradient for the optimizer by the params, and the network's next state."""
    minimize = objective(task, train_state, inputs, targets)

    def lifted(params: Params) -> tuple[Scalar, tuple[dict[str, Scalar], State]]:
        value, seen = minimize(params)
        return optim.scaled(train_state.opt_state, value), seen

    (_, (measured, state)), grads = jax.value_and_grad(lifted, has_aux=True)(train_state.params)
    return measured, grads, state


def objective(task: Task, train_state: TrainState, inputs: Any, targets: Any) -> Callable[..., Any]:
    """The function of the params that this step makes smaller: (params) -> (value, (measured, state))."""
    key = own_key(train_state, NOISE, train_state.step)

    def minimize(params: Params) -> tuple[Scalar, tuple[dict[str, Scalar], State]]:
        outputs, state = task.network.apply(params, train_state.state, inputs, key=key, train=True)
        measured = conclude(task, look(task, outputs, targets))
        penalties = _penalties(task, params, state)
        if penalties:
            measured["penalty"] = jnp.stack(penalties).sum()
        return _total(measured), (measured, state)

    return minimize


def _total(measured: dict[str, Scalar]) -> Scalar:
    return measured["loss"] + measured.get("penalty", 0)


def _minimized(measured: dict[str, Scalar]) -> list[Scalar]:
    return [measured[name] for name in ("loss", "penalty") if name in measured]


def _penalties(task: Task, params: Params, state: State) -> list[Scalar]:
    by_params = [] if task.regularizer is None else [task.regularizer(params)]
    by_layers = [leaf.sum() for path, leaf in trees.named_leaves(state).items() if path.split("/")[-1] == "penalty"]
    return by_params + by_layers


@partial(jax.jit, static_argnums=0)
def stepped(task: Task, train_state: TrainState, inputs: Any, targets: Any) -> tuple[TrainState, dict[str, Scalar]]:
    """One step on a batch as it came: each input is augmented by its own key of this step."""
    return descend(task, train_state, *augmented(task, train_state, train_state.step, inputs, targets))
