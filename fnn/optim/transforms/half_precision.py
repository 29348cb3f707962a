"""Stochastic rounding of parameters in half precision."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import step, widen
from fnn.optim.transform import Advance, leave_frozen_out, make_wrapper
from fnn.types import Optimizer, OptState, Params, RandomKey, Step
from fnn.values import maker


class RoundingState(NamedTuple):
    """The state of `stochastic_rounding`.

    Attributes:
        inner: The state of the optimizer, for parameters in float32 or wider.
        step: The number of steps made.
    """

    inner: OptState
    step: Step


@maker
def stochastic_rounding(key: RandomKey, optimizer: Optimizer) -> Optimizer:
    """Stochastic rounding of parameters in bfloat16 or float16, so that small updates count.

    θ + update lies between two numbers a < b of the dtype; θ becomes b with probability
    (θ + update - a) / (b - a), else a. The mean over draws is θ + update. Rounding to the nearest
    number keeps θ where |update| is below 2⁻⁹ |θ| (bfloat16). Parameters in float32 or wider are
    not rounded; `nn.cast` keeps them so and computes in half precision, for twice the memory
    [Gupta et al. 2015, arXiv:1502.02551].

    Args:
        key: A key from jax.random.key. Each step and each leaf draws by a key folded from it.
        optimizer: An optimizer, of fnn or of another library. It computes in float32 or wider. Give
            the rounding as the outermost transform: others may change its updates.

    Raises:
        ConfigError: `optimizer` is not an optimizer.
        DTypeError: `key` is not a key.
    """
    checks.key("stochastic_rounding key", key)

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> RoundingState:
            inner_state = inner.init(jax.tree.map(widen, params))
            return RoundingState(inner_state, jnp.zeros((), jnp.int32))

        def transform(
            advance: Advance,
            grads: Params,
            opt_state: RoundingState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, RoundingState]:
            trees.expect_like("stochastic_rounding grads", grads, params)
            wide_params = jax.tree.map(widen, params)
            wide_grads = jax.tree.map(widen, grads)
            if "grad" in extra:
                extra["grad"] = jax.tree.map(widen, extra["grad"])
            if extra.get("value_fn") is not None:
                value_fn = extra["value_fn"]
                # The loss is that of the params that the network has, in their dtype.
                extra["value_fn"] = lambda wide: value_fn(_narrow(wide, params))
            sums, inner_state = step(inner, wide_grads, opt_state.inner, wide_params, **extra)

            # The key follows from the step, so that a resumed run draws the same numbers.
            step_key = jax.random.fold_in(key, opt_state.step)
            leaves, structure = jax.tree.flatten(params)
            rounded = []
            for i, (p, new) in enumerate(zip(leaves, jax.tree.leaves(sums), strict=True)):
                # A key per leaf: with one key, leaves of equal shape would be rounded alike.
                rounded.append(_round(jax.random.fold_in(step_key, i), new, p.dtype))
            new_params = jax.tree.unflatten(structure, rounded)
            new_state = RoundingState(inner_state, opt_state.step + 1)
            if advance is step:
                return new_params, new_state

            def difference(new: Array, p: Array) -> Array:
                return (widen(new) - widen(p)).astype(p.dtype)

            return jax.tree.map(difference, new_params, params), new_state

        return make_wrapper(init, transform)

    return leave_frozen_out("stochastic_rounding", wrap, optimizer)


def _narrow(wide: Params, params: Params) -> Params:
    return jax.tree.map(lambda wide, p: wide.astype(p.dtype), wide, params)


def _round(key: RandomKey, x: Array, dtype: Any) -> Array:
    """Round up or down at random, with the mean x; derivatives are those of x."""
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    # No number is converted to the dtype before the end: XLA may leave conversions there and back
    # out. Neighbors of x in the dtype are multiples of their gap, a power of 2.
    _, exponent = jnp.frexp(x)
    least = max(int(info.minexp) - info.nmant, int(jnp.finfo(x.dtype).minexp))
    gap = jnp.ldexp(jnp.ones_like(x), jnp.maximum(exponent - 1 - info.nmant, least))
    lower = jnp.floor(x / gap)
    share = x / gap - lower
    rises = jax.random.uniform(key, x.shape, x.dtype) < share
    rounded = (lower + rises.astype(x.dtype)) * gap
    # The choice has no derivative.
    change = jax.lax.stop_gradient(rounded - x)
    # Larger numbers, inf and NaN are converted as they are.
    within = jnp.abs(x) <= float(info.max)
    return jnp.where(within, x + change, x).astype(dtype)
