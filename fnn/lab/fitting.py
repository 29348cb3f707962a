"""A run with doors to the world between its compiled chunks."""

import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.lab.interrupts import interruptible
from fnn.lab.progress import reporting
from fnn.objective import cross_entropy
from fnn.train.boundary import enter, expect_fitting
from fnn.train.epochs import advance
from fnn.train.evaluation import observed, validate
from fnn.train.faults import PATIENCE, explain, first_fault
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

Figures = dict[str, np.ndarray]

FIRST_CHUNK = 8  # steps
SECONDS_PER_CHUNK = 0.2  # often enough for a lively bar, seldom enough to cost nothing


def fit(
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
    chunk: int | None = None,
    resume: TrainState | None = None,
    show: bool = True,
) -> Result:
    """The run of `train.run`, bit for bit, in compiled chunks of steps with a progress bar between them.

    chunk is how many steps go between two looks at the clock and the terminal; by default as many as take 0.2 s. It
    changes no number, and one compilation serves all. Ctrl-C ends the run after the chunk and returns what there is;
    given back as `resume=result.train_state`, with all else the same, the run goes on as if it had not stopped, its
    history beginning at that step. Raises what `train.run` raises, NonFiniteError as soon as it happens; ConfigError
    for a train state of another key or past the end.
    """
    checks.key("key", key)
    data, valid = enter("data", data), valid and enter("valid", valid)
    task = make_task(network, data[1], optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer)
    expect_fitting(task, data, valid)
    length = steps_per_epoch(data, batch_size)
    total = checks.whole("epochs", epochs, 0) * length
    chunk = chunk if chunk is None else checks.whole("chunk", chunk)
    train_state = start_on(task, key, data) if resume is None else _expect_own(resume, key, total)
    each_step: list[Figures] = []
    each_epoch: list[Figures] = []
    size = chunk or FIRST_CHUNK
    with reporting(total, int(train_state.step), show) as report, interruptible() as interrupted:
        began = time.monotonic()
        # No steps: this compiles, and tells what will be measured.
        each_step.append(_steps(task, train_state, data, batch_size, 0, [])[1])
        before = _on_host(validate(task, train_state, valid, batch_size))
        report.compiled(time.monotonic() - began)
        while int(train_state.step) < total and not interrupted():
            began = time.monotonic()
            train_state, measured = _steps(task, train_state, data, batch_size, size, each_step)
            each_step.append(measured)
            if int(train_state.step) % length == 0:
                figures = validate(task, train_state, valid, batch_size)
                train_state = observed(train_state, figures)
                each_epoch.append(_on_host(figures))
            size = chunk or _next_size(len(measured["loss"]), time.monotonic() - began)
            report.update(int(train_state.step), _summary(measured) | (each_epoch or [before])[-1])
    return Result(train_state, _history(each_step, each_epoch, before))


def _steps(
    task: Task, train_state: TrainState, data: Data, batch_size: int, count: int, past: list[Figures]
) -> tuple[TrainState, Figures]:
    """So many steps, or those left in the epoch, and what each measured; NonFiniteError where the run is lost."""
    length, first = steps_per_epoch(data, batch_size), int(train_state.step)
    stop = min(first + count, (first // length + 1) * length)
    after, records = advance(task, train_state, data, jnp.int32(stop), batch_size)
    measured = {
        name: np.asarray(values)[first % length :][: stop - first] for name, values in task.in_order(records).items()
    }
    recent = np.concatenate([figures["finite"] for figures in [*past[-PATIENCE:], measured]])
    fault = first_fault(task, recent)
    if fault is not None:
        raise explain(task, train_state, data, batch_size, stop - len(recent) + fault)
    return after, measured


def _next_size(steps: int, seconds: float) -> int:
    """As many steps as take SECONDS_PER_CHUNK, after so many took so long; at most fourfold more or fewer."""
    return max(1, round(steps * min(max(SECONDS_PER_CHUNK / seconds, 1 / 4), 4)))


def _expect_own(resume: TrainState, key: RandomKey, total: int) -> TrainState:
    if not (jax.random.key_data(resume.key) == jax.random.key_data(key)).all():
        raise ConfigError(
            "resume", "a train state of a run with this key", "one of another key", "give the run's own key"
        )
    if int(resume.step) > total:
        raise ConfigError(
            "resume", f"a train state within the {total} steps", f"step {int(resume.step)}", "train for more epochs"
        )
    return resume


def _on_host(figures: Mapping[str, jax.Array]) -> Figures:
    return {name: np.asarray(value) for name, value in figures.items()}


def _summary(measured: Figures) -> Figures:
    """The mean over a chunk of each measure that is one number, less the flags."""
    return {name: values.mean() for name, values in measured.items() if name != "finite" and values.ndim == 1}


def _history(each_step: list[Figures], each_epoch: list[Figures], before: Figures) -> History:
    steps = {name: np.concatenate([figures[name] for figures in each_step]) for name in each_step[0]}
    epochs = {name: np.array([figures[name] for figures in each_epoch], first.dtype) for name, first in before.items()}
    return History({name: jnp.asarray(values) for name, values in (steps | epochs).items()})
