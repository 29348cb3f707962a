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
            wide_params = jax.tree.map(widen, params)
            inner_state = inner.init(wide_params)
            begin = jnp.zeros((), jnp.int32)
            return RoundingState(inner_state, begin)

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
            # Line searches compute with further arguments, in the wide dtype too.
            if "grad" in extra:
                extra["grad"] = jax.tree.map(widen, extra["grad"])
            if extra.get("value_fn") is not None:
                value_fn = extra["value_fn"]

                def wide_value_fn(wide: Params) -> Any:
                    # The loss is that of the params that the network has, in their dtype.
                    narrow = _narrow(wide, params)
                    return value_fn(narrow)

                extra["value_fn"] = wide_value_fn
            sums, inner_state = step(
                inner,
                wide_grads,
                opt_state.inner,
                wide_params,
                **extra,
            )

            # The key follows from the step, so that a resumed run draws the same numbers.
            step_key = jax.random.fold_in(key, opt_state.step)
            leaves, structure = jax.tree.flatten(params)
            wide_leaves = jax.tree.leaves(sums)
            rounded = []
            for i, (p, new) in enumerate(zip(leaves, wide_leaves, strict=True)):
                # A key per leaf: with one key, leaves of equal shape would be rounded alike.
                leaf_key = jax.random.fold_in(step_key, i)
                rounded.append(_round(leaf_key, new, jnp.result_type(p)))
            new_params = jax.tree.unflatten(structure, rounded)
            new_step = opt_state.step + 1
            new_state = RoundingState(inner_state, new_step)
            if advance is step:
                return new_params, new_state

            def difference(new: Array, p: Array) -> Array:
                # Of wide numbers, since the dtype of p may lack the digits.
                wide_change = widen(new) - widen(p)
                return wide_change.astype(jnp.result_type(p))

            updates = jax.tree.map(difference, new_params, params)
            return updates, new_state

        return make_wrapper(init, transform)

    return leave_frozen_out("stochastic_rounding", wrap, optimizer)


def _narrow(wide: Params, params: Params) -> Params:
    def narrow(wide: Array, p: Array) -> Array:
        return wide.astype(jnp.result_type(p))

    return jax.tree.map(narrow, wide, params)


def _round(
    key: RandomKey,
    x: Array,
    dtype: Any,
) -> Array:
    """Round up or down at random, with the mean x; derivatives are those of x."""
    if x.dtype == dtype:
        return x
    info = jnp.finfo(dtype)
    digits = info.nmant
    # No number is converted to the dtype before the end: XLA may leave conversions there and back
    # out. Neighbors of x in the dtype are multiples of their gap, a power of 2.
    _, exponent = jnp.frexp(x)
    smallest_gap = int(info.minexp) - digits
    smallest_wide = int(jnp.finfo(x.dtype).minexp)
    least = max(smallest_gap, smallest_wide)
    gap_exponent = jnp.maximum(exponent - 1 - digits, least)
    gap = jnp.ldexp(jnp.ones_like(x), gap_exponent)
    # Division by a power of 2 is exact.
    lower = jnp.floor(x / gap)
    share = x / gap - lower
    uniform = jax.random.uniform(key, x.shape, x.dtype)
    rises = uniform < share
    upper_or_lower = lower + rises.astype(x.dtype)
    rounded = upper_or_lower * gap
    # The choice has no derivative.
    change = jax.lax.stop_gradient(rounded - x)
    # Larger numbers, inf and NaN are converted as they are.
    within = jnp.abs(x) <= float(info.max)
    chosen = jnp.where(within, x + change, x)
    return chosen.astype(dtype)
