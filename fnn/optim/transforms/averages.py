"""Averages of parameters along a run: exponential moving average and lookahead."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import widened
from fnn.optim.transform import Advance, around, extended, having, reached
from fnn.types import AveragesParams, Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class EmaState(NamedTuple):
    """The mean of the parameters that steps have led to, but for the last, and the weight in it, 1 - decayᵗ."""

    inner: OptState
    begun: jax.Array
    mean: Params
    weight: Scalar
    decay: Scalar

    def averaged_params(self, params: Params) -> Params:
        """The average, these parameters being the last; at the start, the parameters themselves."""
        return jax.tree.map(
            lambda mean, p: mean.astype(p.dtype), self.taken_in(params).mean, params
        )

    def taken_in(self, params: Params) -> "EmaState":
        """The state with these parameters in the mean."""
        weight = self.decay * self.weight + (1 - self.decay)
        share = (1 - self.decay) / weight

        def one(mean: jax.Array, p: jax.Array) -> jax.Array:
            return mean + share.astype(mean.dtype) * (p.astype(mean.dtype) - mean)

        return self._replace(mean=jax.tree.map(one, self.mean, params), weight=weight)


@maker
def ema(optimizer: Optimizer, decay: Number = 0.999, *, debias: bool = True) -> Optimizer:
    """The optimizer, with an exponential moving average of the parameters beside it, for evaluation.

    a <- decay a + (1 - decay) θ after each step, from 0; the average is a / (1 - decayᵗ), so that it does not lean on
    where training began. With debias=False a begins at the first θ and is the average, as in torch. The steps are as
    without; `averaged_params` reads the average, and `train.run` validates with it. ConfigError unless 0 <= decay < 1
    [Polyak & Juditsky 1992; Kingma & Ba 2015, sec. 7.2].
    """
    inner = extended("ema optimizer", optimizer)
    checks.number("ema decay", decay, "[0, 1)")
    checks.flag("ema debias", debias)

    def init(params: Params) -> EmaState:
        floats = jnp.result_type(float)
        return EmaState(
            inner=inner.init(params),
            begun=jnp.zeros((), bool),
            mean=jax.tree.map(
                lambda p: jnp.zeros_like(widened(p)) if debias else jnp.array(widened(p)), params
            ),
            weight=jnp.full((), 0.0 if debias else 1.0, floats),
            decay=jnp.asarray(decay, floats),
        )

    def over(
        advance: Advance, grads: Params, opt_state: EmaState, params: Params, **extra: Any
    ) -> tuple[Params, EmaState]:
        # Taken in are the parameters that the last step led to, whatever was done to its updates further out.
        opt_state = trees.select(opt_state.begun, opt_state.taken_in(params), opt_state)
        changed, own = advance(inner, grads, opt_state.inner, params, **extra)
        return changed, opt_state._replace(inner=own, begun=jnp.ones((), bool))

    return around(init, over)


def averaged_params(opt_state: OptState, params: Params) -> Params:
    """The parameters to evaluate with: the average, where the optimizer keeps one, else the parameters themselves."""
    kept = having(opt_state, AveragesParams)
    return kept[0].averaged(params) if kept else params


class LookaheadState(NamedTuple):
    """The slow parameters, and the steps since they last moved."""

    inner: OptState
    slow: Params
    counted: Step

    def averaged_params(self, params: Params) -> Params:
        """The slow parameters, which the paper evaluates."""
        return self.slow


@maker
def lookahead(optimizer: Optimizer, *, steps: Number = 5, share: Number = 0.5) -> Optimizer:
    """The optimizer, which after so many steps goes back to a point on the way, and on from there.

    φ <- φ + share (θ - φ), θ <- φ after every so many steps; φ begins at θ. The optimizer's state is kept. `averaged_params`
    reads φ, and `train.run` validates with it. ConfigError unless steps >= 1 and 0 <= share <= 1
    [Zhang et al. 2019, arXiv:1907.08610].
    """
    inner = extended("lookahead optimizer", optimizer)
    checks.number("lookahead steps", steps, "[1, inf)")
    checks.number("lookahead share", share, "[0, 1]")

    def init(params: Params) -> LookaheadState:
        return LookaheadState(
            inner.init(params), jax.tree.map(jnp.array, params), jnp.zeros((), jnp.int32)
        )

    def update(
        grads: Params, opt_state: LookaheadState, params: Params, **extra: Any
    ) -> tuple[Params, LookaheadState]:
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
