"""Newton's steps by what the last gradients tell of the curvature: L-BFGS."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.optimizers.line_search import strong_wolfe
from fnn.optim.per_parameter import expect_floats, value_function
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, Rate, Scalar, Step
from fnn.values import maker


class LbfgsState(NamedTuple):
    """Steps made, the length of the last one, and as rows the last moves and changes of gradient, oldest first."""

    step: Step
    rate: Scalar
    moves: jax.Array
    changes: jax.Array
    params: jax.Array
    grads: jax.Array


@maker
def lbfgs(
    rate: Rate | None = None,
    *,
    memory: int = 10,
    sufficient: Number = 1e-4,
    curvature: Number = 0.9,
) -> Optimizer:
    """Steps along -H⁻¹g, H⁻¹ made of the last moves s and changes of gradient y by the two-loop recursion.

    H⁻¹ begins as sᵀy / yᵀy I; pairs with sᵀy <= 0 are left out. The length of a step is the rate, or, if none is given,
    what a line search finds by value_fn: f(θ + a d) <= f + sufficient a gᵀd and |slope| <= curvature |gᵀd|, from a = 1,
    or 1 / |g| at first. For losses without noise. The search is a loop of open length, so that derivatives through it
    are taken forward only. ConfigError unless 0 < sufficient < curvature < 1 [Liu & Nocedal 1989; Nocedal & Wright
    2006, algorithms 7.4, 3.5, 3.6].
    """
    schedule = None if rate is None else as_schedule("lbfgs", rate)
    checks.whole("lbfgs memory", memory)
    checks.number("lbfgs sufficient", sufficient, "(0, 0.5)")
    checks.number("lbfgs curvature", curvature, "(0, 1)")
    if checks.is_concrete(sufficient) and checks.is_concrete(curvature) and sufficient >= curvature:
        advice = "as in sufficient=1e-4, curvature=0.9"
        raise ConfigError(
            "lbfgs curvature", f"more than sufficient={sufficient}", curvature, advice
        )

    def init(params: Params) -> LbfgsState:
        expect_floats("lbfgs params", params)
        flat, _ = ravel_pytree(params)
        rows = jnp.zeros((memory, *flat.shape), flat.dtype)
        return LbfgsState(
            jnp.zeros((), jnp.int32),
            jnp.zeros(()),
            rows,
            rows,
            jnp.zeros_like(flat),
            jnp.zeros_like(flat),
        )

    def update(
        grads: Params, opt_state: LbfgsState, params: Params, **extra: Any
    ) -> tuple[Params, LbfgsState]:
        trees.expect_like("lbfgs grads", grads, params)
        (point, unravel), (g, _) = ravel_pytree(params), ravel_pytree(grads)
        state = _remembered(opt_state, point, g)
        direction = -_two_loops(state, g)
        steep = jnp.vdot(g, direction)
        direction = jnp.where(steep < 0, direction, -g)  # rounding may have turned it
        if schedule is None:
            value_fn = value_function("lbfgs", extra)

            def along(length: Scalar) -> tuple[Scalar, Scalar]:
                return jax.jvp(
                    lambda a: value_fn(unravel(point + a * direction)),
                    (length,),
                    (jnp.ones_like(length),),
                )

            size = jnp.sqrt(jnp.vdot(g, g))
            first = jnp.where(
                opt_state.step == 0, jnp.minimum(1, 1 / jnp.where(size > 0, size, 1)), 1
            )
            numbers = (jnp.asarray(number, g.dtype) for number in (sufficient, curvature))
            length = strong_wolfe(
                along, first.astype(g.dtype), value_fn(params), jnp.vdot(g, direction), *numbers
            )
        else:
            length = jnp.asarray(schedule(opt_state.step), g.dtype)
        told = length.astype(opt_state.rate.dtype)
        return unravel(length * direction), state._replace(
            step=opt_state.step + 1, rate=told, params=point, grads=g
        )

    return Optimizer(init, update)


def _remembered(state: LbfgsState, point: jax.Array, g: jax.Array) -> LbfgsState:
    """With the last move and what it changed, if it saw a valley."""
    move, change = point - state.params, g - state.grads
    bent = jnp.vdot(move, change)
    seen = (state.step > 0) & (bent > jnp.finfo(bent.dtype).eps * jnp.vdot(change, change))
    moves, changes = (
        jnp.where(seen, jnp.vstack([rows[1:], row]), rows)
        for rows, row in ((state.moves, move), (state.changes, change))
    )
    return state._replace(moves=moves, changes=changes)


def _two_loops(state: LbfgsState, g: jax.Array) -> jax.Array:
    """H⁻¹ g; rows of zeros count for nothing."""
    bent = (state.moves * state.changes).sum(1)
    known = bent > 0
    inverse = jnp.where(known, 1 / jnp.where(known, bent, 1), 0)
    shares = []
    for row in reversed(range(len(bent))):
        shares.append(inverse[row] * jnp.vdot(state.moves[row], g))
        g = g - shares[-1] * state.changes[row]
    newest = jnp.vdot(state.changes[-1], state.changes[-1])
    r = jnp.where(known[-1], bent[-1] / jnp.where(newest > 0, newest, 1), 1) * g
    for row, share in zip(range(len(bent)), reversed(shares), strict=True):
        r = r + (share - inverse[row] * jnp.vdot(state.changes[row], r)) * state.moves[row]
    return r
