"""Curvature of the objective and noise of its gradient, at one train state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.diagnose.instruments import evenly_spaced
from fnn.errors import ConfigError
from fnn.optim.transform import stop_frozen_gradients
from fnn.train.gradients import gradients, make_objective
from fnn.train.inputs import take_examples, validate_examples
from fnn.train.instrumentation import unscaled_grads
from fnn.train.measure import count_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import expect_train_state
from fnn.types import Data, Number, Params, RandomKey, Scalar, TrainState

# v -> H v, for vectors of all parameters
Product = Callable[[Array], Array]


class Sharpness(NamedTuple):
    """The largest eigenvalue of a Hessian.

    Attributes:
        eigenvalue: The eigenvalue, a Rayleigh quotient.
        change: Its relative change in the last iteration.
        iterations: Number of products with the Hessian.
    """

    eigenvalue: Scalar
    change: Scalar
    iterations: Array


class NoiseScale(NamedTuple):
    """The noise of the gradient.

    Attributes:
        noise: tr Σ, the sum of the variances of the gradient of one example.
        signal: |G|², the square of the norm of the gradient without noise. The estimate is not
            biased, hence may be below 0 where the noise is much larger.
    """

    noise: Scalar
    signal: Scalar

    @property
    def scale(self) -> Scalar:
        """tr Σ / |G|², in examples: the batch size with as much noise as signal; inf for none."""
        ratio = self.noise / self.signal
        return jnp.where(self.signal > 0, ratio, jnp.inf)


def sharpness(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    examples: int = 1024,
    iterations: int = 100,
    tolerance: Number = 1e-3,
) -> Sharpness:
    """Largest eigenvalue of the Hessian of the objective, by power iteration.

    v <- H v / |H v|, λ = v · H v. Where the eigenvalue of largest magnitude is negative, the
    iteration is repeated with H - λ I. Gradient descent with rate η is stable up to λ = 2 / η, and
    with momentum β up to (2 + 2 β) / η; runs on large batches hover there [Cohen et al. 2021,
    arXiv:2103.00065].

    The objective is loss + penalty in training mode, with the noise of the next step. Frozen
    parameters are constants.

    Args:
        key: Draws the first vector.
        recipe: From `train.recipe`, with an optimizer.
        train_state: From `train.start`, or of a run of this recipe.
        data: (inputs, targets), arrays whose first axis is the example.
        examples: Maximum number of examples, evenly spaced in the data.
        iterations: Maximum number of products with the Hessian, >= 1; of each of the two
            iterations.
        tolerance: Relative change of the eigenvalue below which the iteration ends.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, `train_state` is not a train state,
            or a number is out of range.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    checks.key("sharpness key", key)
    expect_recipe("sharpness", recipe)
    expect_train_state("sharpness", train_state)
    checks.whole("sharpness examples", examples)
    checks.whole("sharpness iterations", iterations)
    checks.number("sharpness tolerance", tolerance, "[0, inf)")
    data = validate_examples("data", recipe, data)
    return _sharpness(recipe, train_state, data, key, tolerance, examples, iterations)


@per_recipe(static=(5, 6))
def _sharpness(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    key: RandomKey,
    tolerance: Number,
    examples: int,
    iterations: int,
) -> Sharpness:
    inputs, targets = evenly_spaced(data, examples)
    objective = make_objective(recipe, train_state, recipe.prepare(inputs), targets)
    flat, restore = ravel_pytree(train_state.params)

    def value(flat: Array) -> Scalar:
        return objective(stop_frozen_gradients(train_state.opt_state, restore(flat)))

    def product(v: Array) -> Array:
        return jax.jvp(jax.grad(value), (flat,), (v,))[1]

    start = jax.random.normal(key, flat.shape, flat.dtype)
    first = _iterate(product, start, tolerance, iterations)
    # Of largest magnitude. If it is negative, all eigenvalues of H - λ I are >= 0.
    shift = jnp.minimum(first.eigenvalue, 0)

    def shifted(v: Array) -> Array:
        return product(v) - shift * v

    rest = jnp.where(shift < 0, iterations, 0)
    second = _iterate(shifted, start, tolerance, rest)
    is_first = shift == 0
    return Sharpness(
        eigenvalue=jnp.where(is_first, first.eigenvalue, second.eigenvalue + shift),
        change=jnp.where(is_first, first.change, second.change),
        iterations=first.iterations + second.iterations,
    )


