"""Momentum over a running diagonal of the Hessian: Sophia."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import expect_floats, value_function, widened
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, RandomKey, Rate, Scalar, Step
from fnn.values import maker


class SophiaState(NamedTuple):
    """Steps made, the rate of the last one, and the running means of the gradient and of the Hessian's diagonal."""

    step: Step
    rate: Scalar
    mean: Params
    curvature: Params


@maker
def sophia(
    key: RandomKey,
    rate: Rate,
    *,
    b1: Number = 0.965,
    b2: Number = 0.99,
    scale: Number = 0.01,
    eps: Number = 1e-12,
    weight_decay: Number = 0.0,
    every: int = 10,
) -> Optimizer:
    """Newton's steps, cut off: θ <- θ - rate (clip(m / max(scale h, eps), -1, 1) + weight_decay θ).

    m <- b1 m + (1 - b1) g. Every so many steps, the first among them, h <- b2 h + (1 - b2) u ⊙ Hu: Hutchinson's
    estimate of the Hessian's diagonal on this batch, u of random signs. It takes value_fn, as train.run gives it
    [Liu et al. 2023, arXiv:2305.14342].
    """
    checks.key("sophia key", key)
    schedule = as_schedule("sophia", rate)
    checks.number("sophia b1", b1, "[0, 1)")
    checks.number("sophia b2", b2, "[0, 1)")
    checks.number("sophia scale", scale, "(0, inf)")
    checks.number("sophia eps", eps, "(0, inf)")
    checks.number("sophia weight_decay", weight_decay, "[0, inf)")
    checks.whole("sophia every", every)

    def init(params: Params) -> SophiaState:
        expect_floats("sophia params", params)
        zeros = jax.tree.map(lambda p: jnp.zeros_like(widened(p)), params)
        return SophiaState(jnp.zeros((), jnp.int32), jnp.zeros(()), zeros, zeros)

    def update(
        grads: Params, opt_state: SophiaState, params: Params, **extra: Any
    ) -> tuple[Params, SophiaState]:
        trees.expect_like("sophia grads", grads, params)
        value_fn = value_function("sophia", extra)
        now = jnp.asarray(schedule(opt_state.step), opt_state.rate.dtype)

        def looked(curvature: Params) -> Params:
            signs = _signs(jax.random.fold_in(key, opt_state.step), params)
            bent = jax.jvp(jax.grad(value_fn), (params,), (signs,))[1]
            return jax.tree.map(
                lambda h, u, b: _mean(b2, h, widened(u) * widened(b)), curvature, signs, bent
            )

        curvature = jax.lax.cond(
            opt_state.step % every == 0, looked, lambda h: h, opt_state.curvature
        )
        mean = jax.tree.map(lambda m, g: _mean(b1, m, widened(g)), opt_state.mean, grads)

        def one(p: jax.Array, m: jax.Array, h: jax.Array) -> jax.Array:
            wide = widened(p)
            steep = jnp.maximum(trees.knob(scale, wide) * h, trees.knob(eps, wide))
            change = jnp.clip(m / steep, -1, 1) + trees.knob(weight_decay, wide) * wide
            return (-now.astype(wide.dtype) * change).astype(p.dtype)

        updates = jax.tree.map(one, params, mean, curvature)
        return updates, SophiaState(opt_state.step + 1, now, mean, curvature)

    return Optimizer(init, update)


def _mean(decay: Number, mean: jax.Array, new: jax.Array) -> jax.Array:
    decay = trees.knob(decay, mean)
    return decay * mean + (1 - decay) * new


def _signs(key: RandomKey, params: Params) -> Params:
    """Random signs, each leaf's by a key of its own."""
    leaves, structure = jax.tree.flatten(params)
    signs = [
        jax.random.rademacher(jax.random.fold_in(key, place), p.shape, p.dtype)
        for place, p in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, signs)
