"""Optimizers one after another."""

from typing import Any, NamedTuple

from fnn.optim.transform import extended, unscaled
from fnn.types import Optimizer, OptState, Params
from fnn.values import maker


class ChainState(NamedTuple):
    """The state of each link."""

    inner: tuple[OptState, ...]


@maker
def chain(*optimizers: Optimizer) -> Optimizer:
    """One optimizer after another: the updates of each are the gradients of the next, the last one's the updates.

    For links of other libraries, as in chain(optax.scale_by_belief(), optax.scale(-1e-3)); fnn's own transforms take
    the optimizer in instead. A chain of nothing gives back the gradients. ConfigError for what is no optimizer.
    """
    links = [
        extended(f"chain link {place}", optimizer) for place, optimizer in enumerate(optimizers)
    ]

    def init(params: Params) -> ChainState:
        states = [link.init(params) for link in links]
        for place, opt_state in enumerate(
            states[1:], 1
        ):  # the first is given the gradients themselves
            unscaled(f"chain link {place}", opt_state)
        return ChainState(tuple(states))

    def update(
        grads: Params, opt_state: ChainState, params: Params, **extra: Any
    ) -> tuple[Params, ChainState]:
        states = []
        for link, own in zip(links, opt_state.inner, strict=True):
            grads, own = link.update(grads, own, params, **extra)
            states.append(own)
        return grads, ChainState(tuple(states))

    return Optimizer(init, update)
