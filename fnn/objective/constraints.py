"""Bounds that parameters are held within: functions params -> params, for optim.project."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Constraint, Number, Params
from fnn.values import maker


@maker
def max_norm(limit: Number, *, paths: Sequence[str] = ()) -> Constraint:
    """Params whose units' incoming weights are scaled down to a norm of at most the limit, w <- w min(1, limit / |w|).

    A unit's weights lie along all axes but the last, of kernels: the parameters of two axes or more; others stay, as
    does what is not at these `paths`, if any are given (see Penalty.on). The gradient is finite at 0. ConfigError
    unless limit > 0, or for a path that names nothing [Srivastava et al. 2014, JMLR 15, sec. 5.1].
    """
    checks.number("max_norm limit", limit, "(0, inf)")

    def constraint(params: Params) -> Params:
        named = trees.matching("max_norm paths", params, paths)
        leaves = [
            _shortened(leaf, limit) if leaf.ndim >= 2 and (named[path] or not paths) else leaf
            for path, leaf in trees.named_leaves(params).items()
        ]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    return constraint


def _shortened(p: jax.Array, limit: Number) -> jax.Array:
    wide = checks.floating("max_norm params", p).astype(trees.wide(p))
    bound = trees.knob(limit, wide)
    square = jnp.square(wide).sum(tuple(range(p.ndim - 1)), keepdims=True)
    over = square > bound * bound
    scale = jnp.where(over, bound / jnp.sqrt(jnp.where(over, square, 1)), 1)  # no root of 0, whose slope is infinite
    return (wide * scale).astype(p.dtype)
