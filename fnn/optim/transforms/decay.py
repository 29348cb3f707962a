"""Parameters that shrink by a share at each step."""

from collections.abc import Sequence
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.lifting import widened
from fnn.optim.wrapping import before, expect_patterns, extended, rates
from fnn.types import Number, Optimizer, OptState, Params, Scalar
from fnn.values import maker


@maker
def weight_decay(
    optimizer: Optimizer, strength: Number, *, paths: Sequence[str] = (), decoupled: bool = True
) -> Optimizer:
    """The optimizer, which shrinks the parameters besides: θ <- θ + update - rate strength θ.

    The rate is the one that the optimizer tells. With decoupled=False it is the gradient of strength ‖θ‖² / 2 that is
    added to the gradient, g <- g + strength θ. `paths` are patterns of paths, as in paths=("*kernel",); by default all.
    ConfigError for strength < 0, for a pattern that names nothing, and for an optimizer that tells no rate, or several
    [Loshchilov & Hutter 2019, arXiv:1711.05101].
    """
    inner = extended("weight_decay optimizer", optimizer)
    checks.number("weight_decay strength", strength, "[0, inf)")
    checks.flag("weight_decay decoupled", decoupled)
    paths = expect_patterns("weight_decay paths", paths)

    def add(factor: Number, tree: Params, params: Params) -> Params:
        """tree + factor strength θ, where θ is to shrink."""
        named = trees.matching("weight_decay paths", params, paths)
        shrinks = jax.tree.unflatten(jax.tree.structure(params), [own or not paths for own in named.values()])

        def one(x: jax.Array, p: jax.Array, shrinks: bool) -> jax.Array:
            wide = widened(p)
            term = trees.knob(factor, wide) * trees.knob(strength, wide) * wide
            return (x.astype(wide.dtype) + term).astype(x.dtype) if shrinks else x

        return jax.tree.map(one, tree, params, shrinks)

    if not decoupled:
        return before("weight_decay", optimizer, lambda grads, params: add(1, grads, params))

    def init(params: Params) -> OptState:
        opt_state = inner.init(params)
        _the_rate(opt_state)
        return opt_state

    def update(grads: Params, opt_state: OptState, params: Params, **extra: Any) -> tuple[Params, OptState]:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        return add(-_the_rate(opt_state), updates, params), opt_state

    return Optimizer(init, update)


def _the_rate(opt_state: OptState) -> Scalar:
    told = rates(opt_state)
    if len(told) != 1:
        advice = "give decoupled=False" if not told else "let each part decay by its own"
        raise ConfigError("weight_decay optimizer", "one that tells its rate", f"{len(told)} rates", advice)
    return told[0]
