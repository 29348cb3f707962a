"""Early stopping that restores the best epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.objective.loss import MODES
from fnn.optim.transform import at_least
from fnn.train.figures import VALID_LOSS
from fnn.types import Number, Scalar, Step, TrainState
from fnn.values import maker

Epoch = Callable[[TrainState], tuple[TrainState, Any]]


class Watch(NamedTuple):
    """The memory of early stopping: the best figure and the train state it was measured on.

    After a run that returned its best train state, `kept` holds the last one. The run can then be
    resumed from its last epoch.

    Attributes:
        best: Best figure of validation, a scalar; the worst finite number before the first epoch.
        stalled: Epochs since the best one, int32 scalar.
        kept: (params, state, opt_state, step) of the best epoch.
    """

    best: Scalar
    stalled: Step
    kept: tuple[Any, Any, Any, Step]


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """The condition under which a run ends, as pure functions of its train state.

    Attributes:
        by: Name of the monitored figure.
        mode: "min" if a lower figure is better, "max" if a higher one is, None where the figure
            decides; see `Recipe.stopping_sign`.
        begin: (train_state, sign) -> train_state with a Watch. The sign is 1 if a lower figure is
            better, -1 if a higher one is.
        observe: (train_state, figures of an epoch, sign) -> train_state with the Watch updated.
        is_over: (train_state) -> boolean scalar, whether the run has ended.
        finish: (train_state) -> the train state that the run returns.
        resume: (train state that a run returned) -> the last one of that run.
    """

    by: str
    mode: str | None
    begin: Callable[[TrainState, int], TrainState]
    observe: Callable[[TrainState, Mapping[str, Scalar], int], TrainState]
    is_over: Callable[[TrainState], jax.Array]
    finish: Callable[[TrainState], TrainState]
    resume: Callable[[TrainState], TrainState]


@maker
def early_stopping(
    patience: Number,
    *,
    min_delta: Number = 0.0,
    by: str = VALID_LOSS,
    mode: str | None = None,
    restore_best: bool = True,
) -> EarlyStopping:
    """End a run after `patience` epochs in a row without a better validation figure.

    A figure is better if it is below best - min_delta, or for a figure such as accuracy if it is
    above best + min_delta. NaN is never better. Early stopping is part of the compiled run, so each
    lane of a mapped run ends independently of the others. For `train.run` and `lab.fit`, via
    `train.recipe` [Prechelt 1998, "Early Stopping - But When?"].

    Args:
        patience: Epochs without improvement after which the run ends, in [1, inf). May be traced.
        min_delta: Improvement that counts as better, in [0, inf), in units of the figure.
        by: Name of the monitored figure: valid_loss, or valid_ and the name of a metric.
        mode: "min" if a lower figure is better, "max" if a higher one is. None takes that of the
            figure: "min" for losses, and "max" for accuracy and its kind. A metric of your own
            has the `mode` with which `objective.loss` or `Metric` declares it; a plain function
            has none, and it must be given here.
        restore_best: Whether the run returns the whole train state of its best epoch. Otherwise
            it returns the last one.

    Raises:
        ConfigError: A number is out of range, or `mode` or `restore_best` is not one of its values.
    """
    checks.number("early_stopping patience", patience, "[1, inf)")
    checks.number("early_stopping min_delta", min_delta, "[0, inf)")
    if mode is not None:
        checks.choice("early_stopping mode", mode, MODES)
    checks.flag("early_stopping restore_best", restore_best)

    def begin(train_state: TrainState, sign: int) -> TrainState:
        dtype = jnp.result_type(float)
        # Not inf, at which jax_debug_infs would stop.
        worst = jnp.full((), sign * jnp.finfo(dtype).max, dtype)
        stalled = jnp.zeros((), jnp.int32)
        # Copies, since JAX donates no buffer twice.
        kept = jax.tree.map(jnp.array, train_state[:4])
        return train_state._replace(watch=Watch(worst, stalled, kept))

    def observe(
        train_state: TrainState,
        figures: Mapping[str, Scalar],
        sign: int,
    ) -> TrainState:
        best, stalled, kept = train_state.watch
        figure = figures[by].astype(best.dtype)
        # The comparison is False for NaN, so a diverged epoch is never the best one.
        better = sign * figure < sign * best - trees.knob(min_delta, best)
        kept = trees.select(better, train_state[:4], kept)
        best = jnp.where(better, figure, best)
        stalled = jnp.where(better, 0, stalled + 1)
        return train_state._replace(watch=Watch(best, stalled, kept))

    def is_over(train_state: TrainState) -> jax.Array:
        stalled = train_state.watch.stalled
        # Between segments it is compared on the host: no number is copied to the device.
        if checks.is_concrete(stalled):
            stalled = trees.read(stalled)
        return at_least(stalled, patience)

    def finish(train_state: TrainState) -> TrainState:
        if not restore_best:
            return train_state
        # The best epoch is never later than the last one. The last one is kept for a resume.
        kept_step = train_state.watch.kept[3]
        return _swap_kept(train_state, kept_step < train_state.step)

    def resume(train_state: TrainState) -> TrainState:
        # A kept step that is later than the current one means that `finish` has swapped them.
        kept_step = train_state.watch.kept[3]
        return _swap_kept(train_state, kept_step > train_state.step)

    return EarlyStopping(by, mode, begin, observe, is_over, finish, resume)


def _swap_kept(train_state: TrainState, condition: jax.Array) -> TrainState:
    """Exchange the train state and the kept one where the condition holds."""
    current, kept = train_state[:4], train_state.watch.kept
    watch = train_state.watch._replace(kept=trees.select(condition, current, kept))
    params, state, opt_state, step = trees.select(condition, kept, current)
    return TrainState(params, state, opt_state, step, train_state.key, watch)


def until_over(stopping: EarlyStopping | None, epoch: Epoch) -> Epoch:
    """Return the epoch function, made to do nothing once early stopping has ended the run.

    From then on the train state stays the same, and the figures are NaN.
    """
    if stopping is None:
        return epoch

    def unless_over(train_state: TrainState) -> tuple[TrainState, Any]:
        # The key passes through the cond as raw bits. In a mapped run both branches are computed,
        # each with a copy of the key, which JAX's key-reuse checker would report as a reuse.
        key = train_state.key
        with_bits = train_state._replace(key=jax.random.key_data(key))

        def run(with_bits: TrainState) -> tuple[TrainState, Any]:
            typed_key = jax.random.wrap_key_data(with_bits.key, impl=jax.random.key_impl(key))
            after, figures = epoch(with_bits._replace(key=typed_key))
            return after._replace(key=with_bits.key), figures

        over = stopping.is_over(train_state)
        shapes = jax.eval_shape(run, with_bits)[1]
        blank = jax.tree.map(partial(_blank, over), shapes)
        with_bits, figures = jax.lax.cond(
            over, lambda with_bits: (with_bits, blank), run, with_bits
        )
        return with_bits._replace(key=key), figures

    return unless_over


def _blank(over: jax.Array, figure: jax.ShapeDtypeStruct) -> jax.Array:
    """Return the figure of an epoch that is not run: NaN for floats, 0 for ints, True for flags."""
    is_float = jnp.issubdtype(figure.dtype, jnp.inexact)
    value = jnp.nan if is_float else figure.dtype == bool
    blank = jnp.asarray(value, figure.dtype)
    # Computed from `over` so that within a shard_map the value varies over devices, as the type
    # of the other branch of the cond does.
    return jnp.broadcast_to(jnp.where(over, blank, blank), figure.shape)
