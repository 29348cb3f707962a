"""A run in compiled chunks, with progress, logs, checkpoints and signals between them."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.checkpoint_policy import CheckpointPolicy, as_saving
from fnn.lab.fit.loader import Stream, is_stream
from fnn.lab.fit.loop import FitConfig, Limits, follow
from fnn.lab.fit.source import DataSource
from fnn.lab.fit.stream_source import StreamSource
from fnn.lab.logs.log import Log, as_log
from fnn.train.callback import Callback, expect_callback
from fnn.train.inputs import enter, expect_fitting
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Data, RandomKey, Result, TrainState


def fit(
    key: RandomKey,
    recipe: Recipe,
    data: Data | Iterable[Data],
    *,
    epochs: int,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    valid: Data | None = None,
    checkpoints: str | os.PathLike[str] | CheckpointPolicy | None = None,
    resume: bool | TrainState = False,
    callback: Callback | None = None,
    log: Log | Callback | Sequence[Any] | None = None,
    log_every: int = 1,
    max_seconds: float = math.inf,
    max_steps: int | None = None,
    chunk: int | None = None,
    show: bool = True,
) -> Result:
    """The run of `train.run`, bit for bit, in compiled chunks of steps, with progress, logs and checkpoints.

    SIGINT and SIGTERM end the run after the chunk. With checkpoints the run is saved and the program exits with 130 or
    143; without them Ctrl-C returns what there is, as max_seconds and max_steps always do.

    Args:
        key: From `jax.random.key`: initialization, the order of examples, augmentation and noise follow from it.
        recipe: From `train.recipe`.
        data: (inputs, targets), arrays whose first axis is the example; or any iterable of batches of such, of which
            each is one step, augmented by the key of that step.
        epochs: Passes over the data, in all: a run that is resumed goes on up to these.
        batch_size: Examples a step; for an iterable it is that of validation, by default its first batch's.
        steps_per_epoch: Batches of an iterable that are an epoch; by default one pass over it.
        valid: (inputs, targets) to evaluate after each epoch.
        checkpoints: A directory, or `lab.checkpoint_policy(directory, ...)`. The run is saved there after each epoch.
        resume: True to continue the last checkpoint, its history whole; or a train state, with the history from there.
        callback: callback(step, figures) after each epoch, as of `train.run`; returning true ends the run.
        log: log(step, figures) of every log_every-th step and of each epoch, or `lab.jsonl_log`, `csv_log`,
            `tensorboard_log`, or a list of these.
        log_every: Steps between two that are logged.
        max_seconds: Seconds after which the run ends.
        max_steps: The step at which the run ends.
        chunk: Steps between two looks at clock and terminal, by default as many as take 0.5 s. It changes no number.
        show: Whether to print a header, a table of epochs and a progress bar.

    Raises:
        FnnError: What `train.run` raises; NonFiniteError as soon as it happens.
        ConfigError: The run cannot be resumed.
    """
    checks.key("key", key)
    expect_recipe("fit", recipe)
    stream = _stream(data, steps_per_epoch)
    entered = enter("data", cast(Data, stream.peek() if stream else data))
    valid = None if valid is None else enter("valid", valid)
    out_shape = expect_fitting(recipe, entered, valid)
    batch_size = _batch_size(batch_size, stream, entered)
    course: DataSource = (
        StreamSource(recipe, stream, valid, batch_size)
        if stream
        else ArraySource(recipe, entered, valid, batch_size)
    )
    limits = Limits(
        epochs=checks.whole("epochs", epochs, 0),
        seconds=float(checks.number("max_seconds", max_seconds, "[0, inf]")),
        steps=math.inf if max_steps is None else checks.whole("max_steps", max_steps, 0),
        chunk=None if chunk is None else checks.whole("chunk", chunk),
    )
    expect_callback(callback)
    log_every = checks.whole("log_every", log_every)
    plan = FitConfig(
        recipe,
        course,
        entered,
        valid,
        out_shape,
        batch_size,
        limits,
        callback,
        as_log("log", log),
        log_every,
    )
    return follow(
        plan,
        key,
        as_saving(checkpoints),
        _expect_resume(resume, checkpoints),
        checks.flag("show", show),
    )


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
    return (
        int(jax.tree.leaves(data)[0].shape[0])
        if batch_size is None
        else checks.whole("batch_size", batch_size)
    )


def _expect_resume(resume: bool | TrainState, checkpoints: Any) -> bool | TrainState:
    if not isinstance(resume, bool | TrainState):
        got = (
            "a Result" if isinstance(resume, Result) else repr(resume)
        )  # whose text would be all of its arrays
        raise ConfigError(
            "resume", "True, False or a train state", got, "give resume=result.train_state"
        )
    if resume is True and checkpoints is None:
        raise ConfigError(
            "resume", "checkpoints to go on from", None, "give checkpoints=, the run's directory"
        )
    return resume
