"""`fit`: a run with progress, logs, checkpoints and signals."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.checkpoint_policy import CheckpointPolicy, as_policy
from fnn.lab.fit.clock import Stopwatch
from fnn.lab.fit.config import FitConfig
from fnn.lab.fit.input_clock import InputClock
from fnn.lab.fit.loader import BatchStream, is_stream
from fnn.lab.fit.loop import run_loop
from fnn.lab.fit.source import DataSource
from fnn.lab.fit.stream_source import StreamSource
from fnn.lab.fit.votes import silent_log
from fnn.lab.logs.log import Log, as_log
from fnn.train.arrays import conversion_for, validate_data
from fnn.train.callback import Callback, expect_callback
from fnn.train.devices import (
    adopt,
    expect_divisible,
    layout_of_data,
    place_data,
    use_layout,
)
from fnn.train.inputs import validate_fit
from fnn.train.layout import Devices, Layout
from fnn.train.measure import count_examples
from fnn.train.processes import agreement, announced, is_writer, spans_processes
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run import find_layout
from fnn.train.run_facts import run_facts
from fnn.train.stream import BatchParts, StreamValidator
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
    mesh: Devices | None = None,
) -> Result:
    """Train as `train.run` does, bit for bit, in compiled chunks of steps.

    Between chunks it shows progress, writes logs and checkpoints, and reacts to signals.

    SIGINT (Ctrl-C) and SIGTERM end the run after the current chunk. With checkpoints the run is
    saved, and the program exits with code 130 or 143. Without them, Ctrl-C returns the result so
    far, as max_seconds and max_steps always do.

    Args:
        key: From `jax.random.key`. Initialization, the order of examples, augmentation and noise
            follow from it.
        recipe: From `train.recipe`.
        data: (inputs, targets), arrays whose first axis is the example. Or any iterable of such
            batches, each of which is one step and is augmented by the key of that step.
        epochs: Passes over the data in total, also for a run that is resumed.
        batch_size: Examples per step. For an iterable it is the batch size of validation, by
            default that of its first batch.
        steps_per_epoch: Batches of an iterable per epoch; by default one pass over it.
        valid: (inputs, targets) to evaluate after each epoch.
        checkpoints: A directory, or `lab.checkpoint_policy(directory, ...)`. By default the run is
            saved there after each epoch.
        resume: True to continue the last checkpoint with its history, or a train state to continue
            from, with the history from there on.
        callback: callback(step, figures) after each epoch, as of `train.run`. The run ends if it
            returns True.
        log: A function (step, figures), or `lab.jsonl_log`, `csv_log` or `tensorboard_log`, or a
            list of these. It gets every log_every-th step, and the last step of each epoch.
        log_every: Steps between two that are logged.
        max_seconds: Seconds after which the run ends.
        max_steps: The step at which the run ends.
        chunk: Steps per chunk, by default as many as take 0.5 s. It does not change the result.
        show: Whether to print a header, a table of epochs and a progress bar.
        mesh: Devices among which the examples of each batch are divided, and with a `train.layout`
            the params, as for `train.run`. A last batch of an iterable may have another size.

    Returns:
        The last train state, or the best one with early stopping, and the history. `findings` are
        the faults that the recorded figures show, by `diagnose.examine_history`; and T20 if the
        run waited for the iterable most of the time. Errors and warnings are also printed, as soon
        as they are found.

    Raises:
        FnnError: As for `train.run`; NonFiniteError is raised as soon as it happens.
        ConfigError: An argument is wrong, or the run cannot be resumed.
    """
    layout = find_layout("fit mesh", mesh, None if is_stream(data) else data, resume)
    with agreement("fit", layout) as agreed:
        checks.key("key", key)
        expect_recipe("fit", recipe)
        how = conversion_for(layout)
        stream = _open_stream(recipe, data, steps_per_epoch, layout)
        # Of an iterable, the first batch is checked in place of the data.
        if stream:
            arrays = stream.peek()
            layout = layout or layout_of_data(arrays)
        else:
            arrays = validate_data("data", adopt(layout, data), how)
        if valid is not None:
            valid = validate_data("valid", adopt(layout, valid), how)
        out_shape = validate_fit(recipe, arrays, valid)
        batch_size = _expect_batch_size(batch_size, stream, arrays)
        if stream:
            expect_divisible("size of the first batch", layout, count_examples(arrays))
        else:
            expect_divisible("batch_size", layout, batch_size)
        expect_callback(callback)
        config = FitConfig(
            key=key,
            recipe=recipe,
            data=arrays,
            valid=valid,
            out_shape=out_shape,
            epochs=checks.whole("epochs", epochs, 0),
            batch_size=batch_size,
            checkpoints=as_policy(checkpoints),
            resume=_expect_resume(resume, checkpoints),
            callback=callback,
            log=as_log("log", log),
            log_every=checks.whole("log_every", log_every),
            max_seconds=float(checks.number("max_seconds", max_seconds, "[0, inf]")),
            max_steps=math.inf if max_steps is None else checks.whole("max_steps", max_steps, 0),
            chunk=None if chunk is None else checks.whole("chunk", chunk),
            show=checks.flag("show", show),
        )
        if spans_processes(layout):
            agreed.facts = _facts(config, stream)
            if not is_writer(layout):
                config = replace(config, log=silent_log(config.log), show=False)
    # Time is counted from here on: the first batch of a stream has been fetched before.
    stopwatch = Stopwatch()
    inputs = InputClock()
    source: DataSource
    placed_valid = place_data(layout, valid)
    if stream:
        source = StreamSource(
            recipe,
            stream,
            placed_valid,
            batch_size,
            stopwatch,
            inputs,
        )
    else:
        placed = place_data(layout, arrays)
        source = ArraySource(recipe, placed, placed_valid, batch_size, stopwatch)
    with use_layout(layout), announced("fit", layout):
        return run_loop(config, source, stopwatch, inputs)


def _facts(config: FitConfig, stream: BatchStream | None) -> dict[str, Any]:
    """Return the facts that must be equal on all processes."""
    options = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "checkpoints": str(config.checkpoints),
        "resume": config.resume is not False,
        "log_every": config.log_every,
        "max_seconds": config.max_seconds,
        "max_steps": config.max_steps,
        "chunk": config.chunk,
    }
    if stream is not None:
        options["batches of an epoch"] = stream.epoch_length
    return run_facts(config.recipe, config.key, config.data, config.valid, **options)


def _open_stream(
    recipe: Recipe,
    data: Any,
    steps_per_epoch: int | None,
    layout: Layout | None,
) -> BatchStream | None:
    """Return the batches of an iterable, or None for arrays.

    Args:
        recipe: From `train.recipe`.
        data: Arrays or an iterable.
        steps_per_epoch: As for `fit`.
        layout: The devices among which batches are divided; None for one device.
    """
    if steps_per_epoch is not None:
        checks.whole("steps_per_epoch", steps_per_epoch)
    if is_stream(data):
        join = None
        if layout is not None and spans_processes(layout):
            join = BatchParts(layout)
        return BatchStream(data, steps_per_epoch, StreamValidator(recipe, layout), join)
    if steps_per_epoch is not None:
        raise ConfigError(
            "steps_per_epoch",
            "an iterable of batches as data",
            "arrays",
            "leave it out: an epoch is as many steps as the arrays fill batches",
        )
    return None


def _expect_batch_size(batch_size: int | None, stream: BatchStream | None, data: Data) -> int:
    """Return the batch size; for a stream by default that of its first batch."""
    if batch_size is not None:
        return checks.whole("batch_size", batch_size)
    if stream is None:
        raise ConfigError("batch_size", "a whole number", None, "give it, as in batch_size=64")
    first = jax.tree.leaves(data)[0]
    return int(first.shape[0])


def _expect_resume(resume: bool | TrainState, checkpoints: Any) -> bool | TrainState:
    """Return `resume`, or raise ConfigError where the run cannot be resumed by it."""
    if not isinstance(resume, bool | TrainState):
        # The repr of a result would print all of its arrays.
        got = checks.show(resume)
        raise ConfigError(
            "resume",
            "True, False or a train state",
            got,
            "give resume=result.train_state",
        )
    if resume is True and checkpoints is None:
        raise ConfigError(
            "resume",
            "checkpoints to resume from",
            None,
            "give checkpoints=, the run's directory",
        )
    return resume
