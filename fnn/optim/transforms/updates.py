"""Transforms of updates after the optimizer: weight decay, layer-wise rates and projections."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.per_parameter import apply_updates, widen
from fnn.optim.transform import (
    expect_patterns,
    fill_hidden,
    find_rates,
    frozen_paths,
    hide,
    leave_frozen_out,
    match_first,
    scale,
    transform_grads,
    transform_updates,
    with_extra_args,
    with_placeholders,
    zero_updates,
)
from fnn.types import Constraint, Number, Optimizer, OptState, Params, Scalar
from fnn.values import maker


@maker
def weight_decay(
    optimizer: Optimizer, strength: Number, *, paths: Sequence[str] = (), decoupled: bool = True
) -> Optimizer:
    """Weight decay on all or some of the parameters, θ <- θ + update - rate strength θ.

    The rate is that of the optimizer's last step [Loshchilov & Hutter 2019, arXiv:1711.05101].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        strength: Share of θ that a rate of 1 subtracts, >= 0.
        paths: Patterns of the paths that decay, as in ("*kernel",); all if empty.
        decoupled: If False, add the gradient of strength
            ‖θ‖² / 2 to the gradient, g <- g + strength θ.

    Raises:
        ConfigError: `strength` is out of range, a pattern matches no path, `optimizer` is not an
            optimizer, or, if decoupled, its state has no rate or several.
    """
    checks.number("weight_decay strength", strength, "[0, inf)")
    checks.flag("weight_decay decoupled", decoupled)
    paths = expect_patterns("weight_decay paths", paths)

    def add_decay(factor: Number, tree: Params, params: Params) -> Params:
        """Add factor strength θ to the leaves that decay."""
        # A pattern may also name frozen parameters, which are hidden here.
        everything = with_placeholders(params)
        matches = trees.matching("weight_decay paths", everything, paths)
        decays = [matches[path] or not paths for path in trees.named_leaves(params)]

        def one(x: Array, p: Array, decays: bool) -> Array:
            if not decays:
                return x
            # In float32 or wider: rate times strength may vanish in half precision.
            wide = widen(p)
            share = trees.knob(factor, wide) * trees.knob(strength, wide)
            term = share * wide
            return (x.astype(wide.dtype) + term).astype(x.dtype)

        decay_tree = jax.tree.unflatten(jax.tree.structure(params), decays)
        return jax.tree.map(one, tree, params, decay_tree)

    if not decoupled:
        return transform_grads(
            "weight_decay", optimizer, lambda grads, params: add_decay(1, grads, params)
        )

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> OptState:
            opt_state = inner.init(params)
            _single_rate(opt_state)  # raises before the first step
            return opt_state

        def update(
            grads: Params,
            opt_state: OptState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, OptState]:
            updates, opt_state = inner.update(grads, opt_state, params, **extra)
            # The new state has the rate of this step.
            return add_decay(-_single_rate(opt_state), updates, params), opt_state

        return Optimizer(init, update)

    return leave_frozen_out("weight_decay", wrap, optimizer)


def _single_rate(opt_state: OptState) -> Scalar:
    rates = find_rates(opt_state)
    if len(rates) != 1:
        advice = "let each part decay by its own" if rates else "give decoupled=False"
        got = f"{len(rates)} rates"
        raise ConfigError("weight_decay optimizer", "a state with one rate", got, advice)
    return rates[0]


@maker
def scale_by_depth(
    optimizer: Optimizer,
    factor: Number,
    *,
    paths: Sequence[str | Sequence[str]],
    stacked: Sequence[str] = (),
    min_scale: Number = 0.0,
) -> Optimizer:
    """Layer-wise rate decay: the updates of the layer d below the last are scaled by factor^d.

    The scale is at least min_scale: max(min_scale, factor^d).

    [Howard & Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555]

    Args:
        optimizer: An optimizer, of fnn or of another library.
        factor: Ratio of the rates of two neighboring layers,
            >= 0; below 1, lower layers are trained less.
        paths: Patterns of paths from input to output, one per layer, as in ("stem", "body_0",
            "body_1", "head"), or several for one layer, as in (("conv_0", "batch_norm_1"), "head").
            The first pattern that matches a leaf decides. A layer without patterns, (), counts as
            one of depth.
        stacked: Those of the patterns whose leaves are stacks (n, ...) of n layers, as of an
            `nn.repeat`. Each of the n is one layer of depth.
        min_scale: Smallest scale, >= 0.

    Raises:
        ConfigError: A number is out of range, no pattern matches a leaf, a pattern matches no leaf,
            or `stacked` has other patterns, or leaves of several lengths.
    """
    checks.number("scale_by_depth factor", factor, "[0, inf)")
    checks.number("scale_by_depth min_scale", min_scale, "[0, inf)")
    layers = _expect_layers(paths)
    patterns = [pattern for layer in layers for pattern in layer]
    stacked = expect_patterns("scale_by_depth stacked", stacked)
    for pattern in stacked:
        if (pattern,) not in layers:
            expected = "patterns of one layer each among paths"
            advice = "name the stack in both"
            raise ConfigError("scale_by_depth stacked", expected, repr(pattern), advice)

    def scale_of(depth: int) -> Array:
        power = jnp.asarray(factor**depth)
        return jnp.where(power < min_scale, jnp.asarray(min_scale, power.dtype), power)

    def change(updates: Params, params: Params) -> Params:
        # A pattern may also name frozen parameters, which are hidden here.
        placed = with_placeholders(params)
        owners = match_first("scale_by_depth paths", placed, patterns)
        leaves = trees.named_leaves(placed)
        lengths = {pattern: _stack_length(pattern, owners, leaves) for pattern in stacked}
        # 0 for the last layer.
        depths: dict[str | None, int] = {}
        depth = 0
        for layer in reversed(layers):
            depths |= dict.fromkeys(layer, depth)
            # A layer without patterns has no parameters to train.
            depth += lengths.get(layer[0], 1) if layer else 1

        def one(path: str, u: Array) -> Array:
            owner = owners[path]
            if owner is None:
                expected = f"one that names {path}"
                raise ConfigError("scale_by_depth paths", expected, paths, "name every layer")
            if owner not in lengths:
                return scale(scale_of(depths[owner]), u)
            # The last copy is the highest layer.
            below = reversed(range(lengths[owner]))
            scales = jnp.stack([scale_of(depths[owner] + index) for index in below])
            wide = widen(u)
            # (n,) -> (n, 1, ...)
            each = scales.astype(wide.dtype).reshape(-1, *(1,) * (u.ndim - 1))
            return (each * wide).astype(u.dtype)

        scaled = [one(path, u) for path, u in trees.named_leaves(updates).items()]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled)

    return transform_updates("scale_by_depth", optimizer, change)


def _expect_layers(paths: Any) -> list[tuple[str, ...]]:
    """Return the patterns of each layer; ConfigError for anything but a sequence of patterns."""
    if not isinstance(paths, tuple | list):
        expect_patterns("scale_by_depth paths", paths)
    return [
        expect_patterns("scale_by_depth paths", [layer] if isinstance(layer, str) else layer)
        for layer in paths
    ]


def _stack_length(pattern: str, owners: Mapping[str, str | None], leaves: Mapping[str, Any]) -> int:
    """Return the length of the first axis of the leaves of a pattern."""
    named = {path: leaves[path] for path, owner in owners.items() if owner == pattern}
    # Frozen parameters are hidden: numbers are in their places.
    shapes = {path: leaf.shape for path, leaf in named.items() if not isinstance(leaf, int)}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or () in lengths:
        expected = "leaves whose first axis is the layer, of one length"
        advice = "name the params of one nn.repeat"
        raise ConfigError(f"scale_by_depth stacked {pattern}", expected, shapes, advice)
    return lengths.pop()[0]


@maker
def project(optimizer: Optimizer, constraint: Constraint) -> Optimizer:
    """Projected steps: each step ends at constraint(params + updates).

    The updates become constraint(params + updates) - params, so that the constraint holds up to
    rounding. The first params are not projected.

    Args:
        optimizer: An optimizer, of fnn or of another library.
        constraint: (params) -> params, such as objective.max_norm(1.0).

    Raises:
        ConfigError: `optimizer` is not an optimizer, or `constraint` is not a function.
    """
    if not callable(constraint):
        expected = "a function params -> params"
        advice = "call its maker first"
        raise ConfigError("project constraint", expected, repr(constraint), advice)

    inner = with_extra_args("project optimizer", optimizer)

    def update(
        grads: Params,
        opt_state: OptState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        # The constraint may look up any parameter, so it is given the frozen ones too.
        projected = constraint(apply_updates(params, updates))
        # The difference is an update again, so that further transforms may follow.
        updates = jax.tree.map(jnp.subtract, projected, params)
        moved = hide(updates, frozen_paths(opt_state))
        return fill_hidden(moved, zero_updates(params)), opt_state

    return Optimizer(inner.init, update)
