"""A whole run of training as one pure function."""

from functools import partial

import jax

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.objective import cross_entropy
from fnn.train.boundary import enter, expect_fitting
from fnn.train.epochs import Measures, batch_at, whole_epoch
from fnn.train.evaluation import observed, validate
from fnn.train.faults import explain, first_fault, state_at
from fnn.train.steps import start_on, steps_per_epoch
from fnn.train.stopping import EarlyStopping, until_over
from fnn.train.task import Task, make_task, with_stopping
from fnn.train.telling import Tell, tell_host
from fnn.types import (
    Augmentation,
    Data,
    History,
    Layer,
    Loss,
    Metrics,
    Optimizer,
    Prepare,
    RandomKey,
    Regularizer,
    Result,
    TrainState,
)


def run(
    key: RandomKey,
    network: Layer,
    optimizer: Optimizer,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    micro_batch_size: int | None = None,
    valid: Data | None = None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
    early_stopping: EarlyStopping | None = None,
    tell: Tell | None = None,
) -> Result:
    """Train a network from first draw to last step: a scan over epochs of a scan over steps, in one program.

    data and valid are (inputs, targets), arrays whose first axis is the example. In training inputs are augmented, each
    by its own key, then prepared; bytes stay bytes until then. The result holds the train state and the history:
    per step loss, penalty, metrics, rate and finite; per epoch, if valid is given, valid_loss and the valid metrics.
    jit, vmap and grad work on it, by the key and by any number that a maker was given. With early_stopping, from
    `train.early_stopping`, the history is cut where the run ended, or within jit has NaN from there on.
    tell(figures) is called on the host after each epoch, also from within jit, and once for all lanes of a mapped run:
    step, over (whether early stopping has ended it), the means of the epoch's steps, and its valid figures.

    With micro_batch_size a batch goes through the network in equal parts of no more examples than that, one after
    another, and memory holds what the gradient needs of one. But for rounding the step is the same, and on a CPU it is
    faster where arrays are large. Each part draws its own noise, batch norm sees each by itself (ghost batch norm
    [Hoffer et al. 2017, arXiv:1705.08741]), and a loss that compares the examples of a batch compares those of a part.

    Raises an fnn error before it compiles for data or options that cannot be right. A step whose loss, gradient or
    state is not finite clears its history.finite; on_nonfinite="raise" then raises NonFiniteError, unless the run
    itself is traced; "skip" leaves such a step out; "ignore" goes on.
    """
    checks.key("key", key)
    checks.whole("epochs", epochs, 0)
    data, valid = enter("data", data), None if valid is None else enter("valid", valid)
    task = make_task(
        network, data[1], optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer, micro_batch_size
    )
    task = with_stopping(task, early_stopping)
    expect_fitting(task, data, valid)
    length = steps_per_epoch(data, batch_size)
    train_state = start_on(task, key, data)
    last, history = _run(task, train_state, data, valid, epochs, batch_size, tell)
    fault = first_fault(task, history.finite)
    if fault is not None:
        before = state_at(task, train_state, data, valid, batch_size, fault)
        raise explain(task, before, *batch_at(task, before, data, batch_size))
    if early_stopping is not None and checks.is_concrete(last.step):
        history = _until(int(last.step), length, history)
    return Result(finished(task, last), history)


def finished(task: Task, train_state: TrainState) -> TrainState:
    """What a run that has come to its end gives back: the last train state, or the best one where it kept that."""
    return train_state if task.early_stopping is None else task.early_stopping.finish(train_state)


@partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _run(
    task: Task,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    epochs: int,
    batch_size: int,
    tell: Tell | None,
) -> tuple[TrainState, History]:
    def epoch(train_state: TrainState) -> tuple[TrainState, tuple[Measures, Measures]]:
        train_state, each_step = whole_epoch(task, train_state, data, batch_size)
        figures = validate(task, train_state, valid, batch_size)
        return observed(task, train_state, figures), (each_step, figures)

    def one(train_state: TrainState, _: None) -> tuple[TrainState, tuple[Measures, Measures]]:
        after, figures = until_over(task.early_stopping, epoch)(train_state)
        if tell is not None:
            tell_host(tell, _told(task, train_state, after, figures))
        return after, figures

    train_state, (each_step, each_epoch) = jax.lax.scan(one, train_state, length=epochs)
    # (epochs, steps, ...) -> (epochs * steps, ...)
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in task.in_order(each_step).items()}
    return train_state, History(flat | each_epoch)


def _told(task: Task, before: TrainState, after: TrainState, figures: tuple[Measures, Measures]) -> Measures:
    """What is said of an epoch."""
    means = {name: values.mean(0) for name, values in task.in_order(figures[0]).items() if name != "finite"}
    return {"step": after.step, "over": task.is_over(before), **means, **figures[1]}


def _until(step: int, length: int, history: History) -> History:
    """The history of the epochs that were run; figures of validation are one an epoch, all others one a step."""
    return History(
        {name: values[: step // length if name.startswith("valid_") else step] for name, values in history.items()}
    )
