"""Steps with gradients that are not finite: skipped, and avoided by loss scaling."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError
from fnn.optim.per_parameter import widened
from fnn.optim.transform import extended, parts, reached, replaced, still, unscaled
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class SkipState(NamedTuple):
    """The steps left out: in all, and in a row just now."""

    inner: OptState
    skipped: Step
    in_a_row: Step


@maker
def skip_nonfinite(optimizer: Optimizer) -> Optimizer:
    """The optimizer, which leaves out a step whose gradient, or whose update, is not finite.

    Such a step changes neither the parameters nor the optimizer's state, however many there are; they are counted.
    `train.run` looks at the loss and the network's state too: there it is on_nonfinite="skip" that leaves a step out.
    """
    inner = extended("skip_nonfinite optimizer", optimizer)

    def init(params: Params) -> SkipState:
        return SkipState(inner.init(params), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(
        grads: Params, opt_state: SkipState, params: Params, **extra: Any
    ) -> tuple[Params, SkipState]:
        updates, own, finite = attempted(inner, grads, opt_state.inner, params, **extra)
        skipped = opt_state.skipped + jnp.where(finite, 0, 1)
        return updates, SkipState(own, skipped, jnp.where(finite, 0, opt_state.in_a_row + 1))

    return Optimizer(init, update)


def attempted(
    optimizer: Optimizer, grads: Params, opt_state: OptState, params: Params, **extra: Any
) -> tuple[Params, OptState, jax.Array]:
    """Updates and state of a step and whether its numbers are finite; if not, of one that changes nothing."""
    given = trees.all_finite(grads)
    # The optimizer never sees others: NaN in what is not chosen would still reach gradients through training.
    safe = trees.select(given, grads, still(grads))
    updates, own = optimizer.update(safe, opt_state, params, **extra)
    finite = given & trees.all_finite(updates)
    return (
        trees.select(finite, updates, still(params)),
        trees.select(finite, own, opt_state),
        finite,
    )


class LossScaleState(NamedTuple):
    """The scale, the finite steps since it last changed, and the factor that an overflow costs."""

    inner: OptState
    scale: Scalar
    finite_steps: Step
    backoff: Scalar

    def scaled(self, loss: Scalar) -> Scalar:
        """The loss to take the gradient of."""
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
    """The optimizer, given gradients / scale, for gradients of scale times the loss.

    Gradients that are not finite change nothing but the scale, which is then multiplied by backoff; after so many
    finite steps in a row it is multiplied by growth. With growth and backoff 1 it is static. `train.run` multiplies
    the loss itself, and wants on_nonfinite="skip"; a loop of one's own takes the gradient of `scale_loss(opt_state, loss)`.
    It goes around what changes gradients. ConfigError for a number out of range, DTypeError for params in float16,
    where the true gradients would vanish again: `nn.cast` keeps them in float32
    [Micikevicius et al. 2018, arXiv:1710.03740].
    """
    inner = extended("loss_scale optimizer", optimizer)
    checks.number("loss_scale scale", scale, "(0, inf)")
    checks.number("loss_scale growth", growth, "[1, inf)")
    checks.number("loss_scale backoff", backoff, "(0, 1]")
    checks.number("loss_scale steps", steps, "[1, inf)")

    def init(params: Params) -> LossScaleState:
        _expect_range(params)
        floats = jnp.result_type(float)
        own = unscaled("loss_scale optimizer", inner.init(params))
        return LossScaleState(
            own, jnp.asarray(scale, floats), jnp.zeros((), jnp.int32), jnp.asarray(backoff, floats)
        )

    def update(
        grads: Params, opt_state: LossScaleState, params: Params, **extra: Any
    ) -> tuple[Params, LossScaleState]:
        true = jax.tree.map(
            lambda g: (widened(g) / opt_state.scale.astype(trees.wide(g))).astype(g.dtype), grads
        )
        if "grad" in extra:
            extra["grad"] = true
        updates, own, finite = attempted(inner, true, opt_state.inner, params, **extra)
        count = opt_state.finite_steps + 1
        larger = opt_state.scale * trees.knob(growth, opt_state.scale)
        due = reached(count, steps)
        stepped = opt_state._replace(
            scale=jnp.where(due & jnp.isfinite(larger), larger, opt_state.scale),
            finite_steps=jnp.where(due, 0, count),
        )
        return updates, trees.select(finite, stepped, back_off_scale(opt_state))._replace(inner=own)

    return Optimizer(init, update)


def scale_loss(opt_state: OptState, loss: Scalar) -> Scalar:
    """The loss times the scale of a `loss_scale` in the optimizer state: what to take the gradient of."""
    for part in _scaling(opt_state):
        loss = part.scaled(loss)
    return loss


def scales(opt_state: OptState) -> bool:
    """Whether any part of the state scales the loss."""
    return bool(_scaling(opt_state))


def back_off_scale(opt_state: OptState) -> OptState:
    """The optimizer state after a step that was left out for its numbers: each `loss_scale` in it is lowered."""

    def lower(part: LossScaleState) -> LossScaleState:
        least = jnp.finfo(part.scale.dtype).tiny  # never 0, which would make all gradients NaN
        return part._replace(
            scale=jnp.maximum(part.scale * part.backoff, least),
            finite_steps=jnp.zeros_like(part.finite_steps),
        )

    return replaced(opt_state, LossScaleState, lower)


def _scaling(opt_state: OptState) -> list[LossScaleState]:
    return parts(opt_state, lambda part: isinstance(part, LossScaleState))


def _expect_range(params: Params) -> None:
    for path, leaf in trees.named_leaves(params).items():
        if jnp.result_type(leaf) == jnp.float16:
            raise DTypeError(
                f"loss_scale params {path}",
                "float32",
                "float16",
                "keep them in float32, as nn.cast(network) does",
            )
