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
from fnn.types import (
    FreezesParams,
    HasRate,
    Number,
    Optimizer,
    OptState,
    Params,
    Scalar,
    ScalesLoss,
    Step,
)

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

    def wrap(inner: Optimizer) -> Optimizer:
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

    return leave_frozen_out(name, wrap, optimizer)


def transform_updates(name: str, optimizer: Optimizer, change: Change) -> Optimizer:
    """Replace the updates of the optimizer by change(updates, params); its state stays as it is."""

    def wrap(inner: Optimizer) -> Optimizer:
        def update(
            grads: Params,
            opt_state: OptState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, OptState]:
            updates, opt_state = inner.update(grads, opt_state, params, **extra)
            return change(updates, params), opt_state

        return Optimizer(inner.init, update)

    return leave_frozen_out(name, wrap, optimizer)


def expect_unscaled(where: str, opt_state: OptState) -> OptState:
    """Return the state; ConfigError if part of it scales the loss.

    A transform around `loss_scale` gets gradients times the
    scale, which it would clip or average as if they were true.
    """
    if find_states(opt_state, ScalesLoss):
        advice = "put loss_scale around it: loss_scale(...(optimizer))"
        raise ConfigError(where, "true gradients", "those of optim.loss_scale", advice)
    return opt_state


# Frozen parameters. A transform never receives them: in its pytrees their leaves are None.


def leave_frozen_out(
    name: str, wrap: Callable[..., Optimizer], *optimizers: Optimizer
) -> Optimizer:
    """Make a transform that acts only on the parameters that none of its optimizers freezes.

    A norm, a noise or a decay must not include frozen parameters. So the transform is given pytrees
    without them, and its optimizers are given whole ones, with a gradient of 0 for each.

    Args:
        name: The name of the transform in errors.
        wrap: (optimizer, ...) -> the transform of these optimizers.
        optimizers: Optimizers, of fnn or of another library.
    """
    inner = [with_extra_args(f"{name} optimizer", optimizer) for optimizer in optimizers]
    plain = wrap(*inner)

    def init(params: Params) -> OptState:
        # Only the states show which parameters are frozen, so they are made first.
        states = tuple(optimizer.init(params) for optimizer in inner)
        started = []
        for optimizer, opt_state in zip(inner, states, strict=True):
            start = partial(_return_state, opt_state)
            started.append(Optimizer(start, optimizer.update, optimizer.step))
        return wrap(*started).init(hide(params, frozen_paths(states)))

    def transform(
        advance: Advance,
        grads: Params,
        opt_state: OptState,
        params: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        # This is known from the structure of the state, so it is decided while tracing.
        frozen = frozen_paths(opt_state)
        if not frozen:
            return advance(plain, grads, opt_state, params, **extra)
        trees.expect_like(f"{name} grads", grads, params)
        if "grad" in extra:
            extra["grad"] = hide(extra["grad"], frozen)
        if extra.get("value_fn") is not None:
            value_fn = extra["value_fn"]
            extra["value_fn"] = lambda visible: value_fn(fill_hidden(visible, params))
        narrow = wrap(*(_on_whole_trees(optimizer, params, frozen) for optimizer in inner))
        changed, new_state = advance(
            narrow, hide(grads, frozen), opt_state, hide(params, frozen), **extra
        )
        kept = params if advance is step else zero_updates(params)
        return fill_hidden(changed, kept), new_state

    wrapped = make_wrapper(init, transform)
    return wrapped if plain.step is not None else Optimizer(init, wrapped.update)


def _return_state(opt_state: OptState, params: Params) -> OptState:
    return opt_state


def _on_whole_trees(optimizer: Optimizer, params: Params, frozen: frozenset[str]) -> Optimizer:
    """Make an optimizer of pytrees without the frozen leaves from one of whole pytrees."""
    zeros = jax.tree.map(jnp.zeros_like, params)

    def transform(
        advance: Advance,
        grads: Params,
        opt_state: OptState,
        visible: Params,
        **extra: Any,
    ) -> tuple[Params, OptState]:
        if "grad" in extra:
            extra["grad"] = fill_hidden(extra["grad"], zeros)
        if extra.get("value_fn") is not None:
            value_fn = extra["value_fn"]
            extra["value_fn"] = lambda whole: value_fn(hide(whole, frozen))
        changed, new_state = advance(
            optimizer, fill_hidden(grads, zeros), opt_state, fill_hidden(visible, params), **extra
        )
        return hide(changed, frozen), new_state

    return make_wrapper(optimizer.init, transform)


def frozen_paths(opt_state: OptState) -> frozenset[str]:
    """Find the paths of the parameters that some part of a nested state freezes."""
    states = find_states(opt_state, FreezesParams)
    return frozenset().union(*(state.frozen_paths() for state in states))


def hide(tree: Any, frozen: frozenset[str]) -> Any:
    """Replace the leaves of these paths by None, which JAX takes for a subtree without leaves."""
    if not frozen:
        return tree
    leaves = trees.named_leaves(tree)
    visible = [None if path in frozen else leaf for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(tree), visible)


def fill_hidden(visible: Any, whole: Any) -> Any:
    """Take the leaves that `hide` replaced from a whole tree, and all others as they are."""
    leaves = trees.named_leaves(whole) | trees.named_leaves(visible)
    return jax.tree.unflatten(jax.tree.structure(whole), list(leaves.values()))


def with_placeholders(visible: Any) -> Any:
    """Replace hidden leaves by a number, so that patterns may name their paths."""
    return jax.tree.map(
        lambda leaf: 0 if leaf is None else leaf, visible, is_leaf=lambda leaf: leaf is None
    )


def stop_frozen_gradients(opt_state: OptState, params: Params) -> Params:
    """Make the derivative by each frozen parameter 0, which also saves the time it would take."""
    frozen = frozen_paths(opt_state)
    if not frozen:
        return params
    return fill_hidden(hide(params, frozen), jax.lax.stop_gradient(params))


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
