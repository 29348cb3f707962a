"""Averages of the weights of members: uniform, weighted, and the greedy soup."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.ensemble.members import Members, expect_members
from fnn.errors import ConfigError, NonFiniteError, ShapeError
from fnn.search.score import Score, expect_one_number, find_score
from fnn.train.evaluate import evaluate
from fnn.train.figures import VALID_LOSS, validation_name
from fnn.train.inputs import validate_examples
from fnn.train.recipe import Recipe
from fnn.types import Data, Weights


def average(members: Members, weights: Sequence[float] | jax.Array | None = None) -> Weights:
    """Average the weights of members: Σ wᵢ θᵢ / Σ wᵢ, of the parameters and of the state.

        soup = ensemble.average(members)
        soup = ensemble.refresh_statistics(key, members.recipe, soup, data, batch_size=128)
        train.evaluate(members.recipe, soup, test)

    It helps where the members lie in one basin of the loss, as after fine-tuning one pretrained
    network, or along one run. The average of networks of different initializations is usually no
    better than a random one. Averaged statistics of batch norm are not those of the averaged
    parameters; refresh them. The average of equal members is that member to the last bit
    [Wortsman et al. 2022, arXiv:2203.05482].

    Args:
        members: From `ensemble.collect`, `train` or `snapshots`, all of one structure.
        weights: Weight of each member, >= 0, (members,); None for equal ones.

    Raises:
        ConfigError: The members have several structures, or a weight is not a number >= 0.
        ShapeError: There is not one weight for each member.
    """
    expect_members("average", members)
    given = members.weights
    shares = _expect_shares(weights, len(members))

    def mean(leaves: jax.Array) -> jax.Array:
        # A count or a key has no average.
        if not jnp.issubdtype(leaves.dtype, jnp.floating):
            return leaves[0]
        wide = leaves.astype(trees.wide(leaves))  # (members, ...)
        # Distances from the first member: the mean of equal members is exact.
        distances = wide - wide[:1]
        own = shares.astype(wide.dtype)
        # (members,), (members, ...) -> (...)
        # Divided here, so that the given weights need no sum of 1.
        moved = jnp.tensordot(own, distances, 1) / own.sum()
        # Back to the dtype of the parameters, such as bfloat16.
        return (wide[0] + moved).astype(leaves.dtype)

    return jax.tree.map(mean, given)


def _expect_shares(weights: Any, count: int) -> jax.Array:
    """Return the weights of members as an array (members,), or raise an error."""
    if weights is None:
        # Weights are divided by their sum, so any equal numbers will do.
        return jnp.ones(count)
    try:
        shares = jnp.asarray(weights, jnp.result_type(float))
    except (TypeError, ValueError):
        got, advice = checks.show(weights), "as in weights=[0.7, 0.3]"
        raise ConfigError(
            "average weights",
            "a number for each member",
            got,
            advice,
        ) from None
    if shares.shape != (count,):
        expected = f"one weight for each of {count} members"
        advice = "give an array of shape (members,)"
        raise ShapeError(
            "average weights",
            expected,
            f"shape {shares.shape}",
            advice,
        )
    # Traced weights, as for a gradient by them, have no known values.
    if checks.is_concrete(shares):
        known = np.asarray(shares)
        if not (np.isfinite(known).all() and (known >= 0).all() and known.sum() > 0):
            advice = "choose weights whose sum is > 0"
            raise ConfigError(
                "average weights",
                "finite weights >= 0",
                known.tolist(),
                advice,
            )
    return shares


class Soup(NamedTuple):
    """The result of `greedy_soup`.

    Attributes:
        recipe: The recipe of the best member.
        weights: The average of the chosen members.
        chosen: Their indices, the best one first.
        score: The score of the average.
        scores: The score of each member, (members,).
        name: Name of the figure that is the score.
    """

    recipe: Recipe
    weights: Weights
    chosen: tuple[int, ...]
    score: float
    scores: np.ndarray
    name: str

    def __str__(self) -> str:
        names = ", ".join(map(str, self.chosen))
        best = self.scores[self.chosen[0]]
        return (
            f"soup of {len(self.chosen)} of {len(self.scores)} members: {names}\n"
            f"{self.name} {self.score:.4g}; best member {best:.4g}"
        )


def greedy_soup(
    members: Members,
    valid: Data,
    *,
    score: str = VALID_LOSS,
    mode: str | None = None,
    batch_size: int = 256,
    refresh: Callable[[Weights], Weights] | None = None,
) -> Soup:
    """Greedy model soup: average the members that improve a score, from the best member on.

        refresh = partial(ensemble.refresh_statistics, key, recipe, data=data, batch_size=64)
        soup = ensemble.greedy_soup(members, valid, score="valid_accuracy", refresh=refresh)
        train.evaluate(soup.recipe, soup.weights, test)

    Members are sorted by score. The soup begins with the best one. Each other member is tried once,
    in this order, and stays in the average only if the score becomes strictly better. Hence the
    score is never worse than that of the best member, on the data `valid`; estimate it on other
    data. Members whose loss is not finite are left out [Wortsman et al. 2022, arXiv:2203.05482].

    Args:
        members: From `ensemble.collect`, `train` or `snapshots`, all of one structure.
        valid: (inputs, targets) by which members and averages are scored.
        score: Name of the figure, "valid_loss" or that of a metric, such as "valid_accuracy".
        mode: "min" or "max"; None for the direction of the figure, which is known for the loss and
            for metrics of fnn.
        batch_size: Examples that pass through the network at once.
        refresh: (weights) -> weights with refreshed statistics of batch norm, applied to each
            average of two or more members; None for networks without batch norm.

    Raises:
        ConfigError: The members have several structures, or an argument is not of the type
            described here.
        FnnError: The data does not fit the recipe, as for `train.evaluate`.
        NonFiniteError: The loss of no member is finite.
    """
    expect_members("greedy_soup", members)
    first, _ = members[0]
    # Raises an error for members of several structures.
    _ = members.weights
    found = find_score(
        first,
        score,
        mode,
        has_valid=True,
        has_training=False,
        where="greedy_soup",
    )
    checks.whole("greedy_soup batch_size", batch_size)
    if refresh is not None and not callable(refresh):
        advice = "as in partial(ensemble.refresh_statistics, key, recipe, ...)"
        raise ConfigError(
            "greedy_soup refresh",
            "a function",
            checks.show(refresh),
            advice,
        )
    data = validate_examples("valid", first, valid)
    if not all(map(checks.is_concrete, jax.tree.leaves((members, data)))):
        # The members are sorted and chosen on the host.
        raise ConfigError(
            "greedy_soup members",
            "known numbers in members and data",
            "traced ones",
            "call it outside of jax.jit, or use ensemble.average",
        )
    # A confusion matrix, for example, does not order members.
    expect_one_number("greedy_soup", found, first, data)
    # (members,), each evaluated with its own recipe.
    scores = np.array([_score(found, *member, data, batch_size) for member in members])
    order = found.order(scores)
    # Scores that are not finite are last, so the first one decides.
    best, *others = map(int, order)
    if not np.isfinite(scores[best]):
        advice = "lower the learning rate, and train one member first"
        raise NonFiniteError(
            f"greedy_soup {score}",
            "a finite score",
            scores.tolist(),
            advice,
        )
    # The loop of Wortsman et al. 2022, Recipe 1.
    chosen = [best]
    recipe, weights = members[best]
    best_score = scores[best]
    # Sums, so that a member is read once, and rounding does not add up from mean to mean.
    start = weights
    total = _distances(start, start)
    for index in others:
        own = _distances(members[index].weights, start)
        candidate_total = jax.tree.map(jnp.add, total, own)
        candidate = _moved(start, candidate_total, len(chosen) + 1)
        if refresh is not None:
            candidate = _expect_refreshed(refresh(candidate), candidate)
        value = _score(
            found,
            recipe,
            candidate,
            data,
            batch_size,
        )
        # A cost is lower for a better score, whatever its direction, and infinite for NaN.
        if found.cost(np.array([value]))[0] < found.cost(np.array([best_score]))[0]:
            chosen.append(index)
            weights, total = candidate, candidate_total
            best_score = value
    return Soup(
        recipe,
        weights,
        tuple(chosen),
        float(best_score),
        scores,
        score,
    )


@jax.jit
def _distances(weights: Weights, start: Weights) -> Weights:
    """Return the differences to other weights, 0 for counts and keys, which have no average."""

    def difference(leaf: jax.Array, first: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(())
        return leaf.astype(trees.wide(leaf)) - first.astype(trees.wide(first))

    return jax.tree.map(difference, weights, start)


@jax.jit
def _moved(start: Weights, total: Weights, count: jax.Array | int) -> Weights:
    """Return the average of `count` members, given the sum of their differences to the start."""

    def move(first: jax.Array, distance: jax.Array) -> jax.Array:
        if not jnp.issubdtype(first.dtype, jnp.floating):
            return first
        mean = first.astype(distance.dtype) + distance / jnp.asarray(count, distance.dtype)
        # Back to the dtype of the parameters, such as bfloat16.
        return mean.astype(first.dtype)

    return jax.tree.map(move, start, total)


def _score(
    score: Score,
    recipe: Recipe,
    weights: Weights,
    data: Data,
    batch_size: int,
) -> float:
    """Return the score of weights; NaN if their loss is not finite."""
    figures = evaluate(recipe, weights, data, batch_size=batch_size)
    # () -> (1, 1): one trial of one epoch
    rows = {validation_name(name): np.asarray(value)[None, None] for name, value in figures.items()}
    return float(score.of(rows, 1)[0])


def _expect_refreshed(weights: Any, like: Weights) -> Weights:
    """Return the result of `refresh`; an error unless it is Weights of the same structure."""
    if not isinstance(weights, Weights):
        advice = "return those of ensemble.refresh_statistics"
        raise ConfigError(
            "greedy_soup refresh",
            "Weights",
            checks.show(weights),
            advice,
        )
    # Another structure would fail only within the evaluation.
    trees.expect_like("greedy_soup refresh", weights, like)
    return weights
