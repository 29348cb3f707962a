"""A whole run of training as one pure function."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.train.callback import Callback, call_host, expect_callback
from fnn.train.early_stopping import until_over
from fnn.train.epoch import Measures, batch_at, whole_epoch
from fnn.train.evaluate import observed, validate
from fnn.train.figures import FLAGS, OVER, is_validation
from fnn.train.inputs import enter, expect_fitting
from fnn.train.nonfinite import explain, first_fault, state_at
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import start_on, steps_per_epoch
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
) -> Result:
    """A whole run of training as one pure function: a scan over epochs of a scan over steps, in one program.

    jit, vmap and grad work on it, by the key and by the recipe.

    Args:
        key: From `jax.random.key`: initialization, the order of examples, augmentation and noise follow from it.
        recipe: From `train.recipe`.
        data: (inputs, targets), arrays whose first axis is the example. Bytes stay bytes until they are prepared.
        epochs: Passes over the data; with `resume`, how many more.
        batch_size: Examples a step. Those that fill no batch sit an epoch out.
        valid: (inputs, targets) to evaluate after each epoch.
        resume: The train state, at the end of an epoch, or the result of a run of this recipe and key to continue. A
            result's history comes first in the new one. Two runs joined like this are bitwise the run of all epochs.
        callback: callback(step, figures) is called on the host after each epoch, also from inside of jit, and once for
            all lanes of a mapped run: the means of the epoch's steps, its figures on `valid`, and `over`, whether early
            stopping has ended the run.

    Returns:
        The last train state, or the best one with early stopping, and the history. Per step: loss, penalty, metrics,
        measures, rate and finite. Per epoch, with `valid`: valid_loss and valid_ metrics. After early stopping the
        history ends where the run did; within jit it has NaN from there on.

    Raises:
        FnnError: The data or an argument cannot be right; raised before anything compiles.
        NonFiniteError: A step was not finite, the recipe has on_nonfinite="raise", and the run is not traced.
    """
    checks.key("key", key)
    checks.whole("epochs", epochs, 0)
    expect_recipe("run", recipe)
    expect_callback(callback)
    data, valid = enter("data", data), None if valid is None else enter("valid", valid)
    expect_fitting(recipe, data, valid)
    length = steps_per_epoch(data, batch_size)
    begin, past = _begin(recipe, key, data, resume, length)
    last, history = _run(recipe, begin, data, valid, epochs, batch_size, callback)
    fault = first_fault(recipe, history.finite)
    if fault is not None:
        before = state_at(recipe, begin, data, valid, batch_size, int(begin.step) + fault)
        raise explain(recipe, before, *batch_at(recipe, before, data, batch_size))
    if recipe.early_stopping is not None and checks.is_concrete(last.step):
        history = _until(int(last.step) - int(begin.step), length, history)
    return Result(finished(recipe, last), _joined(past, history))


def _begin(
    recipe: Recipe, key: RandomKey, data: Data, resume: TrainState | Result | None, length: int
) -> tuple[TrainState, History | None]:
    """The train state to begin with, and the history before it."""
    if resume is None:
        return start_on(recipe, key, data), None
    if not isinstance(resume, TrainState | Result):
        raise ConfigError(
            "resume",
            "a TrainState or a Result",
            type(resume).__name__,
            "give that of an earlier run",
        )
    state, past = (resume, None) if isinstance(resume, TrainState) else resume
    expect_same_key(state, key)
    if checks.is_concrete(state.step) and int(state.step) % length:
        advice = "use lab.fit to continue within an epoch"
        raise ConfigError(
            "resume",
            f"a train state between epochs of {length} steps",
            f"step {state.step}",
            advice,
        )
    return watched(recipe, state), past


def watched(recipe: Recipe, train_state: TrainState) -> TrainState:
    """A train state to continue from: the last one of the run before, even if that gave back its best one.

    It has the memory of early stopping also where the run before had none.
    """
    if recipe.early_stopping is None:
        return train_state
    is_watched = bool(jax.tree.leaves(train_state.watch))
    return (recipe.early_stopping.resume if is_watched else recipe.early_stopping.begin)(
        train_state
    )


def expect_same_key(train_state: TrainState, key: RandomKey) -> None:
    """Raise ConfigError unless a train state to continue from is one of a run of this key."""
    if not (checks.is_concrete(train_state.key) and checks.is_concrete(key)):
        return
    if not (jax.random.key_data(train_state.key) == jax.random.key_data(key)).all():
        expected = "a train state of a run with this key"
        raise ConfigError("resume", expected, "one of another key", "give the run's own key")


def _joined(past: History | None, history: History) -> History:
    """Both histories as one; ConfigError where they measure different things."""
    if past is None:
        return history
    if past.keys() != history.keys():
        advice = "continue with the metrics and valid= that it was begun with"
        raise ConfigError(
            "resume", f"a run that measures {', '.join(past)}", ", ".join(history), advice
        )
    return History({name: jnp.concatenate([past[name], history[name]]) for name in history})


def finished(recipe: Recipe, train_state: TrainState) -> TrainState:
    """What a run that has come to its end gives back: the last train state, or the best one where it kept that."""
    return (
        train_state if recipe.early_stopping is None else recipe.early_stopping.finish(train_state)
    )


@per_recipe(static=(4, 5, 6))
def _run(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    epochs: int,
    batch_size: int,
    callback: Callback | None,
) -> tuple[TrainState, History]:
    def epoch(train_state: TrainState) -> tuple[TrainState, tuple[Measures, Measures]]:
        train_state, each_step = whole_epoch(recipe, train_state, data, batch_size)
        figures = validate(recipe, train_state, valid, batch_size)
        return observed(recipe, train_state, figures), (each_step, figures)

    def one(train_state: TrainState, _: None) -> tuple[TrainState, tuple[Measures, Measures]]:
        after, figures = until_over(recipe.early_stopping, epoch)(train_state)
        if callback is not None:
            call_host(callback, _figures(recipe, train_state, after, figures))
        return after, figures

    train_state, (each_step, each_epoch) = jax.lax.scan(one, train_state, length=epochs)
    # (epochs, steps, ...) -> (epochs * steps, ...)
    flat = {
        name: values.reshape(-1, *values.shape[2:])
        for name, values in recipe.in_order(each_step).items()
    }
    return train_state, History(flat | each_epoch)


def _figures(
    recipe: Recipe, before: TrainState, after: TrainState, figures: tuple[Measures, Measures]
) -> Measures:
    """The figures of an epoch for the callback."""
    means = {
        name: values.mean(0)
        for name, values in recipe.in_order(figures[0]).items()
        if name not in FLAGS
    }
    return {"step": after.step, OVER: recipe.is_over(before), **means, **figures[1]}


def _until(step: int, length: int, history: History) -> History:
    """The history of the epochs that were run; figures of validation are one an epoch, all others one a step."""
    return History(
        {
            name: values[: step // length if is_validation(name) else step]
            for name, values in history.items()
        }
    )
