"""Sophia: momentum over a running estimate of the Hessian's diagonal."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import (
    expect_floats,
    require_value_fn,
    running_mean,
    wide_zeros,
    widen,
)
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, RandomKey, Rate, Scalar, Step
from fnn.values import maker


class SophiaState(NamedTuple):
    """The state of `sophia`.

    Attributes:
        step: The number of steps made.
        rate: The rate of the last step.
        mean: The running mean m of the gradient, a pytree like params.
        curvature: The running mean h of the Hessian's diagonal, a pytree like params.
    """

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
    """Sophia: Newton steps by a diagonal Hessian, clipped per number.

    m <- b1 m + (1 - b1) g, θ <- θ - rate (clip(m / max(scale h, eps), -1, 1) + weight_decay θ).
    Every `every` steps, beginning with the first, h <- b2 h + (1 - b2) u ⊙ Hu: Hutchinson's
    estimate of the diagonal on this batch, with u of random signs. It calls `value_fn`, which
    `train.run` gives [Liu et al. 2023, arXiv:2305.14342].

    Args:
        key: A key from jax.random.key, which all random signs follow from.
        rate: A number >= 0, or a schedule.
        b1: Decay of m, in [0, 1).
        b2: Decay of h, in [0, 1); the paper's value.
        scale: Factor of h, > 0. Smaller values clip more of the steps.
        eps: Least divisor, > 0, where the curvature is 0 or negative.
        weight_decay: Share of θ that a rate of 1 subtracts, >= 0.
        every: Steps between two estimates, >= 1; 10 in the paper.

    Raises:
        ConfigError: A number is out of range, or, at an update, there is no `value_fn`.
        DTypeError: `key` is not a key.
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
        return SophiaState(
            step=jnp.zeros((), jnp.int32),
            rate=jnp.zeros(()),
            # Separate arrays, since JAX donates no buffer twice.
            mean=wide_zeros(params),
            curvature=wide_zeros(params),
        )

    def update(
        grads: Params,
        opt_state: SophiaState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, SophiaState]:
        trees.expect_like("sophia grads", grads, params)
        value_fn = require_value_fn("sophia", extra)
        # Kept in the state for `history.rate`.
        now = jnp.asarray(schedule(opt_state.step), opt_state.rate.dtype)

        def estimate(curvature: Params) -> Params:
            # The key follows from the step, so that a resumed run draws the same signs.
            signs = _random_signs(jax.random.fold_in(key, opt_state.step), params)
            # Hu is the derivative of the gradient in the direction u: no Hessian is formed.
            grad_fn = jax.grad(value_fn)
            _, products = jax.jvp(grad_fn, (params,), (signs,))

            def one(h: Array, u: Array, hu: Array) -> Array:
                return _running_mean(b2, h, widen(u) * widen(hu))

            return jax.tree.map(one, curvature, signs, products)

        due = opt_state.step % every == 0
        # A branch, so that the Hessian-vector product is computed only when due.
        curvature = jax.lax.cond(due, estimate, lambda h: h, opt_state.curvature)

        def next_mean(m: Array, g: Array) -> Array:
            return _running_mean(b1, m, widen(g))

        mean = jax.tree.map(next_mean, opt_state.mean, grads)

        def change(p: Array, m: Array, h: Array) -> Array:
            wide = widen(p)
            scaled = trees.knob(scale, wide) * h
            # Where h is negative the step is the sign of m.
            divisor = jnp.maximum(scaled, trees.knob(eps, wide))
            clipped = jnp.clip(m / divisor, -1, 1)
            u = clipped + trees.knob(weight_decay, wide) * wide
            return (-now.astype(wide.dtype) * u).astype(jnp.result_type(p))

        updates = jax.tree.map(change, params, mean, curvature)
        return updates, SophiaState(opt_state.step + 1, now, mean, curvature)

    return Optimizer(init, update)


def _running_mean(decay: Number, mean: Array, new: Array) -> Array:
    return running_mean(trees.knob(decay, mean), mean, new)


def _random_signs(key: RandomKey, params: Params) -> Params:
    """Draw -1 or 1 for each number of the params."""
    leaves, structure = jax.tree.flatten(params)
    signs = []
    for i, p in enumerate(leaves):
        # A key per leaf: with one key, leaves of equal shape would have equal signs.
        leaf_key = jax.random.fold_in(key, i)
        signs.append(jax.random.rademacher(leaf_key, jnp.shape(p), jnp.result_type(p)))
    return jax.tree.unflatten(structure, signs)
