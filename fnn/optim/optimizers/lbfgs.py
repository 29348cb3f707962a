"""L-BFGS: Newton's method with the curvature estimated from the last steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.optimizers.line_search import strong_wolfe
from fnn.optim.per_parameter import divide_where, expect_floats, require_value_fn, widen
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, Rate, Scalar, Step
from fnn.values import maker


class LbfgsState(NamedTuple):
    """The state of `lbfgs`. Arrays hold all parameters as one vector of length n.

    They are in float32 or wider.

    Attributes:
        step: The number of steps made.
        rate: The length of the last step, as a factor of its direction.
        moves: The last changes s of the params (memory, n), oldest first; unused rows are 0.
        changes: The changes y of the gradient that belong to them (memory, n).
        params: The params before the last step (n,).
        grads: The gradient before the last step (n,).
    """

    step: Step
    rate: Scalar
    moves: Array
    changes: Array
    params: Array
    grads: Array


@maker
def lbfgs(
    rate: Rate | None = None,
    *,
    memory: int = 10,
    sufficient: Number = 1e-4,
    curvature: Number = 0.9,
) -> Optimizer:
    """L-BFGS: steps along -H⁻¹g, with H⁻¹ from the last changes of params and gradients.

    H⁻¹ g is computed by the two-loop recursion from the last changes s of the params and y of the
    gradient. It begins as sᵀy / yᵀy I, and pairs with sᵀy <= 0 are left out. Without a rate, a line
    search along d finds a length a with f(θ + a d) <= f + sufficient a gᵀd and |slope| <= curvature
    |gᵀd|. It calls `value_fn`, which `train.run` gives. For losses without noise. The search is a
    loop of open length, so that derivatives through it are forward-mode only [Liu & Nocedal 1989;
    Nocedal & Wright 2006, algorithms 7.4, 3.5, 3.6].

    Args:
        rate: The length of steps, a number >= 0 or a schedule; None for the line search.
        memory: The number of pairs (s, y) that are kept, >= 1.
        sufficient: Least share of the expected decrease, in
            (0, 0.5) and below `curvature`; the books' value.
        curvature: Largest share of the slope that is left, in
            (0, 1); the books' value for quasi-Newton methods.

    Raises:
        ConfigError: A number is out of range, or, at an
            update without a rate, there is no `value_fn`.
    """
    schedule = None if rate is None else as_schedule("lbfgs", rate)
    checks.whole("lbfgs memory", memory)
    checks.number("lbfgs sufficient", sufficient, "(0, 0.5)")
    checks.number("lbfgs curvature", curvature, "(0, 1)")
    are_known = checks.is_concrete(sufficient) and checks.is_concrete(curvature)
    if are_known and sufficient >= curvature:
        expected = f"more than sufficient={sufficient}"
        advice = "as in sufficient=1e-4, curvature=0.9"
        raise ConfigError("lbfgs curvature", expected, curvature, advice)

    def init(params: Params) -> LbfgsState:
        expect_floats("lbfgs params", params)
        flat = _as_vector(params)
        return LbfgsState(
            step=jnp.zeros((), jnp.int32),
            rate=jnp.zeros(()),
            # Separate arrays, since JAX donates no buffer twice.
            moves=jnp.zeros((memory, *flat.shape), flat.dtype),
            changes=jnp.zeros((memory, *flat.shape), flat.dtype),
            params=jnp.zeros_like(flat),
            grads=jnp.zeros_like(flat),
        )

    def update(
        grads: Params,
        opt_state: LbfgsState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, LbfgsState]:
        trees.expect_like("lbfgs grads", grads, params)
        flat_params = _as_vector(params)
        g = _as_vector(grads)
        _, unravel_wide = ravel_pytree(jax.tree.map(widen, params))

        def unravel(vector: Array) -> Params:
            parts = unravel_wide(vector)
            return jax.tree.map(lambda p, part: part.astype(jnp.result_type(p)), params, parts)

        # The pair of the last step is complete only now, with the gradient at its end.
        state = _append_pair(opt_state, flat_params, g)
        d = -_two_loops(state, g)
        # By rounding, -H⁻¹g may point uphill; then it is replaced by -g.
        descends = jnp.vdot(g, d) < 0
        d = jnp.where(descends, d, -g)
        if schedule is None:
            value_fn = require_value_fn("lbfgs", extra)

            def along(length: Scalar) -> tuple[Scalar, Scalar]:
                """The value at θ + length d, and its slope by length."""

                def value_at(a: Scalar) -> Scalar:
                    return value_fn(unravel(flat_params + a * d))

                return jax.jvp(value_at, (length,), (jnp.ones_like(length),))

            # The curvature is not known yet, so the first trial step has a norm of at most 1.
            g_norm = jnp.sqrt(jnp.vdot(g, g))
            safe_norm = jnp.where(g_norm > 0, g_norm, 1)
            short = jnp.minimum(1, 1 / safe_norm)
            first = jnp.where(opt_state.step == 0, short, 1)
            length = strong_wolfe(
                along,
                first.astype(g.dtype),
                value_fn(params),
                jnp.vdot(g, d),
                jnp.asarray(sufficient, g.dtype),
                jnp.asarray(curvature, g.dtype),
            )
        else:
            # A fixed length needs no evaluation of the loss.
            length = jnp.asarray(schedule(opt_state.step), g.dtype)
        new_state = state._replace(
            step=opt_state.step + 1,
            rate=length.astype(opt_state.rate.dtype),
            params=flat_params,
            grads=g,
        )
        return unravel(length * d), new_state

    return Optimizer(init, update)


def _as_vector(tree: Params) -> Array:
    """Join all arrays to one vector, in float32 or wider."""
    vector, _ = ravel_pytree(jax.tree.map(widen, tree))
    # Not the buffer of a single vector of params, which may be donated.
    return jnp.array(vector)


def _append_pair(state: LbfgsState, params: Array, g: Array) -> LbfgsState:
    """Append the last change of params and gradient, if the curvature along it is positive."""
    s = params - state.params
    y = g - state.grads
    sy = jnp.vdot(s, y)
    # Before the first step there is no pair. A product below rounding would make 1 / sᵀy huge.
    rounding = jnp.finfo(sy.dtype).eps * jnp.vdot(y, y)
    valid = (state.step > 0) & (sy > rounding)
    # (memory, n): the oldest row leaves, the newest comes last.
    moves = jnp.vstack([state.moves[1:], s])
    changes = jnp.vstack([state.changes[1:], y])
    return state._replace(
        moves=jnp.where(valid, moves, state.moves),
        changes=jnp.where(valid, changes, state.changes),
    )


def _two_loops(state: LbfgsState, g: Array) -> Array:
    """H⁻¹ g by algorithm 7.4; rows of 0 have no effect."""
    sy = (state.moves * state.changes).sum(1)  # (memory,)
    used = sy > 0
    rho = divide_where(used, 1, sy, 0)
    memory = len(sy)
    # From the newest pair to the oldest.
    alphas: list[Array] = []
    for i in reversed(range(memory)):
        alpha = rho[i] * jnp.vdot(state.moves[i], g)
        g = g - alpha * state.changes[i]
        alphas.append(alpha)
    # The first H⁻¹ is a multiple of I: sᵀy / yᵀy of the newest pair, or 1 without one.
    newest = state.changes[-1]
    yy = jnp.vdot(newest, newest)
    safe_yy = jnp.where(yy > 0, yy, 1)
    first = sy[-1] / safe_yy
    r = jnp.where(used[-1], first, 1) * g
    # From the oldest pair to the newest.
    for i, alpha in zip(range(memory), reversed(alphas), strict=True):
        beta = rho[i] * jnp.vdot(state.changes[i], r)
        step = alpha - beta
        r = r + step * state.moves[i]
    return r
