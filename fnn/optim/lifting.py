"""From a rule on one array to an optimizer on a pytree: what all optimizers share is told here once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import DTypeError
from fnn.optim.schedules import as_schedule
from fnn.types import Number, Optimizer, Params, Rate, Scalar, Step

Rule = Callable[..., tuple[jax.Array, ...]]


class RuleState(NamedTuple):
    """The optimizer state: steps made, the rate of the last one, and for each slot of the rule an array a parameter."""

    step: Step
    rate: Scalar
    slots: dict[str, Params]


def lift(name: str, rule: Rule, rate: Rate, *, slots: tuple[str, ...] = (), **knobs: Number) -> Optimizer:
    """An optimizer that applies the rule to each parameter array with its gradient.

    rule: (g, p, *slots, rate, t, **knobs) -> (update, *new slots); t = 1, 2, ... counts the steps, slots begin at 0.
    The rule works in float32 at least, whatever the parameters' dtype; every number may be traced.
    """
    schedule = as_schedule(name, rate)

    def init(params: Params) -> RuleState:
        _expect_floats(f"{name} params", params)
        return RuleState(jnp.zeros((), jnp.int32), jnp.zeros(()), {slot: _wide_zeros(params) for slot in slots})

    def update(grads: Params, opt_state: RuleState, params: Params) -> tuple[Params, RuleState]:
        trees.expect_like(f"{name} grads", grads, params)
        now = jnp.asarray(schedule(opt_state.step), opt_state.rate.dtype)
        step = opt_state.step + 1

        def one(p: jax.Array, g: jax.Array, *own: jax.Array) -> tuple[jax.Array, ...]:
            wide = p.astype(trees.wide(p))
            own_knobs = {knob: trees.knob(value, wide) for knob, value in knobs.items()}
            change, *new = rule(
                g.astype(wide.dtype), wide, *own, now.astype(wide.dtype), step.astype(wide.dtype), **own_knobs
            )
            return change.astype(p.dtype), *new

        structure: Any = jax.tree.structure(params)
        columns = [structure.flatten_up_to(tree) for tree in (params, grads, *opt_state.slots.values())]
        results = [one(*row) for row in zip(*columns, strict=True)]
        updates, *new = [structure.unflatten(result[column] for result in results) for column in range(1 + len(slots))]
        return updates, RuleState(step, now, dict(zip(slots, new, strict=True)))

    return Optimizer(init, update)


def apply_updates(params: Params, updates: Params) -> Params:
    """params + updates, leaf by leaf; TreeMismatchError where they differ in structure, shape or dtype."""
    _expect_floats("apply_updates params", params)
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


def _wide_zeros(params: Params) -> Params:
    return jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), trees.wide(p)), params)


def _expect_floats(where: str, params: Params) -> None:
    for path, leaf in trees.named_leaves(params).items():
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise DTypeError(
                f"{where} {path}", "floating-point numbers", jnp.result_type(leaf), "keep counts in the state"
            )
