"""Different optimizers for different parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import Array

from fnn import trees
from fnn.errors import ConfigError
from fnn.optim.transform import (
    Advance,
    expect_patterns,
    expect_unscaled,
    frozen_paths,
    make_wrapper,
    match_first,
    with_extra_args,
    zero_updates,
)
from fnn.optim.transforms.averages import averaged_params
from fnn.types import Optimizer, OptState, Params
from fnn.values import maker

# Leaves by path
Leaves = dict[str, Array]


class FrozenState(NamedTuple):
    """The state of the optimizer of frozen parameters: it is empty, and its type marks them."""


# The optimizer of frozen parameters: its updates change no bit.
FREEZE = Optimizer(
    init=lambda params: FrozenState(),
    update=lambda grads, opt_state, params, **_: (zero_updates(params), opt_state),
)


class PartitionState(NamedTuple):
    """The state of `partition`, with the default first.

    Attributes:
        inner: The state of each optimizer.
        paths: The paths of the leaves of each optimizer. They
            are keys of a dict, so that they are structure.
    """

    inner: tuple[OptState, ...]
    paths: tuple[dict[str, None], ...]

    def averaged(self, params: Params) -> Params:
        """The average of each part whose optimizer keeps one, and all other params as they are."""
        leaves = trees.named_leaves(params)
        for opt_state, paths in zip(self.inner, self.paths, strict=True):
            leaves |= averaged_params(opt_state, _pick(leaves, paths))
        return _rebuild(leaves, params)

    def frozen_paths(self) -> frozenset[str]:
        """The paths of the parameters that this partition, or one inside of it, freezes."""
        frozen: set[str] = set()
        for opt_state, paths in zip(self.inner, self.paths, strict=True):
            whole = isinstance(opt_state, FrozenState)
            frozen |= paths.keys() if whole else frozen_paths(opt_state)
        return frozenset(frozen)


@maker
def partition(parts: Mapping[str, Optimizer | None], default: Optimizer | None) -> Optimizer:
    """Train different parameters with different optimizers, or freeze them.

    As in partition({"head": sgd(0.1), "*bias": None}, adam(1e-3)). An
    optimizer is given only its own leaves, as a dict by path, so that
    frozen ones take no memory and patterns inside mean the same as outside. Transforms around it
    leave frozen parameters out too: they are in no norm and do not decay. In training their
    gradients are 0 and cost no time, as with requires_grad=False in torch.

    Args:
        parts: Optimizers by the pattern of paths, as in `trees.matching`. The first pattern that
            matches a leaf decides. None freezes.
        default: The optimizer of all other leaves; None freezes.

    Raises:
        ConfigError: A pattern matches no leaf, or none that an earlier one leaves; or an entry is
            not an optimizer, or scales the loss.
    """
    if not isinstance(parts, Mapping):
        advice = 'give a dict, as in {"*bias": None}'
        raise ConfigError("partition parts", "optimizers by pattern", repr(parts), advice)
    patterns = expect_patterns("partition parts", list(parts))
    optimizers = []
    for pattern, optimizer in [("default", default), *parts.items()]:
        if optimizer is None:
            optimizers.append(FREEZE)
        else:
            optimizers.append(with_extra_args(f"partition {pattern}", optimizer))

    def init(params: Params) -> PartitionState:
        owners = match_first("partition parts", params, patterns)
        leaves = trees.named_leaves(params)
        states = []
        all_paths = []
        # The leaves that no pattern matches have the owner None.
        for pattern, optimizer in zip((None, *patterns), optimizers, strict=True):
            # A dict keeps the order of leaves, which a set would not.
            paths = {path: None for path, owner in owners.items() if owner == pattern}
            opt_state = optimizer.init(_pick(leaves, paths))
            states.append(expect_unscaled("partition", opt_state))
            all_paths.append(paths)
        return PartitionState(tuple(states), tuple(all_paths))

    def transform(
        advance: Advance,
        grads: Params,
        opt_state: PartitionState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, PartitionState]:
        trees.expect_like("partition grads", grads, params)
        param_leaves = trees.named_leaves(params)
        grad_leaves = trees.named_leaves(grads)
        # By path; the parts are disjoint and together hold all leaves.
        changed: Leaves = {}
        states = []
        rows = zip(optimizers, opt_state.inner, opt_state.paths, strict=True)
        for optimizer, old_state, paths in rows:
            part_changed, new_state = advance(
                optimizer,
                _pick(grad_leaves, paths),
                old_state,
                _pick(param_leaves, paths),
                **_restrict_extra(extra, params, paths),
            )
            changed |= part_changed
            states.append(new_state)
        return _rebuild(changed, params), PartitionState(tuple(states), opt_state.paths)

    return make_wrapper(init, transform)


def _restrict_extra(
    extra: dict[str, Any], params: Params, paths: Mapping[str, None]
) -> dict[str, Any]:
    """Restrict the keywords of an update to these leaves."""
    # A copy: the other parts need the whole.
    restricted = dict(extra)
    if "grad" in extra:
        restricted["grad"] = _pick(trees.named_leaves(extra["grad"]), paths)
    if "value_fn" in extra:
        # A function of these leaves, with all others at their current values.
        restricted["value_fn"] = lambda part: extra["value_fn"](
            _rebuild(trees.named_leaves(params) | part, params)
        )
    return restricted


def _pick(leaves: Leaves, paths: Mapping[str, None]) -> Leaves:
    return {path: leaves[path] for path in paths}


def _rebuild(leaves: Leaves, like: Params) -> Params:
    """Make a pytree of the structure of `like` from leaves by path."""
    ordered = [leaves[path] for path in trees.named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), ordered)
