"""Gradients that are not finite: skipped steps and loss scaling."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import DTypeError
from fnn.optim.per_parameter import widen
from fnn.optim.transform import (
    at_least,
    expect_unscaled,
    find_states,
    last_rate,
    leave_frozen_out,
    replace_states,
    zero_updates,
)
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class SkipState(NamedTuple):
    """The state of `skip_nonfinite`.

    Attributes:
        inner: The state of the optimizer.
        rate: The rate of this step, 0 where it is skipped; None if the optimizer has no rate.
        skipped: The number of skipped steps.
        in_a_row: The number of skipped steps since the last finite one.
    """

    inner: OptState
    rate: Scalar | None
    skipped: Step
    in_a_row: Step


@maker
def skip_nonfinite(optimizer: Optimizer) -> Optimizer:
    """Skip each step whose gradients or updates are not finite.

    A skipped step changes neither the parameters nor the state of the optimizer; it is counted. In
    `train.run`, use on_nonfinite="skip", which also checks the loss and the state of the network.

    Args:
        optimizer: An optimizer, of fnn or of another library.

    Raises:
        ConfigError: `optimizer` is not an optimizer.
    """

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> SkipState:
            # Two arrays, since JAX donates no buffer twice.
            inner_state = inner.init(params)
            return SkipState(
                inner=inner_state,
                rate=last_rate(inner_state),
                skipped=jnp.zeros((), jnp.int32),
                in_a_row=jnp.zeros((), jnp.int32),
            )

        def update(
            grads: Params,
            opt_state: SkipState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, SkipState]:
            updates, inner_state, finite = update_if_finite(
                inner, grads, opt_state.inner, params, **extra
            )
            skipped = opt_state.skipped + jnp.where(finite, 0, 1)
            in_a_row = jnp.where(finite, 0, opt_state.in_a_row + 1)
            rate = _rate_if(finite, inner_state)
            return updates, SkipState(inner_state, rate, skipped, in_a_row)

        return Optimizer(init, update)

    return leave_frozen_out("skip_nonfinite", wrap, optimizer)


def update_if_finite(
    optimizer: Optimizer,
    grads: Params,
    opt_state: OptState,
    params: Params,
    **extra: Any,
) -> tuple[Params, OptState, Array]:
    """Update, unless gradients or updates are not finite.

    Returns:
        The updates (0 if not finite), the new state (the
        old one if not finite), and whether all were finite.
    """
    finite_grads = trees.all_finite(grads)
    # The optimizer is never given other gradients: NaN in a result that is not selected would still
    # reach gradients through training.
    safe_grads = trees.select(finite_grads, grads, zero_updates(grads))
    updates, new_state = optimizer.update(safe_grads, opt_state, params, **extra)
    finite = finite_grads & trees.all_finite(updates)
    updates = trees.select(finite, updates, zero_updates(params))
    return updates, trees.select(finite, new_state, opt_state), finite


def _rate_if(finite: Array, opt_state: OptState) -> Scalar | None:
    """The rate of a step, 0 if it is not made, so that nothing decays in it; None without one."""
    rate = last_rate(opt_state)
    return None if rate is None else jnp.where(finite, rate, 0)


class LossScaleState(NamedTuple):
    """The state of `loss_scale`.

    Attributes:
        inner: The state of the optimizer.
        rate: The rate of this step, 0 where it is skipped; None if the optimizer has no rate.
        scale: The factor of the loss.
        finite_steps: The number of finite steps since the scale last changed.
        backoff: The factor of the scale after an overflow, which `back_off_scale` is not given. An
            update does not read it; it writes that of its optimizer.
    """

    inner: OptState
    rate: Scalar | None
    scale: Scalar
    finite_steps: Step
    backoff: Scalar

    def scaled(self, loss: Scalar) -> Scalar:
        """The loss times the scale."""
        return loss * self.scale.astype(loss.dtype)


@maker
def loss_scale(
    optimizer: Optimizer,
    scale: Number = 2.0**16,
    *,
    growth: Number = 2.0,
    backoff: Number = 0.5,
    steps: Number = 2000,
) -> Optimizer:
    """Dynamic loss scaling: take gradients of the loss times a scale, and divide them by it.

    Gradients that are not finite change only the scale, which is multiplied by `backoff`. After
    `steps` finite steps in a row it is multiplied by `growth`. `train.run` multiplies the loss, and
    needs on_nonfinite="skip"; in your own loop take the gradient of `scale_loss(opt_state, loss)`.
    Wrap it around transforms that change gradients [Micikevicius et al. 2018, arXiv:1710.03740].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        scale: The first scale, > 0; as in torch.
        growth: Factor after `steps` finite steps, >= 1. With 1 for both factors, scaling is static.
        backoff: Factor after an overflow, in (0, 1].
        steps: Finite steps in a row before the scale grows, >= 1; as in torch.

    Raises:
        ConfigError: A number is out of range, or `optimizer`
            is not an optimizer or scales the loss.
        DTypeError: Params are float16, where true gradients
            would underflow; `nn.cast` keeps them in float32.
    """
    checks.number("loss_scale scale", scale, "(0, inf)")
    checks.number("loss_scale growth", growth, "[1, inf)")
    checks.number("loss_scale backoff", backoff, "(0, 1]")
    checks.number("loss_scale steps", steps, "[1, inf)")

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> LossScaleState:
            _expect_not_float16(params)
            floats = jnp.result_type(float)
            inner_state = expect_unscaled("loss_scale optimizer", inner.init(params))
            return LossScaleState(
                inner=inner_state,
                rate=last_rate(inner_state),
                scale=jnp.asarray(scale, floats),
                finite_steps=jnp.zeros((), jnp.int32),
                backoff=jnp.asarray(backoff, floats),
            )

        def update(
            grads: Params,
            opt_state: LossScaleState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, LossScaleState]:
            def unscale(g: Array) -> Array:
                # A scale of 2¹⁶ is infinite in float16, so the division is in float32.
                wide = widen(g)
                return (wide / opt_state.scale.astype(wide.dtype)).astype(g.dtype)

            true_grads = jax.tree.map(unscale, grads)
            # The keyword holds the same gradients, which must be unscaled too.
            if "grad" in extra:
                extra["grad"] = true_grads
            updates, inner_state, finite = update_if_finite(
                inner, true_grads, opt_state.inner, params, **extra
            )
            # In a resumed run it may differ from that in the state.
            factor = jnp.asarray(backoff, opt_state.backoff.dtype)
            opt_state = opt_state._replace(backoff=factor)
            # Used only if this step is finite; else back_off_scale resets the count.
            count = opt_state.finite_steps + 1
            due = at_least(count, steps)
            larger = opt_state.scale * trees.knob(growth, opt_state.scale)
            # It must not grow to inf, which no backoff would lower again.
            grows = due & jnp.isfinite(larger)
            after_finite = opt_state._replace(
                scale=jnp.where(grows, larger, opt_state.scale),
                finite_steps=jnp.where(due, 0, count),
            )
            # The inner state is selected already by update_if_finite.
            new_state = trees.select(finite, after_finite, back_off_scale(opt_state))
            rate = _rate_if(finite, inner_state)
            return updates, new_state._replace(inner=inner_state, rate=rate)

        return Optimizer(init, update)

    return leave_frozen_out("loss_scale", wrap, optimizer)


def scale_loss(opt_state: OptState, loss: Scalar) -> Scalar:
    """Multiply the loss by the scale of a `loss_scale` in the optimizer state.

    Args:
        opt_state: The state of any optimizer. Without a `loss_scale` in it, the loss is returned.
        loss: The loss of the batch.

    Returns:
        The scaled loss, whose gradient is the one to give to the optimizer.
    """
    for state in find_states(opt_state, LossScaleState):
        loss = state.scaled(loss)
    return loss


def has_loss_scale(opt_state: OptState) -> bool:
    """Whether part of the state scales the loss."""
    return bool(find_states(opt_state, LossScaleState))


def back_off_scale(opt_state: OptState) -> OptState:
    """Lower the scale of each `loss_scale` in the optimizer state, as after an overflow.

    Args:
        opt_state: The state of any optimizer, from before the step that was skipped.
    """

    def lower(state: LossScaleState) -> LossScaleState:
        # Never 0, which would make all gradients NaN.
        least = jnp.finfo(state.scale.dtype).tiny
        return state._replace(
            scale=jnp.maximum(state.scale * state.backoff, least),
            # The count of finite steps in a row begins again.
            finite_steps=jnp.zeros_like(state.finite_steps),
        )

    return replace_states(opt_state, LossScaleState, lower)


def skipped_state(before: OptState, after: OptState) -> OptState:
    """The optimizer state after a skipped step: that before it, with lower loss scales.

    Args:
        before: The state before the step.
        after: The state that the step computed, which has the `backoff` of the optimizer.
    """
    factors = iter([state.backoff for state in find_states(after, LossScaleState)])

    def take_factor(state: LossScaleState) -> LossScaleState:
        return state._replace(backoff=next(factors))

    return back_off_scale(replace_states(before, LossScaleState, take_factor))


def _expect_not_float16(params: Params) -> None:
    for path, leaf in trees.named_leaves(params).items():
        if jnp.result_type(leaf) == jnp.float16:
            advice = "keep them in float32, as nn.cast(network) does"
            raise DTypeError(f"loss_scale params {path}", "float32", "float16", advice)
