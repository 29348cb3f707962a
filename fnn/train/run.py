"""A whole training run as one pure function.

fnn has three implementations of a run, which compute the same numbers with the same steps:

- `run` in this file: a scan over epochs of a scan over steps. A scan can be differentiated in
  reverse mode, so gradients of a whole run exist. Its length is part of the compiled program.
- `run_segment` in segment.py: a while_loop, whose length is an argument of the program. One program
  therefore serves segments of any length, between which `lab.fit` reports, saves checkpoints and
  handles signals. A while_loop cannot be differentiated in reverse mode.
- The loop over a stream in fnn/lab/fit: a Python loop of compiled steps, since the batches of an
  arbitrary iterable are available only on the host, one at a time.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.train.arrays import conversion_for, validate_data
from fnn.train.callback import Callback, call_host, expect_callback
from fnn.train.common_layout import common_layout, expect_same_division
from fnn.train.devices import (
    adopt,
    as_layout,
    expect_divisible,
    layout_of,
    layout_of_data,
    place_data,
    place_state,
    use_layout,
)
from fnn.train.early_stopping import until_over
from fnn.train.epoch import Measures, next_batch, run_epoch
from fnn.train.evaluate import update_on_validation, validate
from fnn.train.figures import FLAGS, OVER, is_validation
from fnn.train.inputs import validate_fit
from fnn.train.layout import Devices, Layout
from fnn.train.nonfinite import find_fatal_step, nonfinite_error, replay_to_step
from fnn.train.processes import agreement, spans_processes
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.remat import recompute, scan_segments, segment_steps
from fnn.train.run_facts import describe_state, run_facts
from fnn.train.step import start_on_data, steps_per_epoch
from fnn.types import Data, History, RandomKey, Result, TrainState


def run(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    resume: TrainState | Result | None = None,
    callback: Callback | None = None,
    remat: bool = False,
    mesh: Devices | None = None,
) -> Result:
    """Train for a number of epochs, as one pure function and one compiled program.

    jit, vmap and grad apply to it, by the key and by the recipe. Runs with recipes that differ in
    numbers alone share one program.

    Args:
        key: From `jax.random.key`. It determines the initialization, the order of examples,
            augmentation and noise.
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays whose first axis is the example. Arrays of bytes stay bytes
            in memory; each batch is converted by the recipe's `prepare`.
        epochs: Passes over the data, >= 0; with `resume`, the number of further ones.
        batch_size: Examples per step. The remainder that fills no batch is left out of an epoch;
            which examples these are differs between epochs.
        valid: (inputs, targets) to evaluate after each epoch; None for no validation.
        resume: The result of an earlier run with this recipe and key, or its train state at the end
            of an epoch. The history of a result is continued; that of a train state begins here.
            Resumed runs are bitwise equal to a single run of all epochs.
        callback: callback(step, figures) is called on the host after each epoch, also within jit,
            and once for all lanes of a mapped run. Figures are the means over the epoch's steps,
            the figures on `valid`, and `over`: whether early stopping has ended the run.
        remat: Whether gradients through the run save memory (rematerialization). Reverse mode,
            such as `jax.grad`, keeps the intermediate values of every step. With `remat` it keeps
            the train state before each segment of about √T of the T steps, and computes the steps
            of one segment at a time again, which takes the time of one more forward pass. The
            run is the same to the last bit, and its gradient up to rounding.
        mesh: Devices among which the examples of data and batches are divided: a
            `jax.sharding.Mesh` of one axis, a NamedSharding that names the axis, or
            `train.layout(...)`, which can divide the params too. The batch size must be a multiple
            of their number. The run draws and computes the same as on one device, up to rounding.
            By default those among which the data is divided already, or those of the train state
            to resume.

    Returns:
        The last train state, or the best one with early stopping, and the history. Per step: loss,
        penalty, metrics, measures, rate, finite and the arrays of instruments. Per epoch, with
        `valid`: valid_loss and the valid_ metrics. With early stopping the history ends where the
        run did; within jit it is padded with NaN.

    Raises:
        FnnError: An argument is not valid, or the data does not fit the recipe. Raised before
            anything compiles.
        NonFiniteError: A step was not finite, the recipe has on_nonfinite="raise", and the run is
            not traced.
    """
    layout = find_layout("run mesh", mesh, data, resume)
    # Compilation may take minutes, so all arguments are checked before it.
    with agreement("run", layout) as agreed:
        checks.key("key", key)
        checks.whole("epochs", epochs, 0)
        expect_recipe("run", recipe)
        expect_callback(callback)
        checks.flag("remat", remat)
        data, valid = adopt(layout, (data, valid))
        how = conversion_for(layout)
        data = validate_data("data", data, how)
        if valid is not None:
            valid = validate_data("valid", valid, how)
        validate_fit(recipe, data, valid)
        epoch_length = steps_per_epoch(data, batch_size)
        expect_divisible("batch_size", layout, batch_size)
        with use_layout(layout):
            first, past = _initial_state(recipe, key, data, resume, epoch_length)
        if spans_processes(layout):
            options = {"epochs": epochs, "batch_size": batch_size, "remat": remat}
            agreed.facts = run_facts(recipe, key, data, valid, **options)
            agreed.facts["train state"] = describe_state(first)
    with use_layout(layout):
        return _run(
            recipe,
            place_state(layout, first),
            place_state(layout, past),
            place_data(layout, data),
            place_data(layout, valid),
            epochs,
            batch_size,
            callback,
            remat,
        )


def _run(
    recipe: Recipe,
    first: TrainState,
    past: History | None,
    data: Data,
    valid: Data | None,
    epochs: int,
    batch_size: int,
    callback: Callback | None,
    remat: bool,
) -> Result:
    """Run epochs on arrays that are checked and placed; the arguments are those of `run`.

    Args:
        recipe: From `train.recipe`.
        first: The train state to begin with.
        past: The history before it, or None.
        data: (inputs, targets).
        valid: (inputs, targets) for validation, or None.
        epochs: Number of epochs.
        batch_size: Examples per step.
        callback: As for `run`.
        remat: As for `run`.
    """
    last, history = run_epochs(
        recipe, first, data, valid, epochs, batch_size, callback, remat, None
    )
    fatal = find_fatal_step(recipe, history.finite)
    if fatal is not None:
        # The compiled run has continued to its end. Replay it up to the step to find the cause.
        step = int(trees.read(first.step)) + fatal
        before = replay_to_step(recipe, first, data, valid, batch_size, step)
        inputs, targets = next_batch(recipe, before, data, batch_size)
        raise nonfinite_error(
            recipe,
            before,
            inputs,
            targets,
        )
    # Within jit the shapes of the history are static, so it stays padded.
    if recipe.early_stopping is not None and checks.is_concrete(last.step):
        steps = int(trees.read(last.step)) - int(trees.read(first.step))
        epoch_length = steps_per_epoch(data, batch_size)
        history = _cut_history(history, steps, epoch_length)
    return Result(finish_run(recipe, last), join_histories(past, history))


def find_layout(
    where: str,
    mesh: Any,
    data: Any,
    resume: Any,
) -> Layout | None:
    """Return the layout of an argument `mesh`, by default that of the data or the train state.

    Args:
        where: Name of the argument in errors.
        mesh: As for `run`.
        data: Anything that is given as data.
        resume: A train state, a result, or anything else for a run from the beginning.
    """
    state = resume.train_state if isinstance(resume, Result) else resume
    params = state.params if isinstance(state, TrainState) else ()
    if mesh is not None:
        layout = as_layout(where, mesh)
        expect_same_division(where, layout, params)
        return layout
    return common_layout("data", layout_of_data(data), layout_of(params))


def _initial_state(
    recipe: Recipe,
    key: RandomKey,
    data: Data,
    resume: TrainState | Result | None,
    epoch_length: int,
) -> tuple[TrainState, History | None]:
    """Return the train state to begin with, and the history before it."""
    if resume is None:
        return start_on_data(recipe, key, data), None
    if not isinstance(resume, TrainState | Result):
        raise ConfigError(
            "resume",
            "a TrainState or a Result",
            type(resume).__name__,
            "give that of an earlier run",
        )
    if isinstance(resume, TrainState):
        train_state, past = resume, None
    else:
        train_state, past = resume
    # Order, augmentation and noise follow from the key: another key would be another run.
    expect_same_key(train_state, key)
    step = train_state.step
    if checks.is_concrete(step) and int(trees.read(step)) % epoch_length:
        raise ConfigError(
            "resume",
            f"a train state at the end of an epoch of {epoch_length} steps",
            f"step {trees.read(step)}",
            "use lab.fit to continue within an epoch",
        )
    return prepare_resume(recipe, train_state), past


def prepare_resume(recipe: Recipe, train_state: TrainState) -> TrainState:
    """Return the train state to continue a run from, given the one that the run returned.

    With early stopping this is the last train state, also where the run returned its best one.
    Early stopping begins here if the run before had none.
    """
    stopping = recipe.early_stopping
    if stopping is None:
        return train_state
    # Without early stopping the watch is an empty tuple.
    has_watch = bool(jax.tree.leaves(train_state.watch))
    if has_watch:
        return stopping.resume(train_state)
    return stopping.begin(train_state, recipe.stopping_sign)


def expect_same_key(train_state: TrainState, key: RandomKey) -> None:
    """Raise ConfigError unless the train state belongs to a run with this key."""
    # Traced keys have no values to compare.
    if not (checks.is_concrete(train_state.key) and checks.is_concrete(key)):
        return
    own, given = (trees.read(jax.random.key_data(of)) for of in (train_state.key, key))
    if not np.array_equal(own, given):
        raise ConfigError(
            "resume",
            "a train state of a run with this key",
            "one of another key",
            "give the run's own key",
        )


def finish_run(recipe: Recipe, train_state: TrainState) -> TrainState:
    """Return the train state that a finished run returns: the last one, or the best one."""
    if recipe.early_stopping is None:
        return train_state
    return recipe.early_stopping.finish(train_state)


@per_recipe(static=(4, 5, 6, 7, 8))
def run_epochs(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    epochs: int,
    batch_size: int,
    callback: Callback | None,
    remat: bool,
    gradient_from: int | None,
) -> tuple[TrainState, History]:
    """Run epochs from a train state, with validation after each.

    Args:
        recipe: From `train.recipe`.
        train_state: At the beginning of an epoch.
        data: Validated (inputs, targets).
        valid: Validated (inputs, targets) for validation.
        epochs: Number of epochs.
        batch_size: Examples per step.
        callback: As for `run`.
        remat: As for `run`.
        gradient_from: Step before which the train state is a constant to derivatives; None for a
            derivative through all steps.

    Returns:
        The last train state, and the history of these epochs.
    """
    epoch_length = steps_per_epoch(data, batch_size)
    segment = segment_steps(epochs, epoch_length) if remat else None
    is_within_epoch = segment is not None and segment < epoch_length
    steps = segment if is_within_epoch else None

    def figures_on_valid(train_state: TrainState) -> Measures:
        return validate(recipe, train_state, valid, batch_size)

    if is_within_epoch:
        # Otherwise each epoch would keep the intermediate values of its validation.
        figures_on_valid = recompute(figures_on_valid)

    def epoch(train_state: TrainState) -> tuple[TrainState, tuple[Measures, Measures]]:
        train_state, measured = run_epoch(
            recipe, train_state, data, batch_size, steps, gradient_from
        )
        validated = figures_on_valid(train_state)
        train_state = update_on_validation(recipe, train_state, validated)
        return train_state, (measured, validated)

    def body(before: TrainState, _: None) -> tuple[TrainState, tuple[Measures, Measures]]:
        # Under vmap some lanes may be over while others continue.
        after, (measured, validated) = until_over(recipe.early_stopping, epoch)(before)
        if callback is not None:
            figures = _epoch_figures(recipe, measured, validated)
            over = recipe.is_over(before)
            call_host(callback, {"step": after.step, OVER: over, **figures})
        return after, (measured, validated)

    # Each epoch finds its index in the train state, so the scan has no inputs.
    if segment is None or is_within_epoch:
        train_state, (measured, validated) = jax.lax.scan(body, train_state, length=epochs)
    else:
        whole_epochs = segment // epoch_length
        train_state, (measured, validated) = scan_segments(
            body, train_state, None, length=epochs, segment=whole_epochs
        )
    history = {}
    for name, values in recipe.in_order(measured).items():
        # (epochs, steps, ...) -> (epochs * steps, ...)
        history[name] = values.reshape(-1, *values.shape[2:])
    return train_state, History(history | validated)


def _epoch_figures(
    recipe: Recipe,
    measured: Measures,
    validated: Measures,
) -> Measures:
    """Return the figures of an epoch for the callback: means over steps, and validation."""
    figures = {}
    skipped = FLAGS | set(recipe.instrument_names)
    for name, values in recipe.in_order(measured).items():
        # A mean of the flag `finite` would not be a flag, and one of instruments would be NaN.
        if name not in skipped:
            figures[name] = values.mean(0)
    return figures | validated


def _cut_history(history: History, steps: int, epoch_length: int) -> History:
    """Cut the history after the steps that were run."""
    epochs = steps // epoch_length
    cut = {}
    for name, values in history.items():
        # Figures of validation have one value per epoch, all others one per step.
        count = epochs if is_validation(name) else steps
        # An index would be copied to the device, a static slice is not.
        cut[name] = jax.lax.slice_in_dim(values, 0, min(count, len(values)))
    return History(cut)


def join_histories(past: History | None, history: History) -> History:
    """Concatenate two histories; ConfigError if they have different figures."""
    if past is None:
        return history
    if past.keys() != history.keys():
        raise ConfigError(
            "resume",
            f"a run that measures {', '.join(past)}",
            ", ".join(history),
            "continue with the metrics and valid= that it was begun with",
        )
    return History({name: jnp.concatenate([past[name], history[name]]) for name in history})
