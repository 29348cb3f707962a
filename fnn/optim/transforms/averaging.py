"""Averages of the parameters along the way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.lifting import widened
from fnn.optim.wrapping import Advance, around, extended, having
from fnn.types import AveragesParams, Number, Optimizer, OptState, Params, Scalar
from fnn.values import maker


class EmaState(NamedTuple):
    """The mean of the parameters that steps have led to, but for the last, and the weight in it, 1 - decayᵗ."""

    inner: OptState
    begun: jax.Array
    mean: Params
    weight: Scalar
    decay: Scalar

    def averaged(self, params: Params) -> Params:
        """The average, these parameters being the last; at the start, the parameters themselves."""
        return jax.tree.map(lambda mean, p: mean.astype(p.dtype), self.taken_in(params).mean, params)

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
    without; `averaged` reads the average, and `train.run` validates with it. ConfigError unless 0 <= decay < 1
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
            mean=jax.tree.map(lambda p: jnp.zeros_like(widened(p)) if debias else jnp.array(widened(p)), params),
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


def averaged(opt_state: OptState, params: Params) -> Params:
    """The parameters to evaluate with: the average, where the optimizer keeps one, else the parameters themselves."""
    kept = having(opt_state, AveragesParams)
    return kept[0].averaged(params) if kept else params
