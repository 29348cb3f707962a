"""The compiled program of a hypergradient: forward, reverse, truncated and implicit mode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.search.implicit import Implicit, differentiate_solution
from fnn.search.run_score import Score, measure_score, needs_validation
from fnn.train.programs import lower, per_recipe
from fnn.train.recipe import Recipe
from fnn.train.run import finish_run, join_histories, prepare_resume, run_epochs
from fnn.train.step import start_on_data, steps_per_epoch
from fnn.types import Data, RandomKey, Result

# Tangents of forward mode that pass through a run at once. More of them take more runs.
TANGENTS = 16
# Positions of static arguments of the program.
STATIC = (4,)


class Plan(NamedTuple):
    """The static part of a hypergradient.

    Attributes:
        epochs: Number of epochs.
        batch_size: Examples per step.
        score: Name of a figure of validation, or a function of (recipe, result).
        indices: Indices of the numbers among the leaves of the recipe.
        is_forward: Whether to use forward mode.
        last_steps: Last steps to differentiate through; None for all.
        has_growth: Whether the score after half of the epochs is differentiated too.
        implicit: Options of implicit mode; None for other modes.
    """

    epochs: int
    batch_size: int
    score: Score
    indices: tuple[int, ...]
    is_forward: bool
    last_steps: int | None
    has_growth: bool
    implicit: Implicit | None


def _derivatives(
    recipe: Recipe,
    keys: RandomKey,
    data: Data,
    valid: Data | None,
    plan: Plan,
) -> tuple[Array, list[Array], Array | None, list[Array] | None, Array | None]:
    """Return score, derivatives, growth, agreement of signs and residual, means over the keys."""
    # JAX differentiates by the arguments of a function, so the numbers become its arguments.
    leaves, structure = jax.tree.flatten(recipe)
    numbers = [jnp.asarray(leaves[index]) for index in plan.indices]

    def with_numbers(numbers: list[Array]) -> Any:
        filled = list(leaves)
        for index, number in zip(plan.indices, numbers, strict=True):
            filled[index] = number
        return jax.tree.unflatten(structure, filled)

    def of_key(key: RandomKey) -> tuple[Array, list[Array], Array]:
        # Implicit mode differentiates no step, so that the run is an ordinary one.
        if plan.implicit is not None:
            result = _run(
                recipe,
                key,
                data,
                valid,
                plan,
            )[-1]

            def score(live: Recipe, result: Result) -> Array:
                return measure_score(
                    plan.score,
                    live,
                    result,
                    valid,
                    plan.batch_size,
                )

            value, slopes, residual = differentiate_solution(
                plan.implicit,
                with_numbers,
                numbers,
                result,
                score,
                data,
                plan.batch_size,
            )
            # With an axis of one horizon, as in the other modes.
            return value[None], [slope[None] for slope in slopes], residual

        def scores(numbers: list[Array]) -> Array:
            live = with_numbers(numbers)
            # Parts are built in the outermost trace of their numbers.
            _ = live.built
            results = _run(
                live,
                key,
                data,
                valid,
                plan,
            )
            measured = [
                measure_score(
                    plan.score,
                    live,
                    result,
                    valid,
                    plan.batch_size,
                )
                for result in results
            ]
            # (horizons,)
            return jnp.stack(measured)

        jacobian = _jacobian_forward if plan.is_forward else _jacobian_reverse
        values, slopes = jacobian(scores, numbers)
        # Other modes have no residual.
        return values, slopes, jnp.zeros(())

    if len(keys) == 1:
        found = jax.tree.map(lambda x: x[None], of_key(keys[0]))
    else:
        # Seeds one after another need the memory of one run.
        found = jax.lax.map(of_key, keys)
    # values: (seeds, horizons); each of slopes: (seeds, horizons, ...)
    values, slopes, residuals = found
    # The last horizon is the whole run; the one before it measures growth alone.
    last = [slope[:, -1] for slope in slopes]
    # (seeds, ...) -> (...)
    means = [slope.mean(0) for slope in last]
    shares = None
    if len(keys) > 1:
        shares = [
            # (seeds, ...) -> (...)
            (jnp.sign(slope) == jnp.sign(mean)[None]).mean(0)
            for slope, mean in zip(last, means, strict=True)
        ]
    ratio = None
    if plan.has_growth:
        # The norms after half of the epochs and after all of them.
        half, whole = _norms(slopes)
        # Numbers that act in the second half alone have no growth.
        ratio = jnp.where(half > 0, whole / jnp.where(half > 0, half, 1), jnp.nan)
    # The worst seed decides whether the gradient counts as biased.
    residual = residuals.max() if plan.implicit is not None else None
    return values[:, -1].mean(), means, ratio, shares, residual


differentiate = per_recipe(static=STATIC)(_derivatives)


def memory_of(*arguments: Any) -> int | None:
    """Return the bytes of intermediate values of the program; None if traced or not known.

    Args:
        arguments: Those of `differentiate`.
    """
    # Traced arguments belong to an outer program, whose memory is not known here.
    if not all(map(checks.is_concrete, jax.tree.leaves(arguments[:4]))):
        return None
    compiled = lower(_derivatives, STATIC, *arguments).compile()
    analysis = compiled.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def _norms(slopes: list[Array]) -> Array:
    """Return the norm over all numbers and seeds for each horizon, without overflow of squares."""
    # Each: (seeds, horizons, ...) -> (horizons, entries of all seeds)
    rows = [jnp.moveaxis(slope, 1, 0).reshape(slope.shape[1], -1) for slope in slopes]
    dtype = jnp.result_type(float)
    row = jnp.concatenate([part.astype(dtype) for part in rows], 1)
    # Entries that are divided by the largest one have squares of at most 1.
    largest = jnp.abs(row).max(1)
    divisor = jnp.where(largest > 0, largest, 1)
    # (horizons, entries) -> (horizons,)
    return largest * jnp.sqrt(jnp.square(row / divisor[:, None]).sum(1))


def _jacobian_forward(
    scores: Callable[[list[Array]], Array], numbers: list[Array]
) -> tuple[Array, list[Array]]:
    """Return the values (horizons,) and, for each number, its slopes (horizons, ...)."""
    sizes = [number.size for number in numbers]
    # Row i is the tangent of number i alone: (numbers, numbers)
    basis = jnp.eye(sum(sizes))

    def push(row: Array) -> tuple[Array, Array]:
        # (numbers,) -> an array for each array of numbers
        parts = jnp.split(row, np.cumsum(sizes)[:-1])
        tangents = [
            part.reshape(number.shape).astype(number.dtype)
            for part, number in zip(parts, numbers, strict=True)
        ]
        return jax.jvp(scores, (numbers,), (tangents,))

    if len(basis) <= TANGENTS:
        # The value is the same for all tangents, so it has no axis of them.
        values, columns = jax.vmap(push, out_axes=(None, 0))(basis)
    else:
        # In groups, since the memory of a run grows with its tangents.
        all_values, columns = jax.lax.map(push, basis, batch_size=TANGENTS)
        values = all_values[0]
    # (numbers, horizons) -> (horizons, ...) for each array of numbers
    parts = jnp.split(columns, np.cumsum(sizes)[:-1])
    slopes = [
        jnp.moveaxis(part, 1, 0).reshape(len(values), *number.shape)
        for part, number in zip(parts, numbers, strict=True)
    ]
    return values, slopes


def _jacobian_reverse(
    scores: Callable[[list[Array]], Array], numbers: list[Array]
) -> tuple[Array, list[Array]]:
    """Return the values (horizons,) and, for each number, its slopes (horizons, ...)."""
    values, pull = jax.vjp(scores, numbers)
    if len(values) == 1:
        # A single horizon needs no batch of cotangents.
        (slopes,) = pull(jnp.ones_like(values))
        return values, [slope[None] for slope in slopes]
    # Row i of the identity pulls back the score of horizon i.
    (slopes,) = jax.vmap(pull)(jnp.eye(len(values), dtype=values.dtype))
    return values, slopes


# The run.


def _run(
    recipe: Recipe, key: RandomKey, data: Data, valid: Data | None, plan: Plan
) -> list[Result]:
    """Return the result after half of the epochs, if growth is measured, and after all."""
    # Before the last steps, the numbers are constants.
    constant = recipe if plan.last_steps is None else jax.tree.map(jax.lax.stop_gradient, recipe)
    first = start_on_data(constant, key, data)
    # A validation after each epoch takes time, and is left out where only the last one counts.
    given = valid if needs_validation(plan.score, recipe, first.opt_state) else None

    def run(
        train_state: Any,
        past: Any,
        epochs: int,
        live: Any,
        begin: int | None,
    ) -> Result:
        last, history = run_epochs(
            live,
            train_state,
            data,
            given,
            epochs,
            plan.batch_size,
            None,
            True,
            begin,
        )
        return Result(finish_run(live, last), join_histories(past, history))

    if plan.last_steps is not None:
        epoch_length = steps_per_epoch(data, plan.batch_size)
        # Rounded up, since a run is resumed at the beginning of an epoch.
        last_epochs = -(-plan.last_steps // epoch_length)
        # Gradients flow from this step on, which may be within an epoch.
        begin = plan.epochs * epoch_length - plan.last_steps
        # Without tangents, this part of the run stores nothing.
        past = run(
            first,
            None,
            plan.epochs - last_epochs,
            constant,
            None,
        )
        # With early stopping, the run continues from its last train state, not from its best one.
        state = prepare_resume(recipe, past.train_state)
        return [
            run(
                state,
                past.history,
                last_epochs,
                recipe,
                begin,
            )
        ]
    if not plan.has_growth:
        return [
            run(
                first,
                None,
                plan.epochs,
                recipe,
                None,
            )
        ]
    # The first half is a part of the whole run, so that growth needs no second run.
    half = run(
        first,
        None,
        plan.epochs // 2,
        recipe,
        None,
    )
    rest = plan.epochs - plan.epochs // 2
    return [
        half,
        run(
            prepare_resume(recipe, half.train_state),
            half.history,
            rest,
            recipe,
            None,
        ),
    ]
