"""Transforms of updates after the optimizer: weight decay, layer-wise rates and projections."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.per_parameter import apply_updates, widened
from fnn.optim.transform import after, before, claimed, expect_patterns, extended, rates, times
from fnn.types import Constraint, Number, Optimizer, OptState, Params, Scalar
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
        shrinks = jax.tree.unflatten(
            jax.tree.structure(params), [own or not paths for own in named.values()]
        )

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

    def update(
        grads: Params, opt_state: OptState, params: Params, **extra: Any
    ) -> tuple[Params, OptState]:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        return add(-_the_rate(opt_state), updates, params), opt_state

    return Optimizer(init, update)


def _the_rate(opt_state: OptState) -> Scalar:
    told = rates(opt_state)
    if len(told) != 1:
        advice = "give decoupled=False" if not told else "let each part decay by its own"
        raise ConfigError(
            "weight_decay optimizer", "one that tells its rate", f"{len(told)} rates", advice
        )
    return told[0]


@maker
def scale_by_depth(optimizer: Optimizer, factor: Number, *, paths: Sequence[str]) -> Optimizer:
    """The optimizer, whose updates are multiplied by factor^d in the layer that is d layers below the last.

    paths are patterns of paths from input to output, as in ("stem", "body_0", "body_1", "head"), the first that names
    a leaf being its own. ConfigError for factor < 0, for a leaf that none names, and for a pattern that names none
    [Howard & Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555].
    """
    checks.number("scale_by_depth factor", factor, "[0, inf)")
    paths = expect_patterns("scale_by_depth paths", paths)

    def scaled(updates: Params, params: Params) -> Params:
        owners = claimed("scale_by_depth paths", params, paths)
        for path, owner in owners.items():
            if owner is None:
                raise ConfigError(
                    "scale_by_depth paths", f"one that names {path}", paths, "name every layer"
                )
        below = [len(paths) - 1 - paths.index(owner) for owner in owners.values()]

        depths = jax.tree.unflatten(jax.tree.structure(params), below)
        return jax.tree.map(lambda u, depth: times(factor**depth, u), updates, depths)

    return after("scale_by_depth", optimizer, scaled)


@maker
def project(optimizer: Optimizer, constraint: Constraint) -> Optimizer:
    """The optimizer, each of whose steps ends where the constraint (params -> params) puts it, to rounding.

    The updates become constraint(params + updates) - params; the optimizer's state is as without. Params begin where
    init put them. ConfigError for what is no optimizer or no constraint.
    """
    if not callable(constraint):
        raise ConfigError(
            "project constraint",
            "a function params -> params",
            repr(constraint),
            "call its maker first",
        )

    def bounded(updates: Params, params: Params) -> Params:
        return jax.tree.map(jnp.subtract, constraint(apply_updates(params, updates)), params)

    return after("project", optimizer, bounded)
