"""A rate that falls when the validation loss no longer does."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.transform import extended, parts, replaced, times, told_rate
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class PlateauState(NamedTuple):
    """The rate of the last step, the share of it that is left, the least loss; epochs: stalled, and still to wait."""

    inner: OptState
    rate: Scalar | None
    share: Scalar
    best: Scalar
    stalled: Step
    waiting: Step
    knobs: dict[str, Scalar]


@maker
def plateau(
    optimizer: Optimizer,
    *,
    factor: Number = 0.1,
    patience: Number = 10,
    threshold: Number = 1e-4,
    cooldown: Number = 0,
    floor: Number = 0.0,
) -> Optimizer:
    """The optimizer, whose updates shrink by the factor each time the validation loss has stalled for too long.

    An epoch stalls unless its loss is below the best by threshold |best|. After more than patience stalled epochs in a
    row the updates' share of the rate is multiplied by factor, but not below floor, and cooldown epochs do not count.
    `train.run` tells it the validation loss; a loop of one's own does by `observe_loss`. ConfigError for a number out of
    range, or for a run without valid= [torch.optim.lr_scheduler.ReduceLROnPlateau, for losses above 0].
    """
    inner = extended("plateau optimizer", optimizer)
    checks.number("plateau factor", factor, "[0, 1]")
    checks.number("plateau patience", patience, "[0, inf)")
    checks.number("plateau threshold", threshold, "[0, 1)")
    checks.number("plateau cooldown", cooldown, "[0, inf)")
    checks.number("plateau floor", floor, "[0, 1]")
    # They lie in the state, since `observe_loss` is given that alone.
    numbers = {
        "factor": factor,
        "patience": patience,
        "threshold": threshold,
        "cooldown": cooldown,
        "floor": floor,
    }

    def init(params: Params) -> PlateauState:
        floats = jnp.result_type(float)
        own = inner.init(params)
        return PlateauState(
            inner=own,
            rate=told_rate(own),
            share=jnp.ones((), floats),
            best=jnp.full((), jnp.inf, floats),
            stalled=jnp.zeros((), jnp.int32),
            waiting=jnp.zeros((), jnp.int32),
            knobs={name: jnp.asarray(number, floats) for name, number in numbers.items()},
        )

    def update(
        grads: Params, opt_state: PlateauState, params: Params, **extra: Any
    ) -> tuple[Params, PlateauState]:
        updates, own = inner.update(grads, opt_state.inner, params, **extra)
        updates = jax.tree.map(lambda u: times(opt_state.share, u), updates)
        now = jax.tree.map(lambda rate: opt_state.share.astype(rate.dtype) * rate, told_rate(own))
        return updates, opt_state._replace(inner=own, rate=now)

    return Optimizer(init, update)


def observe_loss(opt_state: OptState, loss: Number) -> OptState:
    """The optimizer state after an epoch with this validation loss: a `plateau` in it takes note, nothing else does."""
    return replaced(opt_state, PlateauState, lambda plateau: _observed(plateau, loss))


def observes(opt_state: OptState) -> bool:
    """Whether any part of the state wants to be told the validation loss."""
    return bool(parts(opt_state, lambda part: isinstance(part, PlateauState)))


def _observed(state: PlateauState, loss: Number) -> PlateauState:
    knobs = state.knobs
    loss = jnp.asarray(loss, state.best.dtype)
    better = loss < state.best * (1 - knobs["threshold"] * jnp.sign(state.best))
    stalled = jnp.where(better | (state.waiting > 0), 0, state.stalled + 1)
    over = stalled.astype(loss.dtype) > knobs["patience"]
    lower = jnp.maximum(state.share * knobs["factor"], knobs["floor"])
    return state._replace(
        inner=observe_loss(state.inner, loss),
        share=jnp.where(over, lower, state.share),
        best=jnp.where(better, loss, state.best),
        stalled=jnp.where(over, 0, stalled),
        waiting=jnp.where(
            over, knobs["cooldown"].astype(jnp.int32), jnp.maximum(state.waiting - 1, 0)
        ),
    )
