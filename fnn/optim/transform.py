"""Building blocks of optimizer transforms, and functions that search a nested optimizer state."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim.per_parameter import step, widen
from fnn.types import HasRate, Number, Optimizer, OptState, Params, Scalar, ScalesLoss, Step

# (grads, params) -> grads, or (updates, params) -> updates
Change = Callable[[Params, Params], Params]
# (optimizer, grads, opt_state, params, **extra) -> (updates or new params, opt_state)
Advance = Callable[..., tuple[Params, OptState]]


# Wrapping an optimizer.


def with_extra_args(where: str, optimizer: Optimizer) -> Optimizer:
    """Make an optimizer's update accept any keyword; those that it does not know are dropped.

    Raises:
        ConfigError: `optimizer` is not a pair (init, update), of fnn or of another library.
    """
    checks.optimizer(where, optimizer)
    parameters = inspect.signature(optimizer.update).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        if isinstance(optimizer, Optimizer):
            return optimizer
        return Optimizer(optimizer.init, optimizer.update)
    # The first three are (grads, opt_state, params), under names that differ between libraries.
    known = list(parameters)[3:]

    def update(
        grads: Params,
        opt_state: OptState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        accepted = {name: extra[name] for name in known if name in extra}
        return optimizer.update(grads, opt_state, params, **accepted)

    return Optimizer(optimizer.init, update)


def make_wrapper(
    init: Callable[[Params], OptState],
    transform: Callable[..., tuple[Params, OptState]],
) -> Optimizer:
    """Make a transform that returns the updates of the inner optimizer unchanged.

    It has an update and a step, and each calls the same method
    of the inner optimizer. So a step in place stays one.

    Args:
        init: (params) -> opt_state
        transform: (advance, grads, opt_state, params, **extra) -> (result
            of the inner optimizer, opt_state), where advance(inner,
            grads, opt_state, params, **extra) calls the inner optimizer.
    """
    return Optimizer(init, partial(transform, _update), partial(transform, step))


def _update(
    optimizer: Optimizer,
    grads: Params,
    opt_state: OptState,
    params: Params,
    **extra: Any,
) -> tuple[Params, OptState]:
    return optimizer.update(grads, opt_state, params, **extra)


def transform_grads(name: str, optimizer: Optimizer, change: Change) -> Optimizer:
    """Give the optimizer change(grads, params) as gradients; its state stays as it is."""
    inner = with_extra_args(f"{name} optimizer", optimizer)

    def init(params: Params) -> OptState:
        return expect_unscaled(f"{name} optimizer", inner.init(params))

    def transform(
        advance: Advance,
        grads: Params,
        opt_state: OptState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        trees.expect_like(f"{name} grads", grads, params)
        return advance(inner, change(grads, params), opt_state, params, **extra)

    return make_wrapper(init, transform)


def transform_updates(name: str, optimizer: Optimizer, change: Change) -> Optimizer:
    """Replace the updates of the optimizer by change(updates, params); its state stays as it is."""
    inner = with_extra_args(f"{name} optimizer", optimizer)

    def update(
        grads: Params,
        opt_state: OptState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        updates, opt_state = inner.update(grads, opt_state, params, **extra)
        return change(updates, params), opt_state

    return Optimizer(inner.init, update)


def expect_unscaled(where: str, opt_state: OptState) -> OptState:
    """Return the state; ConfigError if part of it scales the loss.

    A transform around `loss_scale` gets gradients times the
    scale, which it would clip or average as if they were true.
    """
    if find_states(opt_state, ScalesLoss):
        advice = "put loss_scale around it: loss_scale(...(optimizer))"
        raise ConfigError(where, "true gradients", "those of optim.loss_scale", advice)
    return opt_state


# Arithmetic.


def zero_updates(params: Params) -> Params:
    """Updates that change no bit of the params."""
    # -0, since 0 + -0 is 0: adding +0 would turn a parameter of -0 into +0.
    return jax.tree.map(lambda p: jnp.full_like(p, -0.0), params)


def scale(factor: Number, array: Array) -> Array:
    """Multiply an array by a number, in float32 or wider; the dtype stays."""
    wide = widen(array)
    return (trees.knob(factor, wide) * wide).astype(array.dtype)


def at_least(count: Step, number: Number) -> Array:
    """Whether an integer count is >= a number of any dtype, which may be traced."""
    count = count.astype(jnp.result_type(float))
    return count >= trees.knob(number, count)


# Paths of parameters.


def match_first(where: str, params: Params, patterns: Sequence[str]) -> dict[str, str | None]:
    """Find for each leaf, by path, the first pattern that matches it; None if none does.

    Patterns are those of `trees.matching`.

    Raises:
        ConfigError: A pattern is the first for no leaf.
    """
    owners: dict[str, str | None] = dict.fromkeys(trees.named_leaves(params))
    for pattern in patterns:
        matches = trees.matching(where, params, [pattern])
        matched = [path for path, matches_it in matches.items() if matches_it]
        free = [path for path in matched if owners[path] is None]
        if not free:
            expected = "a leaf that no earlier pattern names"
            raise ConfigError(where, expected, repr(pattern), "put the narrower first")
        owners |= dict.fromkeys(free, pattern)
    return owners


def expect_patterns(where: str, patterns: Any) -> tuple[str, ...]:
    """Return patterns of paths as a tuple; ConfigError for anything but a sequence of strings."""
    is_sequence = isinstance(patterns, tuple | list)
    if not is_sequence or not all(isinstance(pattern, str) for pattern in patterns):
        advice = 'give a tuple of strings, as in ("*kernel",)'
        raise ConfigError(where, "patterns of paths", repr(patterns), advice)
    return tuple(patterns)


# Searching a nested state.


def find_rates(opt_state: OptState) -> list[Scalar]:
    """The rates of the last step, one from each outermost part of the state that has one."""

    def has_rate(part: Any) -> bool:
        return isinstance(part, HasRate) and part.rate is not None

    leaves = jax.tree.leaves(opt_state, is_leaf=has_rate)
    # Leaves that are not such a state are arrays.
    return [leaf.rate for leaf in leaves if has_rate(leaf)]


def last_rate(opt_state: OptState, default: Any = None) -> Any:
    """The rate of the last step from the first part of the state that has one, else `default`."""
    rates = find_rates(opt_state)
    if not rates:
        return default
    # A copy: a wrapper keeps it in its state too, and JAX donates no buffer twice.
    return jnp.array(rates[0])


def find_states(opt_state: OptState, kind: type) -> list[Any]:
    """Find the outermost parts of a nested state that are instances of a class or protocol."""

    def is_kind(part: Any) -> bool:
        # A protocol check takes microseconds and a state
        # has many parts: each class is checked once.
        key = type(part), kind
        if key not in _is_instance:
            _is_instance[key] = isinstance(part, kind)
        return _is_instance[key]

    return [part for part in jax.tree.leaves(opt_state, is_leaf=is_kind) if is_kind(part)]


_is_instance: dict[tuple[type, type], bool] = {}


def replace_states(opt_state: OptState, kind: type, change: Callable[[Any], Any]) -> OptState:
    """Replace each outermost part of a nested state that is a `kind` by change(part)."""

    def is_kind(part: Any) -> bool:
        return isinstance(part, kind)

    def replace(part: Any) -> Any:
        return change(part) if is_kind(part) else part

    return jax.tree.map(replace, opt_state, is_leaf=is_kind)
