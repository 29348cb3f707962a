"""Averages of parameters along a run: exponential moving average and lookahead."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import wide_copy, wide_zeros, widen
from fnn.optim.transform import (
    Advance,
    at_least,
    fill_hidden,
    find_states,
    frozen_paths,
    hide,
    leave_frozen_out,
    make_wrapper,
)
from fnn.types import AveragesParams, Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


def averaged_params(opt_state: OptState, params: Params) -> Params:
    """Return the parameters to evaluate: the optimizer's average, or the params if it has none.

    The state of the network, such as running means of batch norm, belongs to the params and not to
    their average.

    Args:
        opt_state: The state of an optimizer, such as `ema`, `lookahead` or `schedule_free_sgd`.
        params: The params after the step that returned this state.
    """
    states = find_states(opt_state, AveragesParams)
    return states[0].averaged(params) if states else params


def has_average(opt_state: OptState) -> bool:
    """Whether a part of the state keeps an average, which its structure alone decides."""
    return bool(find_states(opt_state, AveragesParams))


class EmaState(NamedTuple):
    """The state of `ema`.

    Attributes:
        inner: The state of the optimizer.
        begun: Whether a step has been made.
        mean: The average of the params after each step but the last, in float32 or wider.
        weight: The total weight in the mean, 1 - decayᵗ.
        share: The share of the last params in the average that includes them; 1 before the first
            step.
    """

    inner: OptState
    begun: Array
    mean: Params
    weight: Scalar
    share: Scalar

    def averaged(self, params: Params) -> Params:
        """The average with these params as the last; before the first step, the params."""
        visible = hide(params, frozen_paths(self.inner))
        mean = _move(self.mean, visible, self.share)
        mean = jax.tree.map(lambda mean, p: mean.astype(jnp.result_type(p)), mean, visible)
        return fill_hidden(mean, params)

    def include(self, params: Params, decay: Scalar) -> "EmaState":
        """The state with these params in the mean."""
        weight, share = _next_weight(self.weight, decay)
        return self._replace(mean=_move(self.mean, params, share), weight=weight)


def _next_weight(weight: Scalar, decay: Scalar) -> tuple[Scalar, Scalar]:
    """The total weight with the next params, and the share of these in it."""
    total = decay * weight + (1 - decay)
    return total, (1 - decay) / total


def _move(mean: Params, params: Params, share: Scalar) -> Params:
    """Move the mean to the params by their share; a normalized mean stays normalized."""

    def one(mean: Array, p: Array) -> Array:
        way = jnp.asarray(p, mean.dtype) - mean
        return mean + share.astype(mean.dtype) * way

    return jax.tree.map(one, mean, params)


@maker
def ema(optimizer: Optimizer, decay: Number = 0.999, *, debias: bool = True) -> Optimizer:
    """Exponential moving average of the parameters, for evaluation; steps stay as they are.

    a <- decay a + (1 - decay) θ after each step, from 0. The average is a / (1 - decayᵗ).
    `averaged_params` reads it, and `train.run` validates with it. The statistics of batch norm are
    still those of the last θ; to measure those of the average, apply the network to training
    batches with train=True and the averaged parameters [Polyak & Juditsky 1992; Kingma & Ba 2015,
    sec. 7.2].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        decay: In [0, 1). The average spans about 1 / (1 - decay) steps.
        debias: Whether to divide by 1 - decayᵗ. If False, a
            begins at the first θ and is the average, as in torch.

    Raises:
        ConfigError: `decay` is out of range, or `optimizer` is not an optimizer.
    """
    checks.number("ema decay", decay, "[0, 1)")
    checks.flag("ema debias", debias)

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> EmaState:
            floats = jnp.result_type(float)
            return EmaState(
                inner=inner.init(params),
                begun=jnp.zeros((), bool),
                mean=wide_zeros(params) if debias else wide_copy(params),
                # A weight of 1 stays 1: then the mean is the plain recursion from the first params.
                weight=jnp.full((), 0.0 if debias else 1.0, floats),
                share=jnp.ones((), floats),
            )

        def transform(
            advance: Advance,
            grads: Params,
            opt_state: EmaState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, EmaState]:
            # A step includes the params that it is given, not those that it
            # returns: outer transforms may still change its updates. The
            # first params are not the result of a step and do not count.
            now = jnp.asarray(decay, opt_state.weight.dtype)
            included = opt_state.include(params, now)
            opt_state = trees.select(opt_state.begun, included, opt_state)
            changed, inner_state = advance(inner, grads, opt_state.inner, params, **extra)
            # `averaged` is given no decay, so its share is computed here.
            _, share = _next_weight(opt_state.weight, now)
            new_state = opt_state._replace(inner=inner_state, begun=jnp.ones((), bool), share=share)
            return changed, new_state

        return make_wrapper(init, transform)

    return leave_frozen_out("ema", wrap, optimizer)


class LookaheadState(NamedTuple):
    """The state of `lookahead`.

    Attributes:
        inner: The state of the optimizer.
        slow: The slow parameters φ, a pytree like params.
        counted: The number of steps since they last moved.
    """

    inner: OptState
    slow: Params
    counted: Step

    def averaged(self, params: Params) -> Params:
        """The slow parameters, which the paper evaluates."""
        return fill_hidden(self.slow, params)


@maker
def lookahead(optimizer: Optimizer, *, steps: Number = 5, share: Number = 0.5) -> Optimizer:
    """Lookahead: after a number of steps, go back to a point on the line from the last such point.

    φ <- φ + share (θ - φ), θ <- φ after every `steps` steps; φ begins at θ. The state of the
    optimizer is kept. `averaged_params` reads φ, and `train.run` validates with it [Zhang et al.
    2019, arXiv:1907.08610].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        steps: Steps of the optimizer between two moves of φ, >= 1; the paper's value.
        share: Share of the way that φ moves, in [0, 1]; the
            paper's value. 1 is the optimizer alone.

    Raises:
        ConfigError: A number is out of range, or `optimizer` is not an optimizer.
    """
    checks.number("lookahead steps", steps, "[1, inf)")
    checks.number("lookahead share", share, "[0, 1]")

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> LookaheadState:
            # A copy, since the params may be donated.
            slow = jax.tree.map(jnp.array, params)
            return LookaheadState(
                inner=inner.init(params),
                slow=slow,
                counted=jnp.zeros((), jnp.int32),
            )

        def update(
            grads: Params,
            opt_state: LookaheadState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, LookaheadState]:
            updates, inner_state = inner.update(grads, opt_state.inner, params, **extra)
            count = opt_state.counted + 1
            due = at_least(count, steps)

            def one(slow: Array, p: Array, u: Array) -> Array:
                wide_slow = widen(slow)
                wide_p = widen(p)
                way = wide_p + widen(u) - wide_slow
                target = wide_slow + trees.knob(share, wide_slow) * way
                return jnp.where(due, (target - wide_p).astype(u.dtype), u)

            updates = jax.tree.map(one, opt_state.slow, params, updates)
            # p + u and not `target`: φ must equal the new params to the last bit.
            new_params = jax.tree.map(jnp.add, params, updates)
            slow = trees.select(due, new_params, opt_state.slow)
            return updates, LookaheadState(inner_state, slow, jnp.where(due, 0, count))

        return Optimizer(init, update)

    return leave_frozen_out("lookahead", wrap, optimizer)
