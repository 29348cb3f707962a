"""A run with doors to the world between its compiled chunks."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import jax

from fnn import checks
from fnn.augment import BatchPolicy
from fnn.data import to_float
from fnn.errors import ConfigError
from fnn.lab.courses import ArrayCourse, Course, StreamCourse
from fnn.lab.logs.log import Log, as_log
from fnn.lab.running import Limits, Plan, follow
from fnn.lab.saving import Saving, as_saving
from fnn.lab.streams import Stream, is_stream
from fnn.objective import cross_entropy
from fnn.train.boundary import enter, expect_fitting
from fnn.train.stopping import EarlyStopping
from fnn.train.task import make_task, with_stopping
from fnn.types import (
    Augmentation,
    Data,
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


def fit(
    key: RandomKey,
    network: Layer,
    optimizer: Optimizer,
    data: Data | Iterable[Data],
    *,
    epochs: int,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    valid: Data | None = None,
    augment: Augmentation | BatchPolicy | None = None,
    prepare: Prepare = to_float,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    regularizer: Regularizer | None = None,
    on_nonfinite: str = "raise",
    early_stopping: EarlyStopping | None = None,
    checkpoints: str | os.PathLike[str] | Saving | None = None,
    resume: bool | TrainState = False,
    on_epoch: Callable[[TrainState, Mapping[str, float]], Any] | None = None,
    log: Log | Callable[[int, Mapping[str, float]], Any] | Sequence[Any] | None = None,
    log_every: int = 1,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    chunk: int | None = None,
    show: bool = True,
) -> Result:
    """The run of `train.run`, bit for bit, in compiled chunks of steps with doors to the world between them.

    data may also be any iterable of batches (inputs, targets): each is then one step, augmented by the key of that
    step; an epoch is one pass over it, or steps_per_epoch batches, and batch_size only counts for validation.

    checkpoints is a directory, or `lab.saving(directory, ...)`: after each epoch the run is saved there, and with
    resume=True it goes on from the last one, its history whole; resume may also be a train state, with a history from
    there on. SIGINT and SIGTERM end the run after the chunk: with checkpoints it is saved and the program exits with
    130 or 143, without them Ctrl-C returns what there is, as max_seconds and max_steps always do.

    on_epoch(train_state, figures) is called after each epoch, and ends the run by returning True. log(step, figures)
    is called every log_every steps and after each epoch; `lab.jsonl_log`, `csv_log` and `tensorboard_log` write files.
    chunk is how many steps go between two looks at the clock and the terminal, by default as many as take 0.5 s; it
    changes no number. Raises what `train.run` raises, NonFiniteError as soon as it happens; ConfigError for a run that
    cannot be gone on with.
    """
    checks.key("key", key)
    stream = _stream(data, steps_per_epoch)
    entered = enter("data", cast(Data, stream.peek() if stream else data))
    valid = None if valid is None else enter("valid", valid)
    task = make_task(
        network, entered[1], optimizer, loss, metrics, augment, prepare, on_nonfinite, regularizer, micro_batch_size
    )
    task = with_stopping(task, early_stopping)
    out_shape = expect_fitting(task, entered, valid)
    batch_size = _batch_size(batch_size, stream, entered)
    course: Course = (
        StreamCourse(task, stream, valid, batch_size) if stream else ArrayCourse(task, entered, valid, batch_size)
    )
    limits = Limits(
        epochs=checks.whole("epochs", epochs, 0),
        seconds=float(checks.number("max_seconds", max_seconds, "[0, inf]")),
        steps=math.inf if max_steps is None else checks.whole("max_steps", max_steps, 0),
        chunk=None if chunk is None else checks.whole("chunk", chunk),
    )
    if on_epoch is not None and not callable(on_epoch):
        raise ConfigError(
            "on_epoch", "a function of (train_state, figures)", repr(on_epoch), "give the function itself"
        )
    log_every = checks.whole("log_every", log_every)
    plan = Plan(task, course, entered, valid, out_shape, batch_size, limits, on_epoch, as_log("log", log), log_every)
    return follow(plan, key, as_saving(checkpoints), _expect_resume(resume, checkpoints), checks.flag("show", show))


def _stream(data: Any, steps_per_epoch: int | None) -> Stream | None:
    if steps_per_epoch is not None:
        checks.whole("steps_per_epoch", steps_per_epoch)
    if is_stream(data):
        return Stream(data, steps_per_epoch)
    if steps_per_epoch is not None:
        advice = "leave it out: an epoch is as many steps as the arrays fill batches"
        raise ConfigError("steps_per_epoch", "an iterable of batches as data", "arrays", advice)
    return None


def _batch_size(batch_size: int | None, stream: Stream | None, data: Data) -> int:
    """The size of the batches; a stream's own one for validation, where none is given."""
    if batch_size is None and stream is None:
        raise ConfigError("batch_size", "a whole number", None, "give it, as in batch_size=64")
    return int(jax.tree.leaves(data)[0].shape[0]) if batch_size is None else checks.whole("batch_size", batch_size)


def _expect_resume(resume: bool | TrainState, checkpoints: Any) -> bool | TrainState:
    if not isinstance(resume, bool | TrainState):
        got = "a Result" if isinstance(resume, Result) else repr(resume)  # whose text would be all of its arrays
        raise ConfigError("resume", "True, False or a train state", got, "give resume=result.train_state")
    if resume is True and checkpoints is None:
        raise ConfigError("resume", "checkpoints to go on from", None, "give checkpoints=, the run's directory")
    return resume
