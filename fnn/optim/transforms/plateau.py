"""Lower the rate when the validation loss stalls."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.transform import (
    find_states,
    last_rate,
    leave_frozen_out,
    replace_states,
    scale,
)
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class PlateauState(NamedTuple):
    """The state of `plateau`.

    Attributes:
        inner: The state of the optimizer.
        rate: The rate of the last step, times the share; None if the optimizer has no rate.
        share: The factor of the updates.
        best: The lowest validation loss so far.
        stalled: The number of stalled epochs in a row.
        waiting: The number of epochs of the cooldown that are left.
        knobs: The hyperparameters by name, which `observe_loss` is not given. An update does not
            read them; it writes those of its optimizer.
    """

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
    """Reduce on plateau: multiply the updates by a factor when the validation loss stalls.

    An epoch stalls unless its loss is below the best by threshold |best|. `train.run` passes the
    validation loss; your own loop does so by `observe_loss`
    [torch.optim.lr_scheduler.ReduceLROnPlateau, which it equals for losses above 0].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        factor: Factor of the updates, and so of the rate, in [0, 1].
        patience: Stalled epochs in a row that are tolerated, >= 0.
        threshold: Least relative improvement, in [0, 1).
        cooldown: Epochs after a reduction that do not count as stalled, >= 0.
        floor: Least product of all factors, in [0, 1].

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer; in `train.run`,
            there is no validation data.
    """
    checks.number("plateau factor", factor, "[0, 1]")
    checks.number("plateau patience", patience, "[0, inf)")
    checks.number("plateau threshold", threshold, "[0, 1)")
    checks.number("plateau cooldown", cooldown, "[0, inf)")
    checks.number("plateau floor", floor, "[0, 1]")
    hyperparameters = {
        "factor": factor,
        "patience": patience,
        "threshold": threshold,
        "cooldown": cooldown,
        "floor": floor,
    }

    def knobs() -> dict[str, Scalar]:
        floats = jnp.result_type(float)
        return {name: jnp.asarray(value, floats) for name, value in hyperparameters.items()}

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> PlateauState:
            floats = jnp.result_type(float)
            inner_state = inner.init(params)
            return PlateauState(
                inner=inner_state,
                rate=last_rate(inner_state),
                share=jnp.ones((), floats),
                # The first loss is better than inf, so that the first epoch never stalls.
                best=jnp.full((), jnp.inf, floats),
                stalled=jnp.zeros((), jnp.int32),
                waiting=jnp.zeros((), jnp.int32),
                knobs=knobs(),
            )

        def update(
            grads: Params,
            opt_state: PlateauState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, PlateauState]:
            updates, inner_state = inner.update(grads, opt_state.inner, params, **extra)
            # The updates and not the rate, which may be part of the optimizer's structure.
            updates = jax.tree.map(lambda u: scale(opt_state.share, u), updates)
            # The rate that history records, and that `weight_decay` uses, includes the share.
            rate = last_rate(inner_state)
            if rate is not None:
                rate = opt_state.share.astype(rate.dtype) * rate
            # In a resumed run the numbers may differ from those in the state.
            return updates, opt_state._replace(inner=inner_state, rate=rate, knobs=knobs())

        return Optimizer(init, update)

    return leave_frozen_out("plateau", wrap, optimizer)


def observe_loss(opt_state: OptState, loss: Number) -> OptState:
    """Pass the validation loss of an epoch to each `plateau` in the optimizer state.

    Args:
        opt_state: The state of any optimizer. Without a `plateau` in it, it is returned unchanged.
        loss: The validation loss; NaN counts as stalled.
    """

    def observe(state: PlateauState) -> PlateauState:
        knobs = state.knobs
        new = jnp.asarray(loss, state.best.dtype)
        # A comparison with NaN is false, so that NaN stalls.
        # sign(best) makes the bound lower than best for negative losses too.
        threshold = knobs["threshold"] * jnp.sign(state.best)
        bound = state.best * (1 - threshold)
        better = new < bound
        # Epochs of the cooldown do not count as stalled.
        resets = better | (state.waiting > 0)
        stalled = jnp.where(resets, 0, state.stalled + 1)
        reduces = stalled.astype(new.dtype) > knobs["patience"]
        reduced = state.share * knobs["factor"]
        reduced = jnp.maximum(reduced, knobs["floor"])
        cooldown = knobs["cooldown"].astype(jnp.int32)
        return state._replace(
            # replace_states stops at the outermost plateau; others may be inside of it.
            inner=observe_loss(state.inner, loss),
            share=jnp.where(reduces, reduced, state.share),
            best=jnp.where(better, new, state.best),
            stalled=jnp.where(reduces, 0, stalled),
            waiting=jnp.where(reduces, cooldown, jnp.maximum(state.waiting - 1, 0)),
        )

    return replace_states(opt_state, PlateauState, observe)


def has_plateau(opt_state: OptState) -> bool:
    """Whether part of the state needs the validation loss."""
    return bool(find_states(opt_state, PlateauState))
