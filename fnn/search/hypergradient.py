"""Hypergradients: derivatives of the score of a training run by the numbers of its recipe."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.errors import ConfigError, NonFiniteError
from fnn.search.derivatives import Plan, differentiate, memory_of
from fnn.search.implicit import (
    Implicit,
    expect_dependence,
    expect_late_numbers,
    expect_solution_numbers,
    implicit,
)
from fnn.search.numbers import has_gradient, select_numbers
from fnn.search.run_score import Score, expect_score
from fnn.train.arrays import validate_data
from fnn.train.inputs import validate_fit
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey

# Numbers up to which mode="auto" is forward mode. It takes about one run for each number, while
# reverse mode takes about four runs for all of them.
FORWARD_LIMIT = 8
# Growth from half of the steps to all of them from which on a gradient is said to explode. A
# gradient in proportion to T^p grows by 2^p.
EXPLOSION = 100.0

MODES = ("auto", "forward", "reverse", "implicit")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["gradient", "value", "growth", "agreement", "residual", "is_biased"],
    meta_fields=["mode", "steps", "memory", "paths"],
)
@dataclass(frozen=True, eq=False)
class Hypergradient:
    """The derivative of a score by the numbers of a recipe, and how it was computed.

    Attributes:
        gradient: A recipe of the same structure, the mean over seeds; 0 for numbers that are not
            in `paths`.
        value: The score, the mean over seeds.
        growth: Norm of the gradient after all epochs, divided by that after half of them; None if
            it was not measured, NaN if the gradient after half is 0. A gradient in proportion to
            T^p grows by 2^p; one that explodes grows by much more.
        agreement: A recipe: for each number, the share of seeds whose derivative has the sign of
            the mean; None for one seed.
        residual: In implicit mode, the larger one of two relative norms: of the gradient of the
            training objective at the last parameters against that at the first ones, and of the
            linear system that was solved. None in other modes.
        is_biased: Whether the gradient leaves a part out: it is truncated, or the residual of
            implicit mode is above 1e-3.
        mode: "forward", "reverse", "truncated forward", "truncated reverse" or "implicit".
        steps: Steps of the run that were differentiated through; 0 in implicit mode.
        memory: Bytes of intermediate values of the compiled program, which do not include data and
            results; None where the platform does not report it, or within jit.
        paths: The paths of the numbers.
    """

    gradient: Any
    value: Array
    growth: Array | None
    agreement: Any
    residual: Array | None
    is_biased: Any
    mode: str
    steps: int
    memory: int | None
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Truncated:
    """The mode of `truncated`.

    Attributes:
        steps: Last steps of the run to differentiate through.
    """

    steps: int


def truncated(steps: int) -> Truncated:
    """Differentiate through the last steps of a run alone; for `hypergradient(mode=...)`.

    Earlier steps count as constants, so the gradient is biased towards short horizons. By numbers
    that act on the first parameters alone it would be 0: these are refused
    [Wu et al. 2018, arXiv:1803.02021; Shaban et al. 2019, arXiv:1810.10667].

    Args:
        steps: Last steps, in [1, steps of the run].

    Raises:
        ConfigError: `steps` is not a whole number >= 1.
    """
    return Truncated(checks.whole("truncated steps", steps))


def hypergradient(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    score: Score = "valid_loss",
    paths: Sequence[str] | None = None,
    mode: str | Truncated | Implicit = "auto",
    seeds: int = 1,
    growth: bool = True,
) -> Hypergradient:
    """Differentiate the score of a training run by the numbers of its recipe.

    d score(train.run(key, recipe, ...)) / d recipe. The result names its mode, and the memory and
    steps that it used.

    - Forward mode carries one tangent for each number through the run: memory does not grow with
      the number of steps T, time grows with the number of numbers.
    - Reverse mode stores one train state for each of about √T segments and computes the steps of a
      segment again: the time is that of about four runs for any number of numbers. This is
      `jax.grad` through `train.run(..., remat=True)`.
    - Truncated mode, `search.truncated(steps)`, leaves out all but the last steps.
    - Implicit mode uses the condition that the gradient of the training objective is 0 at the end
      of a converged run: it needs one run without derivatives, and a linear solve. By numbers that
      the solution does not depend on, such as a learning rate or the gain of an initializer, its
      derivative would be 0, so it refuses them.

    A step on a recipe is a step of any optimizer, whose parameters are the recipe:

        outer = optim.adam(0.1)
        opt_state = outer.init(recipe)
        slope = search.hypergradient(key, recipe, training, valid=validation, ...)
        recipe, opt_state = optim.step(outer, slope.gradient, opt_state, recipe)

    Args:
        key: From `jax.random.key`, of the run.
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data, >= 1.
        batch_size: Examples per step.
        valid: (inputs, targets) of validation.
        score: Name of a figure of validation, which is computed at the end of the run as by
            `train.evaluate`; or a function (recipe, result) -> one number, of the recipe and the
            `Result` of the run. Define it once: each lambda is another program.
        paths: Paths of the numbers in the recipe, as in recipe["optimizer.rate.peak"], or of parts,
            for all numbers below; `*` matches any text, as in "*.peak". None for all.
        mode: "forward", "reverse" or "implicit"; a value of `search.truncated` or
            `search.implicit`; or "auto": forward for at most 8 numbers, else reverse.
        seeds: Number of runs, one after another. One run has this key; several have the keys
            jax.random.split(key, seeds), and the gradient is the mean over them.
        growth: Whether to differentiate the score after half of the epochs too, where there are two
            epochs. In reverse mode this takes half as long again.

    Returns:
        The gradient as a recipe, the score, and facts about the computation.

    Raises:
        FnnError: An argument is not valid, or the data does not fit the recipe. Raised before
            anything compiles.
        NonFiniteError: The score or the gradient is not finite.
    """
    checks.key("hypergradient key", key)
    checks.whole("hypergradient epochs", epochs)
    checks.whole("hypergradient seeds", seeds)
    checks.flag("hypergradient growth", growth)
    expect_recipe("hypergradient", recipe)
    expect_score(recipe, score, valid)
    selected = select_numbers("hypergradient", recipe, paths)
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    validate_fit(recipe, data, valid)
    steps = epochs * steps_per_epoch(data, batch_size)
    # The mode refuses numbers that it has no derivative for, before anything is compiled.
    plan = _plan(recipe, selected, mode, steps)
    plan = plan._replace(
        epochs=epochs,
        batch_size=batch_size,
        score=score,
        # Truncated and implicit mode have no gradient after half of the run.
        has_growth=growth and epochs > 1 and plan.last_steps is None and plan.implicit is None,
    )
    # A single run has the key as it is, so that it is the run of train.run.
    keys = key[None] if seeds == 1 else jax.random.split(key, seeds)
    arguments = (recipe, keys, data, valid, plan)
    memory = memory_of(*arguments)
    value, slopes, ratio, shares, residual = differentiate(*arguments)
    # Within jit the values are not known, so that nothing can be raised.
    if checks.is_concrete(value):
        _expect_finite(value, slopes, list(selected))
        _warn_of_growth(ratio)
        if plan.implicit is not None:
            expect_dependence(dict(zip(selected, slopes, strict=True)), residual)
    # A truncated gradient lacks the part of the early steps.
    is_biased: Any = plan.last_steps is not None
    if residual is not None and plan.implicit is not None:
        is_biased = residual > plan.implicit.tolerance
        # Within jit the flag is traced too.
        is_biased = bool(is_biased) if checks.is_concrete(is_biased) else is_biased
    return Hypergradient(
        gradient=_as_recipe(recipe, plan.indices, slopes),
        value=value,
        growth=ratio,
        agreement=None if shares is None else _as_recipe(recipe, plan.indices, shares),
        residual=residual,
        is_biased=is_biased,
        mode=_name_mode(plan),
        steps=0 if plan.implicit is not None else plan.last_steps or steps,
        memory=memory,
        paths=tuple(selected),
    )


def _plan(
    recipe: Recipe,
    selected: dict[str, int],
    mode: Any,
    steps: int,
) -> Plan:
    """Return the plan of a mode."""
    indices = tuple(selected.values())
    leaves = jax.tree.leaves(recipe)
    # Each entry of an array needs a tangent of its own.
    is_forward = sum(np.size(leaves[index]) for index in indices) <= FORWARD_LIMIT
    # The caller fills in all that does not depend on the mode.
    plan = Plan(0, 0, "", indices, is_forward, None, False, None)
    if isinstance(mode, Truncated):
        if mode.steps > steps:
            raise ConfigError(
                "truncated steps",
                f"at most the {steps} steps of the run",
                mode.steps,
                'give fewer, or mode="auto" for all',
            )
        expect_late_numbers(recipe, selected)
        return plan._replace(last_steps=mode.steps)
    if isinstance(mode, Implicit) or mode == "implicit":
        expect_solution_numbers(recipe, selected)
        return plan._replace(implicit=mode if isinstance(mode, Implicit) else implicit())
    checks.choice("hypergradient mode", mode, MODES)
    return plan if mode == "auto" else plan._replace(is_forward=mode == "forward")


def _name_mode(plan: Plan) -> str:
    if plan.implicit is not None:
        return "implicit"
    name = "forward" if plan.is_forward else "reverse"
    return name if plan.last_steps is None else f"truncated {name}"


def _as_recipe(
    recipe: Recipe,
    indices: tuple[int, ...],
    values: Sequence[Array],
) -> Any:
    """Return a recipe of these values, and 0 for all other leaves."""
    leaves, structure = jax.tree.flatten(recipe)
    # Integers and random keys among the leaves stay as they are.
    filled = [jnp.zeros_like(leaf) if has_gradient(leaf) else leaf for leaf in leaves]
    for index, value in zip(indices, values, strict=True):
        filled[index] = value
    return jax.tree.unflatten(structure, filled)


def _expect_finite(
    value: Array,
    slopes: Sequence[Array],
    paths: Sequence[str],
) -> None:
    """Raise NonFiniteError if the score or a derivative is not finite."""
    advice = "lower the rate, or shorten the run: it has diverged, or its gradient has exploded"
    # A score that is not finite explains derivatives that are not.
    if not np.isfinite(value):
        raise NonFiniteError(
            "hypergradient score",
            "a finite number",
            value,
            advice,
        )
    for path, slope in zip(paths, slopes, strict=True):
        if not np.isfinite(slope).all():
            where = f"hypergradient {path}"
            raise NonFiniteError(
                where,
                "a finite derivative",
                checks.show(slope),
                advice,
            )


def _warn_of_growth(ratio: Array | None) -> None:
    # NaN, of a gradient of 0, compares as False.
    if ratio is not None and ratio > EXPLOSION:
        message = (
            f"hypergradient: the norm grew by a factor of {float(ratio):.3g} over the second half "
            "of the run, so the gradient explodes and is no direction of descent; lower the "
            "learning rate, shorten the run, or give mode=search.truncated(steps)"
        )
        # Level 3 is the line that called hypergradient.
        warnings.warn(message, stacklevel=3)
