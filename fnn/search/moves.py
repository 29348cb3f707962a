"""Moves of hyperparameters: how members of a population copy each other and change."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ConfigError
from fnn.search.distributions import Distribution
from fnn.search.samplers import host_generator
from fnn.search.space import Space
from fnn.train.recipe import Recipe
from fnn.types import RandomKey

CHANGES = 2  # use of the key of a search; see POINTS in random.py and RUNS in execution.py
UP, DOWN = 1.2, 0.8  # factors of a perturbation
# Probabilities at one standard deviation below and above the mean of a normal distribution.
ONE_DEVIATION = (0.15865525393145707, 0.8413447460685429)


class Moves(NamedTuple):
    """The random choices of a round, or of several ones with another first axis.

    Attributes:
        parent: Which of the best members is copied, in [0, 1), (members,).
        resampled: Encoded values drawn from the space, (members, hyperparameters).
        is_resampled: Whether a value is replaced by the drawn one, (members, hyperparameters).
        change: Relative change of a value otherwise, (members, hyperparameters).
    """

    parent: Any
    resampled: Any
    is_resampled: Any
    change: Any


class Ranges(NamedTuple):
    """How each hyperparameter moves; arrays (hyperparameters,).

    Attributes:
        low: Smallest encoded value.
        high: Largest encoded value.
        unit: The amount that a relative change multiplies; NaN for the value.
        is_whole: Whether encoded values are integers.
    """

    low: np.ndarray
    high: np.ndarray
    unit: np.ndarray
    is_whole: np.ndarray


def evolve(
    values: jax.Array, cost: jax.Array, moves: Moves, count: Any, ranges: Ranges
) -> tuple[jax.Array, jax.Array]:
    """Return the parent of each member, and the changed hyperparameters.

    The `count` members of highest cost, and all diverged ones, copy members drawn uniformly from
    the `count` members of lowest cost. Of equal costs the lower index is better.

    Args:
        values: Encoded hyperparameters, (members, hyperparameters).
        cost: (members,), inf for members that diverged.
        moves: The random choices.
        count: Number of members that copy.
        ranges: How each hyperparameter moves.
    """
    members = len(cost)
    # Of equal members the one with the lower number ranks first.
    order = jnp.argsort(cost, stable=True)
    # The inverse permutation, (members,).
    rank = jnp.zeros(members, jnp.int32).at[order].set(jnp.arange(members, dtype=jnp.int32))
    is_finite = jnp.isfinite(cost)
    # A diverged member is never a parent. If all are, none copies.
    candidates = jnp.minimum(count, is_finite.sum(dtype=jnp.int32))
    # The worst ones copy, and all that diverged.
    copies = ((rank >= members - count) | ~is_finite) & (candidates > 0)
    # Uniform among the best members: floor gives each the same probability.
    choice = jnp.floor(moves.parent * candidates.astype(jnp.float32)).astype(jnp.int32)
    # A product in float32 may round up to the number of candidates.
    choice = jnp.clip(choice, 0, jnp.maximum(candidates - 1, 0))
    # A member that does not copy is its own parent.
    parents = jnp.where(copies, order[choice], jnp.arange(members))
    # (members, hyperparameters)
    copied = values[parents]
    # Both are computed for all members, since shapes do not depend on costs.
    changed = jnp.where(moves.is_resampled, moves.resampled, perturb(copied, moves.change, ranges))
    return parents, jnp.where(copies[:, None], changed, values)


def perturb(
    values: Any,
    change: Any,
    ranges: Ranges,
) -> jax.Array:
    """Return values that are changed relative to themselves or to a unit, within their ranges.

    Args:
        values: Encoded, (members, hyperparameters).
        change: Such as 0.2 or -0.2, (members, hyperparameters).
        ranges: How each hyperparameter moves.
    """
    low, high, unit, is_whole = (jnp.asarray(part)[None] for part in ranges)
    # NaN stands for a change relative to the value itself.
    moved = values + change * jnp.where(jnp.isnan(unit), values, unit)
    # Rounding would leave a small integer as it is.
    direction = jnp.sign(change)
    whole = jnp.round(moved)
    whole = jnp.where(direction * (whole - values) < 1, values + direction, whole)
    return jnp.clip(jnp.where(is_whole, whole, moved), low, high)


class Axis:
    """One hyperparameter as a number of a compiled program.

    A choice is encoded as the index of its option, any other value as a float.

    Attributes:
        options: The options of a choice; None for other values.
        range: (low, high, unit, is_whole), see `Ranges`.
    """

    def __init__(self, distribution: Distribution):
        self._quantile = distribution.quantile
        is_finite = distribution.is_finite
        options = distribution.options
        # An array, of which a traced index can take an element.
        self.options = None if options is None else np.array(options)
        self._is_whole = is_finite
        # Of a choice, the first and the last index.
        low, high = distribution.ends or (0, len(distribution.examples) - 1)
        unit = np.nan
        if options is not None:
            # A change of an index is rounded up to one.
            unit = 0.0
        # A factor never changes the sign of a value.
        elif low < 0:
            below, above = map(self._quantile, ONE_DEVIATION)
            # Half of the central 68 %, the standard deviation of a normal distribution.
            unit = (above - below) / 2
        self.range = (low, high, unit, is_finite)

    def quantile(self, u: float) -> float:
        """Return the encoded value of a probability."""
        if self.options is None:
            return self._quantile(u)
        return min(int(u * len(self.options)), len(self.options) - 1)

    def encode(
        self,
        path: str,
        values: Any,
    ) -> np.ndarray:
        """Return encoded values; ConfigError if one is not within the space.

        Args:
            path: Of the hyperparameter, for the error.
            values: (n,).
        """
        column = np.asarray(values)
        low, high = self.range[:2]
        if self.options is None:
            # In the precision of the program.
            numbers = column.astype(np.float32)
            # The ends are rounded alike, or the largest value could be refused.
            is_valid = (numbers >= np.float32(low)) & (numbers <= np.float32(high))
            encoded = numbers
        else:
            options = self.options.astype(np.float32)
            # (n, 1) == (1, options) -> (n, options)
            matches = column.astype(np.float32)[:, None] == options[None]
            is_valid = matches.any(1)
            encoded = matches.argmax(1).astype(np.float32)
        if not is_valid.all():
            wrong = column[~is_valid][0]
            known = f"[{low}, {high}]" if self.options is None else f"{self.options.tolist()}"
            raise ConfigError(
                path,
                f"a value within {known}",
                wrong,
                "check the space",
            )
        return encoded

    def decode(self, encoded: Any) -> Any:
        """Return the values of encoded ones: integers as integers, also traced ones."""
        if not self._is_whole:
            return encoded
        is_traced = isinstance(encoded, jax.Array)
        # Values are encoded as floats, so that all of them fit one array.
        whole = jnp.round(encoded).astype(jnp.int32) if is_traced else np.round(encoded).astype(int)
        if self.options is None:
            return whole
        return jnp.asarray(self.options)[whole] if is_traced else self.options[whole]


class Encoding:
    """A space whose hyperparameters are a vector, and whose recipes are made of it when traced.

    Attributes:
        recipe: One of its recipes.
        axes: The hyperparameters.
        ranges: How each one moves.
        constants: The leaves of the recipe that do not depend on hyperparameters.
        identity: The computation of all other leaves, equal for spaces of the same one.
    """

    def __init__(
        self,
        space: Space,
        axes: Sequence[Axis],
        recipe: Recipe,
    ):
        self.recipe = recipe
        self.axes = axes
        columns = zip(*(axis.range for axis in axes), strict=True)
        # (hyperparameters,) each
        low, high, unit, is_whole = (np.array(column, np.float32) for column in columns)
        self.ranges = Ranges(
            low,
            high,
            unit,
            is_whole.astype(bool),
        )
        self._space = space
        dtype = jnp.result_type(float)
        zeros = jax.ShapeDtypeStruct((len(axes),), jnp.float32)
        # The leaves are noted while they are traced, since a jaxpr does not keep them.
        found: list[Any] = []

        def leaves_of(values: jax.Array) -> list[Any]:
            found[:] = jax.tree.leaves(self._choose(values))
            return [leaf for leaf in found if isinstance(leaf, jax.core.Tracer)]

        # Leaves that depend on hyperparameters are tracers, all others constants.
        traced = jax.make_jaxpr(leaves_of)(zeros)
        self._is_traced = [isinstance(leaf, jax.core.Tracer) for leaf in found]
        self.constants = [
            np.asarray(leaf, dtype) if isinstance(leaf, float) else np.asarray(leaf)
            for leaf in found
            if not isinstance(leaf, jax.core.Tracer)
        ]
        # Ranges are constants of the program.
        bounds = [part.tobytes() for part in self.ranges]
        arrays = [np.asarray(one).tobytes() for one in traced.consts]
        # The text of the computation is the same for spaces that compute their leaves alike.
        self.identity = (str(traced.jaxpr), tuple(self._is_traced), *bounds, *arrays)

    def quantiles(self, points: np.ndarray) -> np.ndarray:
        """Return encoded values of probabilities (n, hyperparameters)."""
        columns = [
            [axis.quantile(float(u)) for u in column]
            for axis, column in zip(self.axes, points.T, strict=True)
        ]
        # (hyperparameters, n) -> (n, hyperparameters)
        return np.array(columns, np.float32).T.reshape(points.shape)

    def recipe_of(
        self,
        values: jax.Array,
        constants: Sequence[Any],
    ) -> Recipe:
        """Return the recipe of traced hyperparameters.

        Args:
            values: Encoded, (hyperparameters,).
            constants: All other leaves.
        """
        recipe = self._choose(values)
        leaves, structure = jax.tree.flatten(recipe)
        # Traced leaves and constants alternate in the order of the recipe.
        rest = iter(constants)
        filled = [
            leaf if is_traced else next(rest)
            for leaf, is_traced in zip(leaves, self._is_traced, strict=True)
        ]
        made = jax.tree.unflatten(structure, filled)
        # A part that is first built within a loop would hold tracers of that loop.
        _ = made.built
        return made

    def _choose(self, values: jax.Array) -> Recipe:
        chosen = {
            path: axis.decode(values[place])
            for place, (path, axis) in enumerate(
                zip(self._space.distributions, self.axes, strict=True)
            )
        }
        try:
            return self._space.choose(chosen)[0]
        except jax.errors.ConcretizationTypeError as error:
            raise ConfigError(
                "population space",
                "a function that can be traced",
                "one that uses the value of a hyperparameter in Python",
                "compute with jax.numpy, and leave structure constant",
            ) from error


def encode_space(space: Space) -> Encoding:
    """Return the encoding of a space; ConfigError if a hyperparameter is structure.

    Args:
        space: The space.
    """
    # The hyperparameters are changed one at a time.
    first = {path: one.examples[0] for path, one in space.distributions.items()}
    axes = []
    recipe = None
    structure = None
    for path, distribution in space.distributions.items():
        expected = f"numbers in the place of {path}"
        advice = "members cannot change structure: search it by search.random or search.halving"
        if not distribution.is_number:
            raise ConfigError(
                "population space",
                expected,
                distribution,
                advice,
            )
        for example in distribution.examples:
            made, _ = space.choose({**first, path: example})
            leaves, treedef = jax.tree.flatten(made)
            found = treedef, [np.shape(leaf) for leaf in leaves]
            if recipe is None:
                recipe = made
                structure = found
            # A number may decide structure within a function of the user.
            if found != structure:
                raise ConfigError(
                    "population space",
                    expected,
                    distribution,
                    advice,
                )
        axes.append(Axis(distribution))
    assert recipe is not None  # a space has at least one hyperparameter
    return Encoding(space, axes, recipe)


def draw_moves(
    key: RandomKey, encoding: Encoding, rounds: int, members: int, resample: float
) -> Moves:
    """Draw all random choices of a search; those of a round do not depend on their number.

    Args:
        key: The key of the search.
        encoding: Of the space.
        rounds: Number of rounds.
        members: Number of members.
        resample: Probability that a hyperparameter is drawn again.
    """
    generator = host_generator(jax.random.fold_in(key, CHANGES))
    shape = (members, len(encoding.axes))
    drawn = []
    # Round by round, so that more rounds leave the draws of the first ones as they are.
    for _ in range(rounds):
        drawn.append(
            Moves(
                parent=generator.random(members, np.float32),
                resampled=encoding.quantiles(generator.random(shape)),
                is_resampled=generator.random(shape) < resample,
                change=np.where(generator.random(shape) < 0.5, UP, DOWN).astype(np.float32) - 1,
            )
        )
    # (rounds, members, ...) each
    return Moves(*(np.stack(parts) for parts in zip(*drawn, strict=True)))
