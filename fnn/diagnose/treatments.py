"""Changes of a recipe that an experiment compares: each is a value of a number, 1 or 0 for none.

A treated recipe and its control have one structure, so that they share a compiled program. This is
why a rate is multiplied by a factor, which is 1 in the control, in the place where it is used.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.objective import class_weighted
from fnn.optim import clip_by_global_norm
from fnn.optim.schedules.base import as_schedule
from fnn.optim.transform import scale, transform_updates
from fnn.train.recipe import Recipe
from fnn.train.tasks import optimizer_of
from fnn.types import (
    KERNEL,
    Number,
    Optimizer,
    Params,
    Prepare,
    Rate,
    Regularizer,
    Scalar,
    Schedule,
    Step,
)
from fnn.values import Made, maker, signature_of

RATE = "rate"  # the argument of an optimizer
# Numbers that regularize, by the name of the argument. The maker `weight_decay` has `strength`.
REGULARIZING = ("drop_rate", "weight_decay")
DECAY, STRENGTH = "weight_decay", "strength"


# Rates.


@maker
def adjusted_rate(
    rate: Rate,
    factor: Number,
    since: Number,
    begin: Number,
    end: Number,
    stretch: Number,
) -> Schedule:
    """A rate that is multiplied by a factor late, and does not change in an interval.

    f(t) rate(t / stretch), where f is the factor from step `since` on, and 1 before it. From step
    `begin` until before step `end` the rate is that of step begin - 1.

    Args:
        rate: A number or a schedule.
        factor: Factor of the rate, >= 0.
        since: First step with the factor, >= 0.
        begin: First step at which the rate is kept, >= 1.
        end: Step from which it follows the schedule again; with end <= begin nothing is kept.
        stretch: Factor of the length of the schedule, > 0.
    """
    schedule = as_schedule("adjusted_rate", rate)

    def adjusted(step: Step) -> Scalar:
        first = jnp.asarray(begin, step.dtype)
        is_kept = (step >= first) & (step < jnp.asarray(end, step.dtype))
        own_step = jnp.where(is_kept, first - 1, step)
        # Whole up to 2^24 steps, which is more than an experiment does.
        stretched = own_step.astype(jnp.float32) / jnp.asarray(stretch, jnp.float32)
        value = jnp.asarray(schedule(stretched.astype(step.dtype)))
        is_late = step >= jnp.asarray(since, step.dtype)
        return jnp.where(is_late, jnp.asarray(factor, value.dtype), 1) * value

    return Schedule(adjusted, schedule.steps)


@maker
def scaled_updates(optimizer: Optimizer, factor: Number) -> Optimizer:
    """Multiply the updates of an optimizer by a factor.

    This multiplies the rate of most optimizers, but for those whose state depends on it.

    Args:
        optimizer: An optimizer, of fnn or of another library.
        factor: Factor of the updates; -1 for those of the opposite sign.
    """

    def change(updates: Params, _: Params) -> Params:
        return jax.tree.map(lambda u: scale(factor, u), updates)

    return transform_updates("scaled_updates", optimizer, change)


def adjust_rate(
    recipe: Recipe,
    factor: float,
    *,
    since: int = 0,
    kept: tuple[int, int] = (0, 0),
    stretch: float = 1.0,
) -> Recipe:
    """Return the recipe with every rate of its optimizer adjusted.

    The rate is adjusted within the optimizer, since the updates of some are not proportional to it:
    `schedule_free_sgd` keeps a second sequence of parameters, and `lookahead` interpolates. An
    optimizer without a rate, as one of another library, gets its updates multiplied.

    Args:
        recipe: From `train.recipe`.
        factor: Factor of the rate.
        since: First step with the factor. The updates of other libraries have it at all steps.
        kept: First step at which the rate does not change, and the step after the last.
        stretch: Factor of the length of schedules.
    """

    def adjust(rate: Any) -> Any:
        begin, end = map(float, kept)
        return adjusted_rate(
            rate,
            float(factor),
            float(since),
            begin,
            end,
            float(stretch),
        )

    optimizer, is_found = _adjust_rates(recipe.optimizer, adjust)
    if not is_found:
        optimizer = scaled_updates(optimizer, float(factor))
    return with_parts(recipe, optimizer=optimizer)


def scale_updates(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe with the updates of its optimizer multiplied by a factor."""
    return with_parts(recipe, optimizer=scaled_updates(optimizer_of(recipe), float(factor)))


def clip_gradients(recipe: Recipe, norm: float) -> Recipe:
    """Return the recipe with gradients of at most a global norm."""
    return with_parts(recipe, optimizer=clip_by_global_norm(optimizer_of(recipe), float(norm)))


