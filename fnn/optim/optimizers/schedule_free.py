"""Schedule-free optimizers, which average the parameters in place of lowering the rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.optimizers.adam import bias_correction
from fnn.optim.optimizers.descent import sgd
from fnn.optim.per_parameter import (
    divide_where,
    expect_floats,
    per_parameter,
    root,
    running_mean,
    wide_copy,
    widen,
    zeros,
)
from fnn.types import Number, Optimizer, OptState, Params, Rate, Scalar
from fnn.values import maker


class ScheduleFreeState(NamedTuple):
    """The state of `schedule_free_sgd` and `schedule_free_adamw`.

    Attributes:
        inner: The state of the optimizer of z.
        fast: The fast parameters z, a pytree like params.
        total: The sum Σ w of the weights so far.
        largest: The largest rate so far.
        lean: The b1 with which the last step computed y; 1 before the first one, where y is z.
    """

    inner: OptState
    fast: Params
    total: Scalar
    largest: Scalar
    lean: Scalar

    def averaged(self, params: Params) -> Params:
        """The average x = (y - (1 - b1) z) / b1, where y are the params."""

        def average(y: Array, z: Array) -> Array:
            x = _average(y, z, self.lean.astype(z.dtype))
            return x.astype(jnp.result_type(y))

        return jax.tree.map(average, params, self.fast)


@maker
def schedule_free_sgd(rate: Rate, *, b1: Number = 0.9, power: Number = 2.0) -> Optimizer:
    """Schedule-free SGD: gradient descent on z, with gradients taken between z and its average x.

    y = b1 x + (1 - b1) z, z <- z - rate g(y), x <- (1 - c) x + c z with c = w / Σ w and
    w = (largest rate so far)^power. The params are y. x is for evaluation: `averaged_params` reads
    it, and `train.run` validates with it [Defazio et al. 2024, arXiv:2405.15682].

    Args:
        rate: A number >= 0, or a schedule with a warm-up but without a decay.
        b1: Weight of the average in y, in (0, 1]. It acts as momentum.
        power: How much steps with small rates count less in the average, >= 0; 0 for a plain mean.
    """
    return _schedule_free("schedule_free_sgd", sgd(rate), b1, power)


@maker
def schedule_free_adamw(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    power: Number = 2.0,
) -> Optimizer:
    """Schedule-free AdamW: as `schedule_free_sgd`, with AdamW's step without its first moment.

    z <- z - rate (g / (√ŝ + eps) + weight_decay y) with ŝ of Adam. The average replaces the first
    moment [Defazio et al. 2024, arXiv:2405.15682].

    Args:
        rate: A number >= 0, or a schedule with a warm-up but without a decay.
        b1: Weight of the average in y, in (0, 1]. It acts as momentum.
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0.
        weight_decay: Share of y that a rate of 1 subtracts, >= 0.
        power: How much steps with small rates count less in the average, >= 0; 0 for a plain mean.
    """
    checks.number("schedule_free_adamw b2", b2, "[0, 1)")
    checks.number("schedule_free_adamw eps", eps, "(0, inf)")
    checks.number("schedule_free_adamw weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, s, h):
        # p is y, at which the gradient was taken; the update is added to z.
        s = running_mean(h.b2, s, jnp.square(g))
        divisor = root(s / h.weight2) + h.eps
        u = g / divisor + h.weight_decay * p
        return -h.rate * u, s

    fast = per_parameter(
        "schedule_free_adamw",
        rule,
        rate,
        slots=zeros("square"),
        per_step={"weight2": lambda t: bias_correction(b2, t)},
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
    )
    return _schedule_free("schedule_free_adamw", fast, b1, power)


def _schedule_free(name: str, fast: Optimizer, b1: Number, power: Number) -> Optimizer:
    """Make the schedule-free form of an optimizer, which moves z."""
    checks.number(f"{name} b1", b1, "(0, 1]")
    checks.number(f"{name} power", power, "[0, inf)")

    def init(params: Params) -> ScheduleFreeState:
        expect_floats(f"{name} params", params)
        z = wide_copy(params)
        return ScheduleFreeState(
            inner=fast.init(z),
            fast=z,
            # Separate arrays, since JAX donates no buffer twice.
            total=jnp.zeros(()),
            largest=jnp.zeros(()),
            lean=jnp.ones((), jnp.result_type(float)),
        )

    def update(
        grads: Params,
        opt_state: ScheduleFreeState,
        params: Params,
        **_: Any,
    ) -> tuple[Params, ScheduleFreeState]:
        trees.expect_like(f"{name} grads", grads, params)
        # z and its optimizer are in float32 or wider, also for params in half precision.
        wide_grads = jax.tree.map(widen, grads)
        wide_params = jax.tree.map(widen, params)
        changes, inner = fast.update(wide_grads, opt_state.inner, wide_params)

        # c = w / Σ w. While all rates have been 0, as at the
        # start of a warm-up, the weight is 0 for any power.
        largest = jnp.maximum(opt_state.largest, inner.rate)
        positive = largest > 0
        safe_largest = jnp.where(positive, largest, 1)
        weight = safe_largest ** trees.knob(power, largest)
        weight = jnp.where(positive, weight, 0)
        total = opt_state.total + weight
        share = divide_where(positive, weight, total, 0)

        new_z = jax.tree.map(jnp.add, opt_state.fast, changes)
        lean = jnp.asarray(b1, opt_state.lean.dtype)

        def change_of(y: Array, z: Array, new_z: Array) -> Array:
            c = share.astype(z.dtype)
            # x is not kept: y and z determine it, with the b1 of the step that computed y.
            x = _average(y, z, opt_state.lean.astype(z.dtype))
            x = (1 - c) * x + c * new_z
            new_y = running_mean(lean.astype(z.dtype), x, new_z)
            return (new_y - widen(y)).astype(jnp.result_type(y))

        updates = jax.tree.map(change_of, params, opt_state.fast, new_z)
        return updates, ScheduleFreeState(inner, new_z, total, largest, lean)

    return Optimizer(init, update)


def _average(y: Array, z: Array, b1: Array) -> Array:
    """Solve y = b1 x + (1 - b1) z for x."""
    return (widen(y) - (1 - b1) * z) / b1