def _iterate(
    product: Product,
    start: Array,
    tolerance: Number,
    iterations: int | Array,
) -> Sharpness:
    """Return the eigenvalue of largest magnitude of a symmetric matrix, by power iteration."""

    def unit(v: Array) -> Array:
        norm = jnp.linalg.norm(v)
        return v / jnp.where(norm > 0, norm, 1)

    def turn(carry: tuple[Array, Sharpness]) -> tuple[Array, Sharpness]:
        v, before = carry
        image = product(v)
        eigenvalue = jnp.vdot(v, image)
        size = jnp.maximum(jnp.abs(eigenvalue), jnp.finfo(start.dtype).tiny)
        change = jnp.abs(eigenvalue - before.eigenvalue) / size
        return unit(image), Sharpness(eigenvalue, change, before.iterations + 1)

    def continues(carry: tuple[Array, Sharpness]) -> Array:
        _, found = carry
        # False for NaN.
        is_moving = found.change > tolerance
        return is_moving & (found.iterations < iterations)

    infinite = jnp.array(jnp.inf, start.dtype)
    zero = jnp.zeros((), start.dtype)
    none = Sharpness(zero, infinite, jnp.zeros((), jnp.int32))
    _, found = jax.lax.while_loop(continues, turn, (unit(start), none))
    return found


def noise_scale(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    batch_size: int = 32,
    batches: int = 16,
) -> NoiseScale:
    """Simple gradient noise scale tr Σ / |G|², from gradients of two batch sizes.

    Of k disjoint batches of b examples each, and of all B = k b examples together,
    tr Σ = (|G_b|² - |G_B|²) / (1/b - 1/B) and |G|² = (B |G_B|² - b |G_b|²) / (B - b), where |G_b|²
    is the mean over the batches. Both are unbiased [McCandlish et al. 2018, arXiv:1812.06162]. A
    batch much smaller than the scale is dominated by noise; a much larger one gains little.

    Args:
        key: Draws the examples.
        recipe: From `train.recipe`, with an optimizer.
        train_state: From `train.start`, or of a run of this recipe.
        data: (inputs, targets), arrays whose first axis is the example.
        batch_size: Examples of a small batch, b.
        batches: Number of batches k, >= 2.

    Raises:
        ConfigError: `recipe` is not a recipe with an optimizer, `train_state` is not a train state,
            a number is out of range, or the data has fewer than b k examples.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    checks.key("noise_scale key", key)
    expect_recipe("noise_scale", recipe)
    expect_train_state("noise_scale", train_state)
    checks.whole("noise_scale batch_size", batch_size)
    checks.whole("noise_scale batches", batches, 2)
    data = validate_examples("data", recipe, data)
    examples = count_examples(data[1])
    if batch_size * batches > examples:
        raise ConfigError(
            "noise_scale batches",
            f"at most {examples // batch_size} batches of {batch_size} for {examples} examples",
            batches,
            "use fewer or smaller batches",
        )
    return _noise_scale(recipe, train_state, data, key, batch_size, batches)


@per_recipe(static=(4, 5))
def _noise_scale(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    key: RandomKey,
    batch_size: int,
    batches: int,
) -> NoiseScale:
    order = jax.random.permutation(key, count_examples(data[1]))
    indices = order[: batch_size * batches].reshape(batches, batch_size)

    def add(carry: tuple[Params, Array], row: tuple[Array, Array]) -> tuple[Any, None]:
        total, squares = carry
        index, examples = row
        inputs, targets = take_examples(data, examples)
        # The noise of the network, such as dropout, differs between batches.
        later = train_state._replace(step=train_state.step + index)
        found = gradients(recipe, later, recipe.prepare(inputs), targets)
        grads = unscaled_grads(train_state.opt_state, found.grads)
        return (jax.tree.map(jnp.add, total, grads), squares + _square(grads)), None

    def zeros(leaf: Array) -> Array:
        return jnp.zeros(leaf.shape, trees.wide(leaf))

    total = jax.tree.map(zeros, train_state.params)
    squares = jnp.zeros_like(_square(total))
    (total, squares), _ = jax.lax.scan(add, (total, squares), (jnp.arange(batches), indices))
    b, large = batch_size, batch_size * batches
    small_square = squares / batches
    large_square = _square(total) / batches**2
    noise = (small_square - large_square) / (1 / b - 1 / large)
    signal = (large * large_square - b * small_square) / (large - b)
    return NoiseScale(noise, signal)


def _square(tree: Params) -> Array:
    """Return the square of the norm of all arrays of a tree."""
    return sum((jnp.square(leaf).sum() for leaf in jax.tree.leaves(tree)), jnp.zeros(()))
