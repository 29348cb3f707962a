"""Rates that grow from a network's input to its output."""

from collections.abc import Sequence

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim.wrapping import after, claimed, expect_patterns, times
from fnn.types import Number, Optimizer, Params
from fnn.values import maker


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
                raise ConfigError("scale_by_depth paths", f"one that names {path}", paths, "name every layer")
        below = [len(paths) - 1 - paths.index(owner) for owner in owners.values()]

        depths = jax.tree.unflatten(jax.tree.structure(params), below)
        return jax.tree.map(lambda u, depth: times(factor**depth, u), updates, depths)

    return after("scale_by_depth", optimizer, scaled)
