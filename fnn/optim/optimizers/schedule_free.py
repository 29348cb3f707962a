"""Averages that make a schedule needless."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.optimizers.adam import weight
from fnn.optim.optimizers.descent import sgd
from fnn.optim.per_parameter import expect_floats, lift, root, widened, zeros
from fnn.types import Number, Optimizer, OptState, Params, Rate, Scalar
from fnn.values import maker


class ScheduleFreeState(NamedTuple):
    """The fast parameters z, and what the weights of the average are made of."""

    inner: OptState
    fast: Params
    total: Scalar
    largest: Scalar
    lean: Scalar

    def averaged(self, params: Params) -> Params:
        """The average x = (y - (1 - b1) z) / b1."""

        def one(y: jax.Array, z: jax.Array) -> jax.Array:
            lean = self.lean.astype(z.dtype)
            return ((widened(y) - (1 - lean) * z) / lean).astype(y.dtype)

        return jax.tree.map(one, params, self.fast)


@maker
def schedule_free_sgd(rate: Rate, *, b1: Number = 0.9, power: Number = 2.0) -> Optimizer:
    """Gradient descent on z, with gradients taken between z and its average: y = b1 x + (1 - b1) z.

    z <- z - rate g(y), x <- (1 - c) x + c z, c = w / Σ w with w = (largest rate so far)^power. The params are y; x, for
    evaluation, is what `averaged` gives and what `train.run` validates. Give the rate a warm-up, but no decay.
    ConfigError unless 0 < b1 <= 1 and power >= 0 [Defazio et al. 2024, arXiv:2405.15682].
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
    """The same with AdamW's step without its momentum, z <- z - rate (g / (√ŝ + eps) + weight_decay y).

    The average takes the place of the momentum; ŝ is Adam's. For the rest see schedule_free_sgd.
    """
    checks.number("schedule_free_adamw b2", b2, "[0, 1)")
    checks.number("schedule_free_adamw eps", eps, "(0, inf)")
    checks.number("schedule_free_adamw weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, s, rate, t, b2, eps, weight_decay, w2):
        s = b2 * s + (1 - b2) * jnp.square(g)
        return -rate * (g / (root(s / w2) + eps) + weight_decay * p), s

    knobs = {"b2": b2, "eps": eps, "weight_decay": weight_decay}
    fast = lift(
        "schedule_free_adamw",
        rule,
        rate,
        slots=zeros("square"),
        timed={"w2": lambda t: weight(b2, t)},
        **knobs,
    )
    return _schedule_free("schedule_free_adamw", fast, b1, power)


def _schedule_free(name: str, fast: Optimizer, b1: Number, power: Number) -> Optimizer:
    """The optimizer as that of z."""
    checks.number(f"{name} b1", b1, "(0, 1]")
    checks.number(f"{name} power", power, "[0, inf)")

    def init(params: Params) -> ScheduleFreeState:
        expect_floats(f"{name} params", params)
        begin = jax.tree.map(
            lambda p: jnp.array(widened(p)), params
        )  # a copy, for the params may be donated
        none, floats = jnp.zeros(()), jnp.result_type(float)
        return ScheduleFreeState(fast.init(begin), begin, none, none, jnp.asarray(b1, floats))

    def update(
        grads: Params, opt_state: ScheduleFreeState, params: Params, **_: Any
    ) -> tuple[Params, ScheduleFreeState]:
        trees.expect_like(f"{name} grads", grads, params)
        wide_grads, wide_params = (jax.tree.map(widened, tree) for tree in (grads, params))
        changes, own = fast.update(wide_grads, opt_state.inner, wide_params)
        largest = jnp.maximum(opt_state.largest, own.rate)
        counted = largest > 0
        gain = jnp.where(counted, jnp.where(counted, largest, 1) ** trees.knob(power, largest), 0)
        total = opt_state.total + gain
        share = jnp.where(counted, gain / jnp.where(counted, total, 1), 0)

        def one(y: jax.Array, z: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
            c, lean = share.astype(z.dtype), opt_state.lean.astype(z.dtype)
            x = (widened(y) - (1 - lean) * z) / lean
            after = z + change
            x = (1 - c) * x + c * after
            return (lean * x + (1 - lean) * after - widened(y)).astype(y.dtype), after

        pairs = jax.tree.map(one, params, opt_state.fast, changes)
        updates, moved = jax.tree.transpose(
            jax.tree.structure(params), jax.tree.structure((0, 0)), pairs
        )
        return updates, ScheduleFreeState(own, moved, total, largest, opt_state.lean)

    return Optimizer(init, update)
