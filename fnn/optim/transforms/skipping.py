"""Steps that are not taken, for their numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.optim.wrapping import extended, still
from fnn.types import Optimizer, OptState, Params, Step
from fnn.values import maker


class SkipState(NamedTuple):
    """The steps left out: in all, and in a row just now."""

    inner: OptState
    skipped: Step
    in_a_row: Step


@maker
def skip_nonfinite(optimizer: Optimizer) -> Optimizer:
    """The optimizer, which leaves out a step whose gradient, or whose update, is not finite.

    Such a step changes neither the parameters nor the optimizer's state, however many there are; they are counted.
    `train.run` looks at the loss and the network's state too: there it is on_nonfinite="skip" that leaves a step out.
    """
    inner = extended("skip_nonfinite optimizer", optimizer)

    def init(params: Params) -> SkipState:
        return SkipState(inner.init(params), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(grads: Params, opt_state: SkipState, params: Params, **extra: Any) -> tuple[Params, SkipState]:
        updates, own, finite = attempted(inner, grads, opt_state.inner, params, **extra)
        skipped = opt_state.skipped + jnp.where(finite, 0, 1)
        return updates, SkipState(own, skipped, jnp.where(finite, 0, opt_state.in_a_row + 1))

    return Optimizer(init, update)


def attempted(
    optimizer: Optimizer, grads: Params, opt_state: OptState, params: Params, **extra: Any
) -> tuple[Params, OptState, jax.Array]:
    """Updates and state of a step and whether its numbers are finite; if not, of one that changes nothing."""
    given = trees.all_finite(grads)
    # The optimizer never sees others: NaN in what is not chosen would still reach gradients through training.
    safe = trees.select(given, grads, still(grads))
    updates, own = optimizer.update(safe, opt_state, params, **extra)
    finite = given & trees.all_finite(updates)
    return trees.select(finite, updates, still(params)), trees.select(finite, own, opt_state), finite
