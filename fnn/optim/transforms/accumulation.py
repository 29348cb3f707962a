"""Large batches, a part at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import widened
from fnn.optim.transform import extended, reached, still, told_rate, unscaled
from fnn.types import Number, Optimizer, OptState, Params, Scalar, Step
from fnn.values import maker


class AccumulateState(NamedTuple):
    """The rate of this step, 0 where none is taken; the gradients since the last one taken: how many, and their sum."""

    inner: OptState
    rate: Scalar | None
    counted: Step
    sum: Params


@maker
def accumulate(optimizer: Optimizer, steps: Number) -> Optimizer:
    """The optimizer, which takes one step on the mean of so many gradients, and none in between.

    With a loss that is a mean over examples, that is the step on all their batches as one. The optimizer, and so its
    schedule, counts the steps taken. ConfigError unless steps >= 1.
    """
    inner = extended("accumulate optimizer", optimizer)
    checks.number("accumulate steps", steps, "[1, inf)")

    def init(params: Params) -> AccumulateState:
        return begin(unscaled("accumulate optimizer", inner.init(params)), params)

    def begin(opt_state: OptState, params: Params) -> AccumulateState:
        rate = told_rate(opt_state)
        none = jax.tree.map(lambda p: jnp.zeros_like(widened(p)), params)
        return AccumulateState(opt_state, rate, jnp.zeros((), jnp.int32), none)

    def update(
        grads: Params, opt_state: AccumulateState, params: Params, **extra: Any
    ) -> tuple[Params, AccumulateState]:
        trees.expect_like("accumulate grads", grads, params)
        count = opt_state.counted + 1
        sum = jax.tree.map(lambda total, g: total + g.astype(total.dtype), opt_state.sum, grads)

        def step() -> tuple[Params, AccumulateState]:
            mean = jax.tree.map(
                lambda total, g: (total / count.astype(total.dtype)).astype(g.dtype), sum, grads
            )
            updates, own = inner.update(mean, opt_state.inner, params, **extra)
            return updates, begin(own, params)

        def wait() -> tuple[Params, AccumulateState]:
            none = jax.tree.map(jnp.zeros_like, opt_state.rate)
            return still(params), AccumulateState(opt_state.inner, none, count, sum)

        return jax.lax.cond(reached(count, steps), step, wait)

    return Optimizer(init, update)
