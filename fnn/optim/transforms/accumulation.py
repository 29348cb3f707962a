"""Gradient accumulation over micro-batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import wide_zeros
from fnn.optim.transform import (
    at_least,
    expect_unscaled,
    last_rate,
    leave_frozen_out,
    zero_updates,
)
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class AccumulateState(NamedTuple):
    """The state of `accumulate`.

    Attributes:
        inner: The state of the optimizer.
        rate: The rate of this step, 0 where none is made; None if the optimizer has no rate.
        counted: The number of gradients since the last step.
        sum: The sum of these gradients, in float32 or wider.
    """

    inner: OptState
    rate: Scalar | None
    counted: Step
    sum: Params


@maker
def accumulate(optimizer: Optimizer, steps: Number) -> Optimizer:
    """Gradient accumulation: the optimizer makes one step on the mean of several gradients.

    Between its steps the updates are 0. For a loss that is a mean over
    examples, the step is that of all batches joined to one. The optimizer,
    and so its schedule, counts its own steps, not the gradients.

    Args:
        optimizer: An optimizer, of fnn or of another library.
        steps: The number of gradients per step, >= 1.

    Raises:
        ConfigError: `steps` is below 1, or `optimizer` is not an optimizer or scales the loss.
    """
    checks.number("accumulate steps", steps, "[1, inf)")

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> AccumulateState:
            opt_state = expect_unscaled("accumulate optimizer", inner.init(params))
            return start_sum(opt_state, params)

        def start_sum(opt_state: OptState, params: Params) -> AccumulateState:
            """The state with an empty sum."""
            rate = last_rate(opt_state)
            count = jnp.zeros((), jnp.int32)
            return AccumulateState(opt_state, rate, count, wide_zeros(params))

        def update(
            grads: Params,
            opt_state: AccumulateState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, AccumulateState]:
            trees.expect_like("accumulate grads", grads, params)
            count = opt_state.counted + 1

            def add(total: Array, g: Array) -> Array:
                # The sum is in float32 or wider, since small terms vanish in half precision.
                return total + g.astype(total.dtype)

            sums = jax.tree.map(add, opt_state.sum, grads)

            def step() -> tuple[Params, AccumulateState]:
                def mean(total: Array, g: Array) -> Array:
                    return (total / count.astype(total.dtype)).astype(g.dtype)

                # By the count and not by `steps`, which need not be a whole number.
                means = jax.tree.map(mean, sums, grads)
                updates, inner_state = inner.update(means, opt_state.inner, params, **extra)
                return updates, start_sum(inner_state, params)

            def wait() -> tuple[Params, AccumulateState]:
                # tree.map keeps a rate of None.
                no_rate = jax.tree.map(jnp.zeros_like, opt_state.rate)
                return zero_updates(params), AccumulateState(opt_state.inner, no_rate, count, sums)

            # A branch and not a select, so that the optimizer runs only when it steps.
            return jax.lax.cond(at_least(count, steps), step, wait)

        return Optimizer(init, update)

    return leave_frozen_out("accumulate", wrap, optimizer)
