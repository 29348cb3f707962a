"""Random search and grid search."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.samplers import unit_points
from fnn.search.score import Score, find_score
from fnn.search.space import Space, as_space
from fnn.search.trials import Trials, hyperparameter_columns
from fnn.train.figures import VALID_LOSS
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState
from fnn.values import expect_arguments, signature_of

# Uses of the key of a search.
POINTS, RUNS = 0, 1


class Options(TypedDict, total=False):
    """The options that all searches have in common; see `search.random`."""

    seeds: int
    score: str
    mode: str | None
    keep: int
    lanes: int | str


@dataclass(frozen=True)
class Settings:
    """The options of a search with their defaults.

    Attributes:
        seeds: Runs of each trial.
        score: Name of the figure by which trials are compared.
        mode: "min" or "max"; None for the direction of the figure.
        keep: Number of the best trials whose train states are kept.
        lanes: Number of trials at a time, or "auto".
    """

    seeds: int = 1
    score: str = VALID_LOSS
    mode: str | None = None
    keep: int = 1
    lanes: int | str = "auto"


class Finished(NamedTuple):
    """Trials that have been trained together.

    Attributes:
        indices: Of the trials, (n,).
        scores: (n, seeds).
        figures: By name, (n, seeds, epochs).
        train_states: Stacked, of each seed.
        lanes: Their programs.
    """

    indices: np.ndarray
    scores: np.ndarray
    figures: dict[str, np.ndarray]
    train_states: list[TrainState]
    lanes: Lanes


def random(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    trials: int,
    sampler: str = "random",
    **options: Unpack[Options],
) -> Trials:
    """Random search: train recipes drawn from a space, many of them as one compiled program.

        space = train.recipe(network, optim.adam(search.log_uniform(1e-4, 1e-1)))
        trials = search.random(key, space, data, valid=valid, epochs=5, batch_size=64, trials=64)
        print(trials.best.recipe)

    Trials that differ in numbers alone share a compilation, also with other searches. Each option
    of a `choice` of structure, such as a width, compiles once. All trials have the same keys, hence
    the same order of examples, and comparisons between them are paired.

    Args:
        key: From `jax.random.key`. It determines the trials and their runs.
        space: A recipe with distributions in the place of numbers and choices, or a `search.space`.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of each trial.
        batch_size: Examples per step.
        valid: (inputs, targets) by which trials are compared.
        trials: Number of trials.
        sampler: "random" for independent trials; "sobol" or "halton" for scrambled sequences that
            fill the space more evenly [Bergstra and Bengio 2012, JMLR 13:281].
        options: `seeds=1`, runs of each trial, whose scores are averaged. `score="valid_loss"`,
            name of the figure by which trials are compared. `mode=None`, "min" or "max" for a
            metric of your own. `keep=1`, number of the best trials whose train states are returned.
            `lanes="auto"`, number of trials at a time; "auto" measures whether trials are faster
            together or one after another, and how many fit into memory.

    Returns:
        The trials. Those that diverged have a score of NaN and the last ranks.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all trials are NaN or infinite.
    """
    checks.key("key", key)
    found = as_space("random", space)
    checks.whole("trials", trials)
    points = unit_points(
        jax.random.fold_in(key, POINTS), trials, len(found.distributions), sampler=sampler
    )
    drawn = [found.draw(point) for point in points]
    return run_trials(
        key, found, drawn, data, epochs=epochs, batch_size=batch_size, valid=valid, **options
    )


def grid(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    points: int | dict[str, int] = 5,
    **options: Unpack[Options],
) -> Trials:
    """Grid search: train the recipe of every combination of values.

    Args:
        key: From `jax.random.key`. It determines the runs.
        space: A recipe with distributions in the place of numbers and choices, or a `search.space`.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of each trial.
        batch_size: Examples per step.
        valid: (inputs, targets) by which trials are compared.
        points: Number of values of each interval, both ends included, evenly spaced in its scale;
            one for all, or by path. Of integers and choices, every value is taken.
        options: Those of `search.random`.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all trials are NaN or infinite.
    """
    checks.key("key", key)
    found = as_space("grid", space)
    counts = points if isinstance(points, dict) else dict.fromkeys(found.distributions, points)
    for path in counts.keys() - found.distributions.keys():
        known = ", ".join(found.distributions)
        raise ConfigError("grid points", f"one of {known}", repr(path), "check the path")
    axes = []
    for path, distribution in found.distributions.items():
        count = checks.whole(f"grid points {path}", counts.get(path, 5))
        axes.append([(path, value) for value in distribution.points(count)])
    drawn: list[tuple[Recipe, dict[str, Any]]] = []
    for combination in itertools.product(*axes):
        recipe, values = found.choose(dict(combination))
        # Hyperparameters of options that were not chosen do not make other trials.
        if not any(recipe == other for other, _ in drawn):
            drawn.append((recipe, values))
    return run_trials(
        key, found, drawn, data, epochs=epochs, batch_size=batch_size, valid=valid, **options
    )


def run_trials(
    key: RandomKey,
    space: Space,
    drawn: Sequence[tuple[Recipe, dict[str, Any]]],
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None,
    **options: Unpack[Options],
) -> Trials:
    """Train the recipes of trials, and collect the results.

    Args:
        key: The key of the search.
        space: The space.
        drawn: The recipe and the hyperparameters of each trial.
        data: (inputs, targets).
        epochs: Passes over the data.
        batch_size: Examples per step.
        valid: (inputs, targets) for validation, or None.
        options: Those of `search.random`.
    """
    settings = expect_settings(options)
    recipes = [recipe for recipe, _ in drawn]
    groups = group_by_structure(recipes)
    firsts = [recipes[indices[0]] for indices in groups]
    task = prepare_task(firsts, data, valid, epochs=epochs, batch_size=batch_size)
    score = find_score(firsts[0], settings.score, settings.mode, has_valid=valid is not None)
    scores = np.full((len(recipes), settings.seeds), np.nan)
    histories: dict[str, np.ndarray] = {}
    kept: dict[int, tuple[TrainState, ...]] = {}
    for finished in train_groups(key, recipes, groups, task, score, settings):
        scores[finished.indices] = finished.scores
        for name, rows in finished.figures.items():
            empty = np.full((*scores.shape, epochs), np.nan)
            histories.setdefault(name, empty)[finished.indices] = rows
        kept = _keep(kept, finished, score, scores.mean(1), settings.keep)
    expect_finite_score(score, scores)
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    trained = np.full(len(recipes), epochs)
    return Trials(space, recipes, columns, scores, histories, trained, score, kept)


def train_groups(
    key: RandomKey,
    recipes: Sequence[Recipe],
    groups: Sequence[np.ndarray],
    task: Task,
    score: Score,
    settings: Settings,
) -> Iterator[Finished]:
    """Train the trials of each group in batches, and yield the results of each batch.

    Args:
        key: The key of the search.
        recipes: Of all trials.
        groups: The indices of the trials of each structure.
        task: The data and the length of the runs.
        score: The figure by which trials are compared.
        settings: The options of the search.
    """
    epoch_length = steps_per_epoch(task.data, task.batch_size)
    for group in groups:
        lanes = Lanes(recipes[group[0]], task, len(group), settings.lanes)
        # Trials one after another are handed on in batches too.
        size = max(lanes.size, min(len(group), 8))
        for indices in np.split(group, range(size, len(group), size)):
            part = [recipes[index] for index in indices]
            states, rows, scores = [], [], []
            for seed in range(settings.seeds):
                started = lanes.start(seed_key(key, seed), part)
                advanced, figures = lanes.advance(part, started, task.epochs)
                finished = lanes.finish(advanced)
                epochs = np.asarray(finished.step) // epoch_length
                scores.append(score.of(figures, epochs))
                states.append(finished)
                rows.append(figures)
            figures = {name: np.stack([one[name] for one in rows], 1) for name in rows[0]}
            yield Finished(indices, np.stack(scores, 1), figures, states, lanes)


def seed_key(key: RandomKey, seed: int) -> RandomKey:
    """Return the key of the runs of a seed, the same for all trials."""
    return jax.random.fold_in(jax.random.fold_in(key, RUNS), seed)


def group_by_structure(recipes: Sequence[Recipe]) -> list[np.ndarray]:
    """Return the indices of the recipes of each structure, in the order of the first ones."""
    groups: dict[Any, list[int]] = {}
    for index, recipe in enumerate(recipes):
        leaves, structure = jax.tree.flatten(recipe)
        shapes = tuple(map(np.shape, leaves))
        groups.setdefault((structure, shapes), []).append(index)
    return [np.array(indices) for indices in groups.values()]


def expect_settings(options: Options) -> Settings:
    """Return the options with defaults; an FnnError if one is not known or not valid."""
    expect_arguments("search", signature_of(Settings), (), options)
    settings = Settings(**options)
    checks.whole("seeds", settings.seeds)
    checks.whole("keep", settings.keep, 0)
    if settings.lanes != "auto":
        checks.whole("lanes", settings.lanes)
    return settings


def expect_finite_score(score: Score, scores: np.ndarray) -> None:
    """Raise ConfigError if no trial has a finite score."""
    if not np.isfinite(score.cost(scores.mean(1))).any():
        raise ConfigError(
            f"search {score.name}",
            "a finite score of at least one trial",
            f"{len(scores)} trials, all of them NaN or infinite",
            "narrow the space, such as the upper end of the learning rate",
        )


def _keep(
    kept: dict[int, tuple[TrainState, ...]],
    finished: Finished,
    score: Score,
    scores: np.ndarray,
    count: int,
) -> dict[int, tuple[TrainState, ...]]:
    """Return the train states of the best trials so far, given those of finished ones."""
    candidates = np.array([*kept, *finished.indices], int)
    # Of equal scores the earlier trial is kept, as in the ranks.
    candidates.sort()
    best = candidates[score.order(scores[candidates])][:count]
    places = {int(index): place for place, index in enumerate(finished.indices)}
    take = finished.lanes.take
    return {
        int(index): kept[int(index)]
        if int(index) in kept
        else tuple(take(states, places[int(index)]) for states in finished.train_states)
        for index in best
    }
