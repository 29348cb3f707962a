"""A whole run of training as one pure function."""

from functools import partial

import jax

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.objective import cross_entropy
from fnn.train.boundary import enter, expect_fitting
from fnn.train.epochs import Measures, whole_epoch
from fnn.train.evaluation import observed, validate
from fnn.train.faults import explain, first_fault
from fnn.train.steps import start_on, steps_per_epoch
from fnn.train.task import Task, make_task
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
    valid: Data | None = None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
) -> Result:
    """Train a network from first draw to last step: a scan over epochs of a scan over steps, in one program.

    data and valid are (inputs, targets), arrays whose first axis is the example. In training inputs are augmented, each
    by its own key, then prepared; bytes stay bytes until then. The result holds the train state and the history:
    per step loss, penalty, metrics, rate and finite; per epoch, if valid is given, valid_loss and the valid metrics.
    jit, vmap and grad work on it, by the key and by any number that a maker was given.

    Raises an fnn error before it compiles for data or options that cannot be right. A step whose loss, gradient or
    state is not finite clears its history.finite; on_nonfinite="raise" then raises NonFiniteError, unless the run
    itself is traced; "skip" leaves such a step out; "ignore" goes on.
    """
    checks.key("key", key)
    checks.whole("epochs", epochs, 0)
    data, valid = enter("data", data), valid and enter("valid", valid)
    task = make_task(network, data[1], optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer)
    expect_fitting(task, data, valid)
    steps_per_epoch(data, batch_size)
    train_state = start_on(task, key, data)
    result = _run(task, train_state, data, valid, epochs, batch_size)
    fault = first_fault(task, result.history.finite)
    if fault is not None:
        raise explain(task, train_state, data, batch_size, fault)
    return result


@partial(jax.jit, static_argnums=(0, 4, 5))
def _run(task: Task, train_state: TrainState, data: Data, valid: Data | None, epochs: int, batch_size: int) -> Result:
    def one(train_state: TrainState, _: None) -> tuple[TrainState, tuple[Measures, Measures]]:
        train_state, each_step = whole_epoch(task, train_state, data, batch_size)
        figures = validate(task, train_state, valid, batch_size)
        return observed(train_state, figures), (each_step, figures)

    train_state, (each_step, each_epoch) = jax.lax.scan(one, train_state, length=epochs)
    # (epochs, steps, ...) -> (epochs * steps, ...)
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in task.in_order(each_step).items()}
    return Result(train_state, History(flat | each_epoch))
