"""Execution of a search: its trials in batches, the results collected, with a monitor between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import numpy as np

from fnn import checks
from fnn.data import digest
from fnn.errors import ConfigError, NonFiniteError
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.monitor import Collected, Monitor
from fnn.search.samplers import SAMPLERS
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.space import Space
from fnn.search.trials import Trials, hyperparameter_columns
from fnn.train.figures import VALID_LOSS
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState
from fnn.values import expect_arguments, signature_of

RUNS = 1  # use of the key of a search; see POINTS in random.py


class Options(TypedDict, total=False):
    """The options that all searches have in common; see `search.random`."""

    sampler: str
    seeds: int
    score: str
    mode: str | None
    keep: int
    lanes: int | str
    monitor: Monitor | None


@dataclass(frozen=True)
class Settings:
    """The options of a search with their defaults.

    Attributes:
        sampler: Of the points of the space.
        seeds: Runs of each trial.
        score: Name of the figure by which trials are compared.
        mode: "min" or "max"; None for the direction of the figure.
        keep: Number of the best trials whose train states are kept.
        lanes: Number of trials at a time, or "auto".
        monitor: Receiver of the results so far, as of `lab.search`; None for none.
    """

    sampler: str = SAMPLERS[0]
    seeds: int = 1
    score: str = VALID_LOSS
    mode: str | None = None
    keep: int = 1
    lanes: int | str = "auto"
    monitor: Monitor | None = None


class Batch(NamedTuple):
    """Trials that were trained in the same calls.

    Attributes:
        indices: Of the trials, (n,).
        scores: (n, seeds).
        figures: By name, (n, seeds, epochs).
        train_states: Stacked, of each seed.
    """

    indices: np.ndarray
    scores: np.ndarray
    figures: dict[str, np.ndarray]
    train_states: list[TrainState]


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
    # Trials that differ in numbers alone share a program.
    groups = group_by_structure(recipes)
    firsts = [recipes[indices[0]] for indices in groups]
    task = prepare_task(
        firsts,
        data,
        valid,
        epochs=epochs,
        batch_size=batch_size,
    )
    score = find_score(
        firsts[0],
        settings.score,
        settings.mode,
        has_valid=valid is not None,
    )
    expect_one_number(
        "search",
        score,
        firsts[0],
        task.data,
    )
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    scores = np.full((len(recipes), settings.seeds), np.nan)
    collected = Collected(
        score,
        scores,
        np.zeros(len(recipes), bool),
        columns,
    )
    if settings.monitor is not None:
        search = _describe(
            key,
            space,
            task,
            score,
            settings,
        )
        saved = settings.monitor.begin(search, len(recipes))
        if saved is not None:
            _restore(
                collected,
                *saved,
                key,
                recipes,
                task,
            )
    for number, group in enumerate(groups):
        _train_group(
            key,
            recipes,
            number,
            group,
            task,
            settings,
            collected,
        )
    expect_finite_score(score, collected.scores[collected.done])
    # A search that was stopped returns the trials that are done.
    done = np.flatnonzero(collected.done)
    places = {int(index): place for place, index in enumerate(done)}
    return Trials(
        space=space,
        recipes=[recipes[index] for index in done],
        hyperparameters={path: column[done] for path, column in columns.items()},
        scores=collected.scores[done],
        histories={name: rows[done] for name, rows in collected.histories.items()},
        epochs=np.full(len(done), epochs),
        score=score,
        kept={places[index]: states for index, states in collected.kept.items()},
    )


def _train_group(
    key: RandomKey,
    recipes: Sequence[Recipe],
    number: int,
    group: np.ndarray,
    task: Task,
    settings: Settings,
    collected: Collected,
) -> None:
    """Train the trials of one structure that are not done yet, in batches."""
    if collected.done[group].all():
        return
    # A resumed search has the same lanes, so that its numbers are the same to the last bit.
    width = collected.widths.get(number, settings.lanes)
    lanes = Lanes(
        recipes[group[0]],
        task,
        len(group),
        width,
    )
    # Saved with the results, for a resumed search.
    collected.widths[number] = lanes.size if lanes.is_mapped else 1
    monitor = settings.monitor
    # (batch,) each; the last one may be smaller.
    for indices in np.split(group, range(lanes.size, len(group), lanes.size)):
        if collected.done[indices].all():
            continue
        part = [recipes[index] for index in indices]
        batch = _train_batch(
            key,
            part,
            indices,
            lanes,
            settings,
            collected.score,
        )
        # A resumed search trains a batch that was interrupted from its beginning.
        if batch is None:
            return
        _collect(
            collected,
            batch,
            lanes,
            settings.keep,
        )
        if monitor is not None:
            monitor.report(collected)


def _train_batch(
    key: RandomKey,
    recipes: Sequence[Recipe],
    indices: np.ndarray,
    lanes: Lanes,
    settings: Settings,
    score: Score,
) -> Batch | None:
    """Train the trials of a batch with each seed; None if the monitor has stopped the search."""
    task = lanes.task
    epoch_length = steps_per_epoch(task.data, task.batch_size)
    monitor = settings.monitor
    # A monitor can stop the search after each epoch.
    length = task.epochs if monitor is None else 1
    # Of each seed.
    states, rows, scores = [], [], []
    for seed in range(settings.seeds):
        advanced = lanes.start(seed_key(key, seed), recipes)
        parts = []
        for _ in range(0, task.epochs, length):
            if monitor is not None and monitor.is_stopped():
                return None
            advanced, figures = lanes.advance(recipes, advanced, length)
            parts.append(figures)
        figures = {name: np.concatenate([one[name] for one in parts], 1) for name in parts[0]}
        finished = lanes.finish(advanced)
        scores.append(score.of(figures, np.asarray(finished.step) // epoch_length))
        states.append(finished)
        rows.append(figures)
    # seeds of (n, epochs) -> (n, seeds, epochs)
    figures = {name: np.stack([one[name] for one in rows], 1) for name in rows[0]}
    return Batch(
        indices,
        np.stack(scores, 1),
        figures,
        states,
    )


def _collect(
    collected: Collected,
    batch: Batch,
    lanes: Lanes,
    keep: int,
) -> None:
    """Add the results of a batch, and keep the train states of the best trials so far."""
    indices = batch.indices
    collected.scores[indices] = batch.scores
    collected.done[indices] = True
    collected.last = indices
    for name, rows in batch.figures.items():
        if name not in collected.histories:
            shape = (*collected.scores.shape, rows.shape[-1])
            collected.histories[name] = np.full(shape, np.nan)
        collected.histories[name][indices] = rows
    # Of equal scores the earlier trial is kept, as in the ranks.
    # The best trials so far, and those of this batch.
    candidates = np.sort(np.array([*collected.kept, *indices], int))
    means = collected.scores[candidates].mean(1)
    best = candidates[collected.score.order(means)][:keep]
    places = {int(index): place for place, index in enumerate(indices)}
    kept = {}
    for index in map(int, best):
        if index in places:
            states = (lanes.take(stacked, places[index]) for stacked in batch.train_states)
            kept[index] = tuple(states)
        else:
            kept[index] = collected.kept[index]
    collected.kept = kept


def _describe(
    key: RandomKey, space: Space, task: Task, score: Score, settings: Settings
) -> dict[str, Any]:
    """Return the description of a search, by which saved results of another one are recognized."""
    return {
        "space": repr(space),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "seeds": settings.seeds,
        "score": score.name,
        "data": digest(task.data),
        "valid": None if task.valid is None else digest(task.valid),
    }


def _restore(
    collected: Collected,
    notes: dict[str, Any],
    read: Callable[[Any], Any],
    key: RandomKey,
    recipes: Sequence[Recipe],
    task: Task,
) -> None:
    """Put saved results into `collected`."""
    collected.done[notes["done"]] = True
    collected.widths = {int(group): width for group, width in notes["widths"].items()}
    seeds = collected.scores.shape[1]
    kept = {}
    for index in notes["kept"]:
        # The structure of its train states is that before the first step.
        lanes = Lanes(
            recipes[index],
            task,
            1,
            1,
        )
        started = lanes.start(seed_key(key, 0), [recipes[index]])
        kept[str(index)] = (lanes.take(started, 0),) * seeds
    figures = dict.fromkeys(notes["figures"], np.zeros((*collected.scores.shape, task.epochs)))
    tree = read({"scores": collected.scores, "histories": figures, "kept": kept})
    collected.scores = tree["scores"]
    collected.histories = tree["histories"]
    collected.kept = {int(index): tuple(states) for index, states in tree["kept"].items()}


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


def expect_settings(options: Options, *, unused: tuple[str, ...] = ()) -> Settings:
    """Return the options with defaults; an FnnError if one is not known or not valid.

    Args:
        options: By name.
        unused: Names of the options that this search does not have.
    """
    expect_arguments(
        "search",
        signature_of(Settings),
        (),
        options,
    )
    for name in unused:
        if name in options:
            # Ignored, it would seem to have an effect.
            advice = "leave it out"
            if name == "monitor":
                advice = "call it without lab.search, which takes search.random and search.grid"
            raise ConfigError(f"search {name}", "options of this search", name, advice)
    settings = Settings(**options)
    checks.choice("sampler", settings.sampler, SAMPLERS)
    checks.whole("seeds", settings.seeds)
    checks.whole("keep", settings.keep, 0)
    if settings.lanes != "auto":
        checks.whole("lanes", settings.lanes)
    return settings


def expect_finite_score(score: Score, scores: np.ndarray) -> None:
    """Raise NonFiniteError if there are trials, and none of them has a finite score.

    Args:
        score: The figure by which trials are compared.
        scores: Of the trials that are done, (trials, seeds).
    """
    means = scores.mean(1)
    if len(means) and not np.isfinite(score.cost(means)).any():
        raise NonFiniteError(
            f"search {score.name}",
            "a finite score of at least one trial",
            f"{len(means)} trials, all of them NaN or infinite",
            "narrow the space, such as the upper end of the learning rate",
        )
