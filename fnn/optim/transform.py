"""What transforms of optimizers share: how one passes on what it is told, and what may be read from a nested state."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.per_parameter import step, widened
from fnn.types import HasRate, Number, Optimizer, OptState, Params, Scalar, ScalesLoss, Step

Change = Callable[[Params, Params], Params]
Advance = Callable[..., tuple[Params, OptState]]


def extended(where: str, optimizer: Optimizer) -> Optimizer:
    """The optimizer, or another library's, with an update that takes any keywords and passes on those it knows.

    ConfigError for what is no pair (init, update).
    """
    checks.optimizer(where, optimizer)
    parameters = inspect.signature(optimizer.update).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return (
            optimizer
            if isinstance(optimizer, Optimizer)
            else Optimizer(optimizer.init, optimizer.update)
        )
    known = list(parameters)[3:]

    def update(
        grads: Params, opt_state: OptState, params: Params, **extra: Any
    ) -> tuple[Params, OptState]:
        return optimizer.update(
            grads, opt_state, params, **{name: extra[name] for name in known if name in extra}
        )

    return Optimizer(optimizer.init, update)


def around(
    init: Callable[[Params], OptState], over: Callable[..., tuple[Params, OptState]]
) -> Optimizer:
    """An optimizer that leaves another's updates as they are, and so may step in place where that one does.

    over: (advance, grads, opt_state, params, **extra) -> (what advance gives first, opt_state), where
    advance(optimizer, grads, opt_state, params, **extra) is the other's update, or its step.
    """
    return Optimizer(init, partial(over, _updated), partial(over, step))


def _updated(
    optimizer: Optimizer, grads: Params, opt_state: OptState, params: Params, **extra: Any
) -> tuple[Params, OptState]:
    return optimizer.update(grads, opt_state, params, **extra)


def before(name: str, optimizer: Optimizer, change: Change) -> Optimizer:
    """The optimizer, given change(grads, params) for its gradients; its state is as without."""
    inner = extended(f"{name} optimizer", optimizer)

    def init(params: Params) -> OptState:
        return unscaled(f"{name} optimizer", inner.init(params))

    def over(
        advance: Advance, grads: Params, opt_state: OptState, params: Params, **extra: Any
    ) -> tuple[Params, OptState]:
        trees.expect_like(f"{name} grads", grads, params)
        return advance(inner, change(grads, params), opt_state, params, **extra)

    return around(init, over)


def after(name: str, optimizer: Optimizer, change: Change) -> Optimizer:
    """The optimizer, whose updates become change(updates, params); its state is as without."""
    inner = extended(f"{name} optimizer", optimizer)

    def update(
        grads: Params, opt_state: OptState, params: Params, **extra: Any
    ) -> tuple[Params, OptState]:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        return change(updates, params), opt_state

    return Optimizer(inner.init, update)


def still(params: Params) -> Params:
    """Updates that change no bit: -0, since -0 + 0 is 0."""
    return jax.tree.map(lambda p: jnp.full_like(p, -0.0), params)


def times(factor: Number, array: jax.Array) -> jax.Array:
    """The array, multiplied in float32 at least."""
    wide = widened(array)
    return (trees.knob(factor, wide) * wide).astype(array.dtype)


def reached(count: Step, number: Number) -> jax.Array:
    """Whether so many have been counted; the number may be traced."""
    count = count.astype(jnp.result_type(float))
    return count >= trees.knob(number, count)


def claimed(where: str, params: Params, patterns: Sequence[str]) -> dict[str, str | None]:
    """For each leaf, by path, the first pattern that names it, as in `trees.matching`; None where none does.

    ConfigError for a pattern that is the first for no leaf.
    """
    owners: dict[str, str | None] = dict.fromkeys(trees.named_leaves(params))
    for pattern in patterns:
        named = trees.matching(where, params, [pattern])
        free = [path for path, own in named.items() if own and owners[path] is None]
        if not free:
            raise ConfigError(
                where,
                "a leaf that no earlier pattern names",
                repr(pattern),
                "put the narrower first",
            )
        owners |= dict.fromkeys(free, pattern)
    return owners


def expect_patterns(where: str, patterns: Any) -> tuple[str, ...]:
    """The patterns of paths as a tuple; ConfigError for anything but a sequence of strings."""
    if not isinstance(patterns, tuple | list) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ConfigError(
            where,
            "patterns of paths",
            repr(patterns),
            'give a tuple of strings, as in ("*kernel",)',
        )
    return tuple(patterns)


def unscaled(where: str, opt_state: OptState) -> OptState:
    """The state, if none of it scales the loss: what lies around a `loss_scale` is given gradients times the scale."""
    if having(opt_state, ScalesLoss):
        raise ConfigError(
            where,
            "true gradients",
            "those of optim.loss_scale",
            "put loss_scale around it: loss_scale(...(optimizer))",
        )
    return opt_state


def rate(opt_state: OptState) -> Scalar:
    """The rate of the last step, as the outermost part that tells one has it; NaN where none does."""
    told = told_rate(opt_state)
    return jnp.asarray(jnp.nan) if told is None else told


def told_rate(opt_state: OptState) -> Scalar | None:
    """The same, and None where none tells it: what a transform that tells of another's rate has for its own."""
    return jax.tree.map(
        jnp.array, next(iter(rates(opt_state)), None)
    )  # a copy, for buffers may be donated


def rates(opt_state: OptState) -> list[Scalar]:
    """The rates that the outermost parts that tell one have."""
    return [
        part.rate
        for part in parts(
            opt_state, lambda part: isinstance(part, HasRate) and part.rate is not None
        )
    ]


def having(opt_state: OptState, protocol: type) -> list[Any]:
    """The outermost parts of a nested optimizer state that have what the protocol names, in order."""

    def has(part: Any) -> bool:
        # To ask a protocol takes microseconds, and there are many parts: each class is asked once.
        kind = type(part), protocol
        if kind not in _known:
            _known[kind] = isinstance(part, protocol)
        return _known[kind]

    return parts(opt_state, has)


_known: dict[tuple[type, type], bool] = {}


def parts(opt_state: OptState, wanted: Callable[[Any], bool]) -> list[Any]:
    """The outermost parts of a nested optimizer state that are wanted, in order."""
    return [part for part in jax.tree.leaves(opt_state, is_leaf=wanted) if wanted(part)]


def replaced(opt_state: OptState, kind: type, change: Callable[[Any], Any]) -> OptState:
    """The optimizer state with change(part) for each outermost part of this class."""

    def wanted(part: Any) -> bool:
        return isinstance(part, kind)

    return jax.tree.map(
        lambda part: change(part) if wanted(part) else part, opt_state, is_leaf=wanted
    )
