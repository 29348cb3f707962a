"""Optimizers from update rules of one array, applied to every leaf of a pytree."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError, DTypeError
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, OptState, Params, Rate, Scalar, Step
from fnn.xla import update_in_place

Rule = Callable[..., tuple[Any, ...]]
Finish = Callable[[jax.Array, jax.Array], jax.Array]
Run = Callable[..., tuple[Any, ...]]
Slots = Mapping[str, Callable[[jax.Array], Any]]
Timed = Mapping[str, Callable[[Scalar], Scalar]]


class RuleState(NamedTuple):
    """The optimizer state: steps made, the rate of the last one, and for each slot of the rule what a parameter has."""

    step: Step
    rate: Scalar
    slots: dict[str, Params]


def lift(
    name: str,
    rule: Rule,
    rate: Rate,
    *,
    slots: Slots | None = None,
    timed: Timed | None = None,
    **knobs: Number,
) -> Optimizer:
    """An optimizer that applies the rule to each parameter array with its gradient.

    rule:  (g, p, *slots, rate=, t=, **knobs, **timed) -> (update, *new slots), where t = 1, 2, ... counts the steps.
    slots: what the rule keeps of each parameter, (p) -> an array or a pytree of arrays at t = 0.
    timed: numbers that change with time alone, (t) -> number; found once a step, not once an array.
    The rule works in float32 at least, whatever the parameters' dtype; every number may be traced.
    """
    schedule = as_schedule(name, rate)
    slots = slots or {}  # their order is the rule's; that of a dict in the state is the alphabet's

    def init(params: Params) -> RuleState:
        expect_floats(f"{name} params", params)
        kept = {
            slot: jax.tree.map(lambda p, begin=begin: begin(widened(p)), params)
            for slot, begin in slots.items()
        }
        return RuleState(jnp.zeros((), jnp.int32), jnp.zeros(()), kept)

    def numbers(dtype: Any, rate: Scalar, step: Step) -> dict[str, Scalar]:
        """What changes with time, in the dtype of an array that it meets."""
        t = step.astype(dtype)
        return {"rate": rate.astype(dtype), "t": t} | {
            name: at(t) for name, at in (timed or {}).items()
        }

    @partial(jax.jit, static_argnums=0)  # so that it is traced once for all arrays of one shape
    def one(
        finish: Finish, kept: tuple[Any, ...], g: jax.Array, moment: dict[str, Scalar]
    ) -> tuple[Any, ...]:
        p, *own = kept
        wide = widened(p)
        own_knobs = {knob: trees.knob(value, wide) for knob, value in knobs.items()}
        change, *new = rule(g.astype(wide.dtype), wide, *own, **moment, **own_knobs)
        return finish(p, change.astype(p.dtype)), *new

    def over(
        grads: Params, opt_state: RuleState, params: Params, finish: Finish, run: Run
    ) -> tuple[Params, RuleState]:
        """finish(p, change) for each parameter, and the next state."""
        trees.expect_like(f"{name} grads", grads, params)
        now = jnp.asarray(schedule(opt_state.step), opt_state.rate.dtype)
        step = opt_state.step + 1
        structure: Any = jax.tree.structure(params)
        forest = grads, params, *(opt_state.slots[name] for name in slots)
        rows = list(zip(*(structure.flatten_up_to(tree) for tree in forest), strict=True))
        dtypes = [trees.wide(jnp.asarray(p)) for _, p, *_ in rows]
        moments = {dtype: numbers(dtype, now, step) for dtype in set(dtypes)}
        results = [
            run(partial(one, finish), step, tuple(kept), g, moments[dtype])
            for (g, *kept), dtype in zip(rows, dtypes, strict=True)
        ]
        changed, *new = [
            structure.unflatten(result[column] for result in results)
            for column in range(1 + len(slots))
        ]
        return changed, RuleState(step, now, dict(zip(slots, new, strict=True)))

    def update(
        grads: Params, opt_state: RuleState, params: Params, **_: Any
    ) -> tuple[Params, RuleState]:
        return over(grads, opt_state, params, _change, _at_once)

    def step(
        grads: Params, opt_state: RuleState, params: Params, **_: Any
    ) -> tuple[Params, RuleState]:
        return over(grads, opt_state, params, jnp.add, update_in_place)

    return Optimizer(init, update, step)


def step(
    optimizer: Optimizer, grads: Params, opt_state: OptState, params: Params, **extra: Any
) -> tuple[Params, OptState]:
    """The params and the optimizer state after a step: params + updates, in one pass over memory where that can be.

    extra is what an optimizer may be told besides: value, grad and value_fn (params -> value), all of this batch.
    """
    if isinstance(optimizer, Optimizer) and optimizer.step is not None:
        return optimizer.step(grads, opt_state, params, **extra)
    updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
    return apply_updates(params, updates), opt_state


def _change(p: jax.Array, change: jax.Array) -> jax.Array:
    return change


def _at_once(function: Run, count: Step, *arguments: Any) -> tuple[Any, ...]:
    return function(*arguments)


def zeros(*names: str) -> Slots:
    """Slots of these names, each of the parameter's shape and 0 at the start."""
    return dict.fromkeys(names, jnp.zeros_like)


def widened(p: Any) -> jax.Array:
    """The array in the dtype to compute with: its own, but float32 at least."""
    p = jnp.asarray(p)
    return p.astype(trees.wide(p))


def apply_updates(params: Params, updates: Params) -> Params:
    """params + updates, leaf by leaf; TreeMismatchError where they differ in structure, shape or dtype."""
    expect_floats("apply_updates params", params)
    trees.expect_like("apply_updates updates", updates, params)
    return jax.tree.map(jnp.add, params, updates)


@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
    """√x for x >= 0, whose derivative at 0 is taken as 0.

    A parameter that never had a gradient has x = 0, where the true slope is infinite and would turn gradients through
    training to NaN.
    """
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    positive = x > 0
    slope = jnp.where(positive, 0.5 / jnp.sqrt(jnp.where(positive, x, 1)), 0)
    return root(x), slope * dx


def norm(x: jax.Array) -> Scalar:
    """The length √Σ x² of an array, whose derivative at 0 is taken as 0."""
    return root(jnp.square(x).sum())


def global_norm(tree: Params) -> Scalar:
    """The length of all arrays of a tree together, whose derivative at 0 is taken as 0."""
    floats = jnp.result_type(float)
    squares = [jnp.square(widened(leaf)).sum().astype(floats) for leaf in jax.tree.leaves(tree)]
    return root(jnp.stack([jnp.zeros((), floats), *squares]).sum())


def expect_floats(where: str, params: Params) -> None:
    """Raise DTypeError for a leaf that is no array of floating-point numbers."""
    for path, leaf in trees.named_leaves(params).items():
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise DTypeError(
                f"{where} {path}",
                "floating-point numbers",
                jnp.result_type(leaf),
                "keep counts in the state",
            )


def value_function(name: str, extra: Mapping[str, Any]) -> Callable[[Params], Scalar]:
    """The loss of this batch as a function of the params; ConfigError where the update was not given it."""
    if extra.get("value_fn") is None:
        raise ConfigError(
            f"{name} value_fn",
            "the loss of this batch as a function of the params",
            None,
            "train.run gives it; by hand, update(grads, opt_state, params, value_fn=...)",
        )
    function: Callable[[Params], Scalar] = extra["value_fn"]
    return function
