"""Rates that grow from a network's input to its output."""

from collections.abc import Sequence

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim.wrapping import after, claimed, expect_patterns, times
from fnn.types import Number, Optimizer, Params


def scale_by_depth(optimizer: Optimizer, factor: Number, *, layers: Sequence[str]) -> Optimizer:
    """The optimizer, whose updates are multiplied by factor^d in the layer that is d layers below the last.

    layers are patterns of paths from input to output, as in ("stem", "body_0", "body_1", "head"), the first that names
    a leaf being its own. ConfigError for factor < 0, for a leaf that none names, and for a pattern that names none
    [Howard & Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555].
    """
    checks.number("scale_by_depth factor", factor, "[0, inf)")
    layers = expect_patterns("scale_by_depth layers", layers)

    def scaled(updates: Params, params: Params) -> Params:
        owners = claimed("scale_by_depth layers", params, layers)
        for path, owner in owners.items():
            if owner is None:
                raise ConfigError("scale_by_depth layers", f"one that names {path}", layers, "name every layer")
        below = [len(layers) - 1 - layers.index(owner) for owner in owners.values()]

        depths = jax.tree.unflatten(jax.tree.structure(params), below)
        return jax.tree.map(lambda u, depth: times(factor**depth, u), updates, depths)

    return after("scale_by_depth", optimizer, scaled)
