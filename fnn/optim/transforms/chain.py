"""Composition of optimizers."""

from typing import Any, NamedTuple

from fnn.optim.transform import expect_unscaled, leave_frozen_out, with_extra_args
from fnn.types import Optimizer, OptState, Params
from fnn.values import maker


class ChainState(NamedTuple):
    """The state of `chain`.

    Attributes:
        inner: The state of each optimizer, in order.
    """

    inner: tuple[OptState, ...]


@maker
def chain(*optimizers: Optimizer) -> Optimizer:
    """Compose optimizers: the updates of each are the gradients of the next.

    For transforms of other libraries, as in chain(optax.scale_by_belief(), optax.scale(-1e-3)).
    fnn's own transforms take the optimizer as an argument instead.

    Args:
        optimizers: Optimizers, of fnn or of other libraries.
            Without any, the updates are the gradients.

    Raises:
        ConfigError: One of them is not an optimizer, or one but the first scales the loss.
    """

    links = []
    for i, optimizer in enumerate(optimizers):
        links.append(with_extra_args(f"chain link {i}", optimizer))

    def wrap(*links: Optimizer) -> Optimizer:
        def init(params: Params) -> ChainState:
            states = [link.init(params) for link in links]
            # Only the first is given the gradients of the loss.
            for i, opt_state in enumerate(states[1:], 1):
                expect_unscaled(f"chain link {i}", opt_state)
            return ChainState(tuple(states))

        def update(
            grads: Params,
            opt_state: ChainState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, ChainState]:
            states = []
            for link, old_state in zip(links, opt_state.inner, strict=True):
                # The updates of this link are the gradients of the next.
                grads, new_state = link.update(grads, old_state, params, **extra)
                states.append(new_state)
            return grads, ChainState(tuple(states))

        return Optimizer(init, update)

    return leave_frozen_out("chain", wrap, *links)