def _adjust_rates(optimizer: Any, adjust: Callable[[Any], Any]) -> tuple[Any, bool]:
    """Adjust the rates of an optimizer and of those that it wraps; return whether it has one."""
    if not isinstance(optimizer, Made) or not isinstance(optimizer, Optimizer):
        return optimizer, False
    changed: Any = optimizer
    is_found = False
    for path, child in optimizer.by_key():
        inner, has_rate = _adjust_rates(child, adjust)
        if has_rate:
            changed = changed.replace_at(path, inner)
            is_found = True
    rate = _argument(optimizer, RATE)
    if rate is None:
        return changed, is_found
    return changed.replace(rate=adjust(rate)), True


def _argument(value: Made, name: str) -> Any:
    """Return an argument of the call that made a value, or its default; None if there is none."""
    if name in value.arguments:
        return value.arguments[name]
    parameter = signature_of(value.maker).parameters.get(name)
    # The default of a required argument is a class of `inspect`.
    if parameter is None or not isinstance(parameter.default, int | float):
        return None
    return parameter.default


# Inputs.


@maker
def scaled_inputs(prepare: Prepare, factor: Number) -> Prepare:
    """Multiply prepared inputs by a factor; 0 leaves no information in them.

    Args:
        prepare: From stored inputs to inputs of the network.
        factor: Factor of the inputs.
    """

    def prepared(inputs: Any) -> Any:
        return jax.tree.map(_times, prepare(inputs))

    def _times(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            # Tokens: all of them become token 0.
            return jnp.where(jnp.asarray(factor) == 0, jnp.zeros_like(x), x)
        return x * jnp.asarray(factor, x.dtype)

    return prepared


def scale_inputs(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe with prepared inputs multiplied by a factor."""
    return with_parts(recipe, prepare=scaled_inputs(recipe.prepare, float(factor)))


# Regularization.


@maker
def shrunk(optimizer: Optimizer, share: Number) -> Optimizer:
    """Weight decay that does not depend on the rate: θ <- θ + update - share θ, for kernels.

    Args:
        optimizer: An optimizer, of fnn or of another library.
        share: Share of each kernel that a step subtracts, in [0, 1].
    """

    def change(updates: Params, params: Params) -> Params:
        def one(path: str, u: jax.Array) -> jax.Array:
            if path.rpartition("/")[2] != KERNEL:
                return u
            return u - scale(share, leaves[path])

        leaves = {f"params/{name}": p for name, p in trees.named_leaves(params).items()}
        return trees.map_named(one, "params", updates)

    return transform_updates("shrunk", optimizer, change)


@maker
def scaled_penalty(regularizer: Regularizer, factor: Number) -> Regularizer:
    """Multiply a regularizer by a factor.

    Args:
        regularizer: (params) -> a number.
        factor: Factor of the penalty, >= 0.
    """

    def penalty(params: Params) -> Scalar:
        value = regularizer(params)
        return value * jnp.asarray(factor, value.dtype)

    return penalty


def shrink(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe whose steps subtract a share of each kernel."""
    return with_parts(recipe, optimizer=shrunk(optimizer_of(recipe), float(share)))


def weaken(recipe: Recipe, factor: float) -> Recipe | None:
    """Return the recipe with its regularization multiplied by a factor; None if it has none.

    These are the rates of dropout, the weight decay of optimizers and the regularizer.

    Args:
        recipe: From `train.recipe`.
        factor: Factor, in [0, 1].
    """
    network, is_dropped = _weaken_numbers(recipe.network, factor)
    optimizer, is_decayed = _weaken_numbers(recipe.optimizer, factor)
    changes = {"network": network, "optimizer": optimizer}
    if recipe.regularizer is not None:
        changes["regularizer"] = scaled_penalty(recipe.regularizer, float(factor))
    elif not is_dropped and not is_decayed:
        return None
    return with_parts(recipe, **changes)


def _weaken_numbers(value: Any, factor: float) -> tuple[Any, bool]:
    """Multiply the numbers of a value that regularize; return whether there is one."""
    if not isinstance(value, Made):
        return value, False
    changed: Any = value
    is_found = False
    for path, child in value.by_key():
        inner, has_one = _weaken_numbers(child, factor)
        if has_one:
            changed = changed.replace_at(path, inner)
            is_found = True
    is_decay = value.maker.__name__ == DECAY
    names = (*REGULARIZING, STRENGTH) if is_decay else REGULARIZING
    for name in names:
        number = _argument(value, name)
        # A schedule of weight decay is no number.
        if number is not None and np.ndim(number) == 0 and not isinstance(number, Made):
            changed = changed.replace(**{name: factor * number})
            is_found = True
    return changed, is_found


# Weights of classes.


def weigh_classes(recipe: Recipe, weights: np.ndarray) -> Recipe:
    """Return the recipe whose loss weighs examples by their class.

    Args:
        recipe: From `train.recipe`.
        weights: (classes,), 1 for each in the control.
    """
    return with_parts(recipe, loss=class_weighted(recipe.loss, jnp.asarray(weights, jnp.float32)))


def with_parts(recipe: Recipe, **parts: Any) -> Recipe:
    """Return the recipe with some parts replaced."""
    made: Any = recipe
    return made.replace(**parts)
