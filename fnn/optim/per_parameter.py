"""Optimizers from update rules of one array, and the numerical functions that rules use."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import trees
from fnn.errors import ConfigError, DTypeError
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, OptState, Params, Rate, Scalar, Step
from fnn.xla import update_in_place

Rule = Callable[..., tuple[Any, ...]]
Slots = Mapping[str, Callable[[Array], Any]]
PerStep = Mapping[str, Callable[[Scalar], Scalar]]
# (p, change) -> the change, or the new parameter
Finish = Callable[[Array, Array], Array]
# (function, step, kept, *others) -> function(kept, *others)
Run = Callable[..., tuple[Any, ...]]


class RuleState(NamedTuple):
    """The state of an optimizer that `per_parameter` made.

    Attributes:
        step: The number of steps made.
        rate: The rate of the last step; 0 before the first.
        slots: For each slot of the rule, a pytree with one entry per parameter array.
    """

    step: Step
    rate: Scalar
    slots: dict[str, Params]


def per_parameter(
    name: str,
    rule: Rule,
    rate: Rate,
    *,
    slots: Slots | None = None,
    per_step: PerStep | None = None,
    **hyperparameters: Number,
) -> Optimizer:
    """Make an optimizer that applies a rule to each parameter array and its gradient.

    The rule is called as `update, *new_slots = rule(g, p, *slots, h=h)`. The
    namespace `h` holds, by name, the rate `h.rate`, the step count `h.t` = 1, 2,
    ..., the hyperparameters, and the numbers of `per_step`. All of them have the
    dtype of `p`, which is float32 or wider whatever the dtype of the params.

    Args:
        name: The name of the optimizer in errors.
        rule: The update of one array, as above. Updates are added to the params.
        rate: A number or a schedule.
        slots: The memory of the rule for each parameter array, in the order of its arguments: by
            name, a function of `p` that returns the first value, an array or a pytree of arrays.
        per_step: Numbers that depend on the step count alone: by name, a function of `t`.
        **hyperparameters: Numbers, which may be traced.
    """
    schedule = as_schedule(name, rate)
    # The rule takes slots in this order. The dict in the state does not keep it: JAX sorts keys.
    slots = slots or {}
    per_step = per_step or {}

    def init(params: Params) -> RuleState:
        expect_floats(f"{name} params", params)
        first: dict[str, Params] = {}
        for slot, start in slots.items():
            first[slot] = jax.tree.map(lambda p, start=start: start(widen(p)), params)
        return RuleState(
            step=jnp.zeros((), jnp.int32),
            rate=jnp.zeros(()),
            slots=first,
        )

    def step_numbers(dtype: Any, rate: Scalar, step: Step) -> dict[str, Scalar]:
        t = step.astype(dtype)
        numbers = {"rate": rate.astype(dtype), "t": t}
        for key, function in per_step.items():
            numbers[key] = function(t)
        return numbers

    # Under jit, arrays of the same shape and dtype share one trace of the rule.
    @partial(jax.jit, static_argnums=0)
    def apply_rule(
        finish: Finish, kept: tuple[Any, ...], g: Array, numbers: dict[str, Scalar]
    ) -> tuple[Any, ...]:
        p, *old_slots = kept
        wide_p = widen(p)
        constants = {key: trees.knob(value, wide_p) for key, value in hyperparameters.items()}
        h = SimpleNamespace(**numbers, **constants)
        wide_g = g.astype(wide_p.dtype)
        change, *new_slots = rule(wide_g, wide_p, *old_slots, h=h)
        return finish(p, change.astype(p.dtype)), *new_slots

    def advance(
        grads: Params,
        opt_state: RuleState,
        params: Params,
        finish: Finish,
        run: Run,
    ) -> tuple[Params, RuleState]:
        """Compute finish(p, change) for each parameter array, and the next state."""
        trees.expect_like(f"{name} grads", grads, params)
        now = jnp.asarray(schedule(opt_state.step), opt_state.rate.dtype)
        step = opt_state.step + 1
        structure: Any = jax.tree.structure(params)
        # The numbers of a recipe may be Python's.
        param_leaves = [jnp.asarray(p) for p in structure.flatten_up_to(params)]
        grad_leaves = structure.flatten_up_to(grads)
        slot_leaves = [structure.flatten_up_to(opt_state.slots[slot]) for slot in slots]
        # One row per parameter array: (p, slot, slot, ...)
        rows = list(zip(param_leaves, *slot_leaves, strict=True))

        # The numbers of a step are computed once per dtype, not once per array.
        dtypes = [trees.wide(p) for p in param_leaves]
        numbers = {dtype: step_numbers(dtype, now, step) for dtype in dict.fromkeys(dtypes)}
        function = partial(apply_rule, finish)
        results = []
        for row, g, dtype in zip(rows, grad_leaves, dtypes, strict=True):
            result = run(function, step, row, g, numbers[dtype])
            results.append(result)

        # Back from rows to one pytree per column.
        columns = []
        for column in range(1 + len(slots)):
            columns.append(structure.unflatten([result[column] for result in results]))
        changed, *new_slots = columns
        named_slots = dict(zip(slots, new_slots, strict=True))
        return changed, RuleState(step, now, named_slots)

    def update(
        grads: Params,
        opt_state: RuleState,
        params: Params,
        **_: Any,
    ) -> tuple[Params, RuleState]:
        return advance(grads, opt_state, params, _return_change, _call)

    def step(
        grads: Params,
        opt_state: RuleState,
        params: Params,
        **_: Any,
    ) -> tuple[Params, RuleState]:
        # The addition is part of the rule's program, so
        # params and slots are written where they are.
        return advance(grads, opt_state, params, jnp.add, update_in_place)

    return Optimizer(init, update, step)


def _return_change(p: Array, change: Array) -> Array:
    return change


def _call(function: Run, step: Step, *arguments: Any) -> tuple[Any, ...]:
    return function(*arguments)


def zeros(*names: str) -> Slots:
    """Name slots of the shape of the parameter, each 0 at first."""
    return dict.fromkeys(names, jnp.zeros_like)


def expect_floats(where: str, params: Params) -> None:
    """Raise DTypeError for a leaf that is not an array of floating-point numbers."""
    for path, leaf in trees.named_leaves(params).items():
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
            advice = "give both parts as arrays" if is_complex else "keep counts in the state"
            raise DTypeError(f"{where} {path}", "floating-point numbers", dtype, advice)


# Using an optimizer.


def step(
    optimizer: Optimizer,
    grads: Params,
    opt_state: OptState,
    params: Params,
    **extra: Any,
) -> tuple[Params, OptState]:
    """Make one step: `update` and `apply_updates`, in one pass over memory where possible.

    Args:
        optimizer: An optimizer, or another library's pair (init, update).
        grads: The gradients, a pytree like params.
        opt_state: From `optimizer.init(params)` or the step before.
        params: The parameters.
        **extra: Passed to the optimizer: `value`, `grad` and
            `value_fn` (params -> value), all of this batch.

    Returns:
        The new params and the new optimizer state.
    """
    if isinstance(optimizer, Optimizer) and optimizer.step is not None:
        return optimizer.step(grads, opt_state, params, **extra)
    updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
    return apply_updates(params, updates), opt_state


def apply_updates(params: Params, updates: Params) -> Params:
    """Add updates to params, leaf by leaf.

    Args:
        params: The parameters, arrays of floating-point numbers.
        updates: From `optimizer.update`, a pytree like params.

    Raises:
        TreeMismatchError: They differ in structure, or a leaf in shape or dtype.
        DTypeError: A parameter is not floating-point.
    """
    expect_floats("apply_updates params", params)
    trees.expect_like("apply_updates updates", updates, params)
    return jax.tree.map(jnp.add, params, updates)


def require_value_fn(name: str, extra: Mapping[str, Any]) -> Callable[[Params], Scalar]:
    """Return `value_fn`, the loss as a function of the params; ConfigError if there is none."""
    if extra.get("value_fn") is None:
        expected = "the loss of this batch as a function of the params"
        advice = "train.run gives it; by hand, update(grads, opt_state, params, value_fn=...)"
        raise ConfigError(f"{name} value_fn", expected, None, advice)
    value_fn: Callable[[Params], Scalar] = extra["value_fn"]
    return value_fn


# Numerical functions.


def widen(p: Any) -> Array:
    """Convert an array to the dtype to compute in: float32, or its dtype if that is wider."""
    p = jnp.asarray(p)
    return p.astype(trees.wide(p))


def wide_zeros(params: Params) -> Params:
    """Make zeros like the params, in float32 or wider."""
    return jax.tree.map(lambda p: jnp.zeros_like(widen(p)), params)


def wide_copy(params: Params) -> Params:
    """Copy the params to float32 or wider; never the same buffer, since params may be donated."""
    return jax.tree.map(lambda p: jnp.array(widen(p)), params)


def running_mean(decay: Number, mean: Array, new: Array) -> Array:
    """decay * mean + (1 - decay) * new"""
    return decay * mean + (1 - decay) * new


def divide_where(condition: Array, a: Any, b: Array, default: Number) -> Array:
    """a / b where the condition is true, else a default; b may be 0 there.

    Derivatives are finite: a single `where` would multiply an infinite derivative by 0.
    """
    quotient = a / jnp.where(condition, b, 1)
    return jnp.where(condition, quotient, default)


@jax.custom_jvp
def root(x: Array) -> Array:
    """√x for x >= 0, whose derivative at 0 is taken as 0.

    A parameter that never had a gradient has x = 0, where the true slope is infinite and would turn
    gradients through training to NaN.
    """
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,) = primals
    (dx,) = tangents
    positive = x > 0
    # The inner `where` keeps 1 / 0 out of the branch that
    # is not chosen: its derivative would be NaN.
    safe_x = jnp.where(positive, x, 1)
    slope = jnp.where(positive, 0.5 / jnp.sqrt(safe_x), 0)
    return root(x), slope * dx


def norm(x: Array) -> Scalar:
    """The Euclidean norm √Σ x² of an array, whose derivative at 0 is taken as 0."""
    return root(jnp.square(x).sum())


def global_norm(tree: Params) -> Scalar:
    """The Euclidean norm √Σ x² over all arrays of a pytree, whose derivative at 0 is taken as 0.

    Args:
        tree: A pytree of arrays, such as gradients. Squares are summed in float32 or wider.
    """
    floats = jnp.result_type(float)
    # The leading 0 makes the norm of an empty tree 0.
    squares = [jnp.zeros((), floats)]
    for leaf in jax.tree.leaves(tree):
        # Leaves may differ in dtype; each is summed in its own first.
        square = jnp.square(widen(leaf)).sum()
        squares.append(square.astype(floats))
    return root(jnp.stack(squares).sum())
