"""Implicit derivatives of the solution of a converged training run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.optim import global_norm
from fnn.optim.transform import stop_frozen_gradients
from fnn.search.numbers import is_initial
from fnn.train.gradients import make_objective
from fnn.train.inputs import take_examples
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe
from fnn.train.step import prepare_batch, start_on_data, steps_per_epoch
from fnn.types import Data, Params, Result, Scalar, TrainState

SOLVERS = ("cg", "neumann")
# Parts of a recipe that change how the solution is found, not the solution.
METHOD = ("optimizer", "early_stopping", "measures")


@dataclass(frozen=True)
class Implicit:
    """The mode of `implicit`.

    Attributes:
        solver: "cg" or "neumann".
        iterations: Most products with the Hessian matrix.
        damping: Added to the diagonal of the Hessian matrix.
        rate: Step of the Neumann series.
        tolerance: Relative residual above which the gradient counts as biased.
    """

    solver: str
    iterations: int
    damping: float
    rate: float
    tolerance: float


def implicit(
    *,
    solver: str = "cg",
    iterations: int = 100,
    damping: float = 0.0,
    rate: float = 0.1,
    tolerance: float = 1e-3,
) -> Implicit:
    """Differentiate the solution of a converged run; for `hypergradient(mode=...)`.

    With the training objective F(θ, h) over all of the data and H = d²F/dθ²,

        d score / dh = ∂score/∂h - (d²F/dh dθ) v,  where (H + damping I) v = ∂score/∂θ

    at the last parameters of the run, where dF/dθ is 0. F is the mean over examples in training
    mode, with the penalties. A decay within the optimizer is not part of it: give it as a
    `regularizer` [Pedregosa 2016, arXiv:1602.02355; Lorraine et al. 2020, arXiv:1911.02590].

    Args:
        solver: "cg", conjugate gradients, for a positive definite Hessian matrix; or "neumann",
            v = rate Σ (I - rate (H + damping I))^i ∂score/∂θ.
        iterations: Most products with the Hessian matrix, >= 1.
        damping: Added to the diagonal of the Hessian matrix, >= 0.
        rate: Step of the Neumann series, > 0, below 2 / the largest eigenvalue of H + damping I.
        tolerance: Relative residual of the solution and of the linear system above which the
            gradient counts as biased, > 0.

    Raises:
        ConfigError: An argument is out of range.
    """
    checks.choice("implicit solver", solver, SOLVERS)
    checks.whole("implicit iterations", iterations)
    checks.number("implicit damping", damping, "[0, inf)")
    checks.number("implicit rate", rate, "(0, inf)")
    checks.number("implicit tolerance", tolerance, "(0, inf)")
    # They are static in the program of `hypergradient`, so that other values compile it again.
    return Implicit(
        solver,
        iterations,
        float(damping),
        float(rate),
        float(tolerance),
    )


def expect_solution_numbers(recipe: Recipe, paths: Iterable[str]) -> None:
    """Raise ConfigError for numbers that the solution of a converged run does not depend on."""
    given = list(paths)
    # The solution does not depend on the point where the run began.
    wrong = [path for path in given if path.split(".")[0] in METHOD or is_initial(recipe, path)]
    if wrong:
        _refuse("implicit", wrong, given)


def expect_late_numbers(recipe: Recipe, paths: Iterable[str]) -> None:
    """Raise ConfigError for numbers that act on the first parameters of a run alone."""
    given = list(paths)
    wrong = [path for path in given if is_initial(recipe, path)]
    if wrong:
        _refuse("truncated", wrong, given)


def expect_dependence(slopes: Mapping[str, Array], residual: Array | None) -> None:
    """Raise ConfigError if the score does not depend on the solution, or that not on a number.

    Args:
        slopes: The derivatives by path.
        residual: Of the linear system, NaN if the derivative of the score is 0.
    """
    if residual is not None and np.isnan(residual):
        raise ConfigError(
            "hypergradient score",
            "a function of the last parameters of the run, as implicit mode requires",
            "one whose derivative by them is 0",
            'use train.evaluate(recipe, result.train_state, ...), or give mode="reverse"',
        )
    # A derivative of exactly 0 is the sign of a number that the solution does not have.
    wrong = [path for path, slope in slopes.items() if not np.any(slope)]
    if wrong:
        _refuse("implicit", wrong, list(slopes))


def _refuse(
    mode: str,
    wrong: list[str],
    given: list[str],
) -> None:
    others = tuple(path for path in given if path not in wrong)
    advice = 'give mode="reverse"'
    if others:
        advice += f", or paths={others}"
    raise ConfigError(
        "hypergradient paths",
        f"numbers whose effect {mode} mode can find",
        f"{', '.join(wrong)}, by which the derivative would be 0",
        advice,
    )


def differentiate_solution(
    options: Implicit,
    with_numbers: Callable[[list[Array]], Any],
    numbers: list[Array],
    result: Result,
    score: Callable[[Recipe, Result], Array],
    data: Data,
    batch_size: int,
) -> tuple[Array, list[Array], Array]:
    """Return the score of a converged run, its derivatives by the numbers, and the residual.

    Args:
        options: From `implicit`.
        with_numbers: (numbers) -> recipe.
        numbers: Arrays to differentiate by.
        result: The result of the run.
        score: (recipe, result) -> scalar.
        data: Validated (inputs, targets).
        batch_size: Examples that pass through the network at once.
    """
    last = result.train_state

    def score_at(numbers: list[Array], params: Params) -> Array:
        live = with_numbers(numbers)
        # Parts are built in the outermost trace of their numbers.
        _ = live.built
        params = stop_frozen_gradients(last.opt_state, params)
        # Without a state of the optimizer, these parameters are evaluated, not an average.
        state = last._replace(params=params, opt_state=())
        return score(live, Result(state, result.history))

    def objective(numbers: list[Array], params: Params) -> Scalar:
        live = with_numbers(numbers)
        _ = live.built
        params = stop_frozen_gradients(last.opt_state, params)
        return _objective(
            live,
            last._replace(params=params),
            data,
            batch_size,
        )

    # Of the training objective, by the parameters.
    gradient = jax.grad(objective, 1)

    def hessian_product(v: Params) -> Params:
        # Forward over reverse: a product costs about two gradients, and no matrix is made.
        _, product = jax.jvp(lambda params: gradient(numbers, params), (last.params,), (v,))
        return jax.tree.map(lambda a, b: a + trees.knob(options.damping, a) * b, product, v)

    value, (direct, wanted) = jax.value_and_grad(score_at, (0, 1))(numbers, last.params)
    # One solve for all numbers.
    v = _solve(options, hessian_product, wanted)

    def slope_along(numbers: list[Array]) -> Scalar:
        # <dF/dθ, v>
        _, slope = jax.jvp(lambda params: objective(numbers, params), (last.params,), (v,))
        return slope

    # The derivative of <dF/dθ, v> by h is (d²F/dh dθ) v.
    mixed = jax.grad(slope_along)(numbers)
    # ∂score/∂h - (d²F/dh dθ) v, as in `implicit`.
    slopes = [a - b for a, b in zip(direct, mixed, strict=True)]
    # Of the linear system, and of the condition that the run has converged.
    error = jax.tree.map(jnp.subtract, hessian_product(v), wanted)
    # The gradient at the first parameters is the scale for that at the last ones.
    first = start_on_data(with_numbers(numbers), last.key, data).params
    # NaN if the score does not depend on the parameters.
    unsolved = global_norm(error) / global_norm(wanted)
    steepness = global_norm(gradient(numbers, last.params)) / global_norm(gradient(numbers, first))
    # The larger one decides, and NaN is passed on.
    return value, slopes, jnp.maximum(unsolved, steepness)


def _solve(
    options: Implicit,
    product: Callable[[Params], Params],
    wanted: Params,
) -> Params:
    """Solve product(v) = wanted."""
    if options.solver == "cg":
        solve = jax.scipy.sparse.linalg.cg
        # The tolerance is far below any that matters, so that the iterations decide.
        v, _ = solve(
            product,
            wanted,
            tol=1e-10,
            maxiter=options.iterations,
        )
        return v

    def step(_: int, v: Params) -> Params:
        # v <- v + rate (wanted - product(v)), the partial sums of the series.
        return jax.tree.map(
            lambda v, wanted, product: v + options.rate * (wanted - product),
            v,
            wanted,
            product(v),
        )

    # The term of i = 0.
    start = jax.tree.map(lambda wanted: options.rate * wanted, wanted)
    return jax.lax.fori_loop(
        1,
        options.iterations,
        step,
        start,
    )


def _objective(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    batch_size: int,
) -> Scalar:
    """Return the training objective over all of the data, batch by batch."""
    examples = count_examples(data)
    # The noise is that of the epoch which would follow.
    epoch = train_state.step // steps_per_epoch(data, batch_size)

    # The backward pass computes a batch again, so that memory holds one batch.
    @jax.checkpoint
    def value_of(rows: Array) -> Scalar:
        inputs, targets = take_examples(data, rows)
        batch = prepare_batch(
            recipe,
            train_state,
            epoch,
            inputs,
            targets,
            rows,
        )
        return make_objective(recipe, train_state, *batch)(train_state.params)

    count, rest = divmod(examples, batch_size)
    # (count, batch_size)
    rows = jnp.arange(count * batch_size).reshape(count, batch_size)
    # The mean over a batch, times its size, is a sum over its examples.
    total = batch_size * jax.lax.map(value_of, rows).sum()
    # The remainder, which fills no batch.
    if rest:
        total += rest * value_of(jnp.arange(examples - rest, examples))
    return total / examples
