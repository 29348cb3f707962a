"""A run that ends when it no longer gets better, and gives back its best moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.transform import reached
from fnn.train.figures import VALID_LOSS
from fnn.types import Number, Scalar, Step, TrainState
from fnn.values import maker

MODES = ("min", "max")
Epoch = Callable[[TrainState], tuple[TrainState, Any]]


class Watch(NamedTuple):
    """What early stopping remembers: the best figure, the epochs since, and the train state as it was then.

    Where the run gave back that one, the last one is kept in its place.
    """

    best: Scalar
    stalled: Step
    kept: tuple[Any, Any, Any, Step]  # params, state, opt_state, step


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """When a run ends: pure functions of its train state.

    by:       the figure that it goes by
    sign:     1 if less of that is better, -1 if more is
    begin:    (train_state) -> train_state, with a Watch
    observe:  (train_state, figures of an epoch) -> train_state
    is_over:  (train_state) -> whether the run has ended
    finish:   (train_state) -> the train state that the run gives back
    resume:   (train state that a run gave back) -> the one that it had reached
    """

    by: str
    sign: int
    begin: Callable[[TrainState], TrainState]
    observe: Callable[[TrainState, Mapping[str, Scalar]], TrainState]
    is_over: Callable[[TrainState], jax.Array]
    finish: Callable[[TrainState], TrainState]
    resume: Callable[[TrainState], TrainState]


@maker
def early_stopping(
    patience: Number,
    *,
    min_delta: Number = 0.0,
    by: str = VALID_LOSS,
    mode: str = "min",
    restore_best: bool = True,
) -> EarlyStopping:
    """End a run after so many epochs in a row without a better validation figure, for `train.run` and `lab.fit`.

    Better is below best - min_delta, or with mode="max" above best + min_delta; NaN never is. With restore_best the
    run gives back the whole train state as it was after its best epoch; without, the last one. It works inside of the
    compiled program, so that each lane of a mapped run ends by itself. ConfigError for a number out of range
    [Prechelt 1998, "Early Stopping - But When?"].
    """
    checks.number("early_stopping patience", patience, "[1, inf)")
    checks.number("early_stopping min_delta", min_delta, "[0, inf)")
    sign = {"min": 1, "max": -1}[checks.choice("early_stopping mode", mode, MODES)]
    checks.flag("early_stopping restore_best", restore_best)

    def begin(train_state: TrainState) -> TrainState:
        worst = jnp.full((), sign * jnp.inf, jnp.result_type(float))
        return train_state._replace(watch=Watch(worst, jnp.zeros((), jnp.int32), train_state[:4]))

    def observe(train_state: TrainState, figures: Mapping[str, Scalar]) -> TrainState:
        best, stalled, kept = train_state.watch
        figure = figures[by].astype(best.dtype)
        better = sign * figure < sign * best - trees.knob(min_delta, best)
        kept = trees.select(better, train_state[:4], kept)
        watch = Watch(jnp.where(better, figure, best), jnp.where(better, 0, stalled + 1), kept)
        return train_state._replace(watch=watch)

    def is_over(train_state: TrainState) -> jax.Array:
        return reached(train_state.watch.stalled, patience)

    def finish(train_state: TrainState) -> TrainState:
        """The best moment, which is never later than the last one: that one is kept, for the run to go on from."""
        return (
            _swapped(train_state, train_state.watch.kept[3] < train_state.step)
            if restore_best
            else train_state
        )

    def resume(train_state: TrainState) -> TrainState:
        return _swapped(train_state, train_state.watch.kept[3] > train_state.step)

    return EarlyStopping(by, sign, begin, observe, is_over, finish, resume)


def _swapped(train_state: TrainState, is_other: jax.Array) -> TrainState:
    """With what is kept in the place of the train state, and the other way round, where that is so."""
    now, kept = train_state[:4], train_state.watch.kept
    watch = train_state.watch._replace(kept=trees.select(is_other, now, kept))
    params, state, opt_state, step = trees.select(is_other, kept, now)
    return TrainState(params, state, opt_state, step, train_state.key, watch)


def until_over(stopping: EarlyStopping | None, epoch: Epoch) -> Epoch:
    """The epoch, as long as the run is not over; from then on the train state stays, and the figures are blank."""
    if stopping is None:
        return epoch

    def unless_over(train_state: TrainState) -> tuple[TrainState, Any]:
        # The key goes in and out as its bits: in a mapped run both ways are taken, each with a copy, and that is no
        # second use of it.
        key, bits = train_state.key, train_state._replace(key=jax.random.key_data(train_state.key))

        def go_on(bits: TrainState) -> tuple[TrainState, Any]:
            after, figures = epoch(
                bits._replace(key=jax.random.wrap_key_data(bits.key, impl=jax.random.key_impl(key)))
            )
            return after._replace(key=bits.key), figures

        over = stopping.is_over(train_state)
        blank = jax.tree.map(partial(_blank, over), jax.eval_shape(go_on, bits)[1])
        bits, figures = jax.lax.cond(over, lambda bits: (bits, blank), go_on, bits)
        return bits._replace(key=key), figures

    return unless_over


def _blank(over: jax.Array, figure: jax.ShapeDtypeStruct) -> jax.Array:
    """What the history has for an epoch that is not run: NaN; 0 in whole numbers, and no step that is not finite."""
    value = jnp.nan if jnp.issubdtype(figure.dtype, jnp.inexact) else figure.dtype == bool
    blank = jnp.asarray(value, figure.dtype)
    # Taken from `over`, so that in a shard_map it differs between devices where a real figure does.
    return jnp.broadcast_to(jnp.where(over, blank, blank), figure.shape)
