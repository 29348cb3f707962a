"""Another optimizer for some of the parameters, or none."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from fnn import trees
from fnn.errors import ConfigError
from fnn.optim.transform import Advance, around, claimed, expect_patterns, extended, still, unscaled
from fnn.optim.transforms.averages import averaged_params
from fnn.types import Optimizer, OptState, Params
from fnn.values import maker

Leaves = dict[str, jax.Array]

FROZEN = Optimizer(
    lambda params: (), lambda grads, opt_state, params, **_: (still(params), opt_state)
)


class PartitionState(NamedTuple):
    """For each part, the default first: its optimizer's state, and the paths of its leaves as the keys of a dict."""

    inner: tuple[OptState, ...]
    paths: tuple[dict[str, None], ...]

    def averaged_params(self, params: Params) -> Params:
        """The average of each part whose optimizer keeps one, and the other parameters as they are."""
        named = trees.named_leaves(params)
        for own, paths in zip(self.inner, self.paths, strict=True):
            named |= averaged_params(own, {path: named[path] for path in paths})
        return _whole(named, params)


@maker
def partition(parts: Mapping[str, Optimizer | None], default: Optimizer | None) -> Optimizer:
    """For the leaves that a pattern names first its optimizer, for all others the default; None freezes.

    As in partition({"head": sgd(0.1), "*bias": None}, adam(1e-3)), with the patterns of `trees.matching`. An optimizer
    sees its own leaves alone, a dict by path: what is frozen costs no memory, and patterns inside mean the same as
    outside. ConfigError for a pattern that names nothing, or nothing that an earlier one leaves.
    """
    if not isinstance(parts, Mapping):
        raise ConfigError(
            "partition parts",
            "optimizers by pattern",
            repr(parts),
            'give a dict, as in {"*bias": None}',
        )
    patterns = expect_patterns("partition parts", list(parts))
    rules = [
        FROZEN if optimizer is None else extended(f"partition {pattern}", optimizer)
        for pattern, optimizer in [("default", default), *parts.items()]
    ]

    def init(params: Params) -> PartitionState:
        owners, named = claimed("partition parts", params, patterns), trees.named_leaves(params)
        paths = tuple(
            {path: None for path in owners if owners[path] == pattern}
            for pattern in (None, *patterns)
        )
        states = [
            unscaled("partition", rule.init({path: named[path] for path in own}))
            for rule, own in zip(rules, paths, strict=True)
        ]
        return PartitionState(tuple(states), paths)

    def over(
        advance: Advance, grads: Params, opt_state: PartitionState, params: Params, **extra: Any
    ) -> tuple[Params, PartitionState]:
        trees.expect_like("partition grads", grads, params)
        named, slopes = trees.named_leaves(params), trees.named_leaves(grads)
        changed: Leaves = {}
        states = []
        for rule, own, paths in zip(rules, opt_state.inner, opt_state.paths, strict=True):
            part = {path: named[path] for path in paths}
            told = _told(extra, params, paths)
            changes, own = advance(rule, {path: slopes[path] for path in paths}, own, part, **told)
            changed |= changes
            states.append(own)
        return _whole(changed, params), PartitionState(tuple(states), opt_state.paths)

    return around(init, over)


def _told(extra: dict[str, Any], params: Params, paths: Mapping[str, None]) -> dict[str, Any]:
    """What an optimizer is told besides, for these leaves alone."""
    own = dict(extra)
    if "grad" in extra:
        slopes = trees.named_leaves(extra["grad"])
        own["grad"] = {path: slopes[path] for path in paths}
    if "value_fn" in extra:
        own["value_fn"] = lambda part: extra["value_fn"](
            _whole(trees.named_leaves(params) | part, params)
        )
    return own


def _whole(named: Leaves, like: Params) -> Params:
    """The leaves as a tree again."""
    return jax.tree.unflatten(
        jax.tree.structure(like), [named[path] for path in trees.named_leaves(like)]
    )
