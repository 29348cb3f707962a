"""Several steps forward, one back."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.lifting import widened
from fnn.optim.wrapping import extended, reached
from fnn.types import Number, Optimizer, OptState, Params, Step
from fnn.values import maker


class LookaheadState(NamedTuple):
    """The slow parameters, and the steps since they last moved."""

    inner: OptState
    slow: Params
    counted: Step

    def averaged(self, params: Params) -> Params:
        """The slow parameters, which the paper evaluates."""
        return self.slow


@maker
def lookahead(optimizer: Optimizer, *, steps: Number = 5, share: Number = 0.5) -> Optimizer:
    """The optimizer, which after so many steps goes back to a point on the way, and on from there.

    φ <- φ + share (θ - φ), θ <- φ after every so many steps; φ begins at θ. The optimizer's state is kept. `averaged`
    reads φ, and `train.run` validates with it. ConfigError unless steps >= 1 and 0 <= share <= 1
    [Zhang et al. 2019, arXiv:1907.08610].
    """
    inner = extended("lookahead optimizer", optimizer)
    checks.number("lookahead steps", steps, "[1, inf)")
    checks.number("lookahead share", share, "[0, 1]")

    def init(params: Params) -> LookaheadState:
        return LookaheadState(inner.init(params), jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32))

    def update(grads: Params, opt_state: LookaheadState, params: Params, **extra: Any) -> tuple[Params, LookaheadState]:
        updates, own = inner.update(grads, opt_state.inner, params, **extra)
        count = opt_state.counted + 1
        due = reached(count, steps)

        def one(slow: jax.Array, p: jax.Array, u: jax.Array) -> jax.Array:
            slow, fast = widened(slow), widened(p)
            goal = slow + trees.knob(share, slow) * (fast + widened(u) - slow)
            return jnp.where(due, (goal - fast).astype(u.dtype), u)

        updates = jax.tree.map(one, opt_state.slow, params, updates)
        # What the parameters will be to the last bit.
        slow = trees.select(due, jax.tree.map(jnp.add, params, updates), opt_state.slow)
        return updates, LookaheadState(own, slow, jnp.where(due, 0, count))

    return Optimizer(init, update)
