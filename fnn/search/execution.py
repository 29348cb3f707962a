"""Execution of a search: its trials in batches, the results collected, with a monitor between."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.errors import NonFiniteError
from fnn.search.columns import hyperparameter_columns
from fnn.search.description import describe, kept_options, numbers_of, state_shapes
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.monitor import Monitor, Report, Saved
from fnn.search.options import Settings
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.space import Space
from fnn.search.trials import Trials
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState

RUNS = 1  # use of the key of a search; see POINTS in random.py


@dataclass
class Collected:
    """The results of a search so far.

    Attributes:
        score: The figure by which trials are compared.
        scores: (trials, seeds), NaN for trials to come.
        done: Which trials are done, (trials,).
        columns: Values of each hyperparameter by path, (trials,).
        histories: Figures by name, (trials, seeds, epochs, ...).
        kept: Train states of the best trials, one for each seed, by the index of the trial.
        widths: The number of lanes that was chosen for each group of trials.
    """

    score: Score
    scores: np.ndarray
    done: np.ndarray
    columns: dict[str, np.ndarray]
    histories: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[int, tuple[TrainState, ...]] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """Return the arrays, as a tree to save."""
        # Names in a checkpoint are texts.
        kept = {str(index): states for index, states in self.kept.items()}
        return {"scores": self.scores, "histories": self.histories, "kept": kept}

    def report(self, trials: np.ndarray) -> Report:
        """Return the report for a monitor.

        Args:
            trials: The indices of the trials of the last batch, (k,).
        """
        means = self.scores.mean(1)
        rows = {"trial": trials, self.score.name: means[trials]}
        notes = {
            "done": np.flatnonzero(self.done).tolist(),
            "kept": list(self.kept),
            "widths": {str(group): width for group, width in self.widths.items()},
            "figures": {name: list(rows.shape[3:]) for name, rows in self.histories.items()},
        }
        return Report(
            score=self.score,
            done=int(self.done.sum()),
            means=means[self.done],
            rows=rows | numbers_of(self.columns, trials),
            notes=notes,
            tree=self.tree,
        )


class Batch(NamedTuple):
    """Trials that were trained in the same calls.

    Attributes:
        indices: Of the trials, (n,).
        scores: (n, seeds).
        figures: By name, (n, seeds, epochs, ...).
        train_states: Stacked, of each seed.
    """

    indices: np.ndarray
    scores: np.ndarray
    figures: dict[str, np.ndarray]
    train_states: list[TrainState]


def run_trials(
    name: str,
    key: RandomKey,
    space: Space,
    drawn: Sequence[tuple[Recipe, dict[str, Any]]],
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None,
    settings: Settings,
) -> Trials:
    """Train the recipes of trials, and collect the results.

    Args:
        name: Of the function.
        key: The key of the search.
        space: The space.
        drawn: The recipe and the hyperparameters of each trial.
        data: (inputs, targets).
        epochs: Passes over the data.
        batch_size: Examples per step.
        valid: (inputs, targets) for validation, or None.
        settings: The options of the search.
    """
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
        mesh=settings.mesh,
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
    # (trials, seeds)
    scores = np.full((len(recipes), settings.seeds), np.nan)
    collected = Collected(
        score,
        scores,
        np.zeros(len(recipes), bool),
        columns,
    )
    if settings.monitor is not None:
        # Saved results must be those of this search, which is checked before anything is trained.
        search = describe(name, key, space, firsts[0], drawn, task, score) | kept_options(settings)
        saved = settings.monitor.begin(search, len(recipes), "trial")
        if saved is not None:
            _restore(collected, saved, recipes, task)
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
    # From the index of a trial to its place among those that are done.
    places = {int(index): place for place, index in enumerate(done)}
    return Trials(
        space=space,
        recipes=[recipes[index] for index in done],
        hyperparameters={path: column[done] for path, column in columns.items()},
        scores=collected.scores[done],
        histories={name: rows[done] for name, rows in collected.histories.items()},
        epochs=np.full(len(done), epochs),
        figure=score,
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
    collected.widths[number] = lanes.width
    monitor = settings.monitor
    # (batch,) each; the last one may be smaller.
    for indices in np.split(group, range(lanes.size, len(group), lanes.size)):
        # A resumed search has these results.
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
            monitor.report(collected.report(indices))


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
    # Of each seed.
    states, rows, scores = [], [], []
    for seed in range(settings.seeds):
        # All trials have the key of the seed, so that their differences are paired.
        started = lanes.start(seed_key(key, seed), recipes)
        trained = train_lanes(lanes, recipes, started, task.epochs, settings.monitor)
        if trained is None:
            return None
        advanced, figures = trained
        finished = lanes.finish(advanced)
        # Early stopping may have restored an earlier epoch, which the step shows.
        scores.append(score.of(figures, np.asarray(finished.step) // epoch_length))
        states.append(finished)
        rows.append(figures)
    # seeds of (n, epochs, ...) -> (n, seeds, epochs, ...)
    figures = {name: np.stack([one[name] for one in rows], 1) for name in rows[0]}
    return Batch(
        indices,
        np.stack(scores, 1),
        figures,
        states,
    )


def train_lanes(
    lanes: Lanes,
    recipes: Sequence[Recipe],
    train_states: TrainState,
    epochs: int,
    monitor: Monitor | None,
) -> tuple[TrainState, dict[str, np.ndarray]] | None:
    """Train trials as `Lanes.advance` does; None if the monitor has stopped the search.

    Args:
        lanes: The lanes.
        recipes: Of the trials.
        train_states: Stacked.
        epochs: Number of further epochs.
        monitor: Asked after some epochs; or None.
    """
    if monitor is None:
        return lanes.advance(recipes, train_states, epochs)
    parts = []
    left = epochs
    while left:
        # The monitor limits the time until the next question.
        length = min(monitor.allowance(), left)
        if not length:
            return None
        train_states, figures = lanes.advance(recipes, train_states, length)
        parts.append(figures)
        left -= length
    # parts of (n, epochs) -> (n, all epochs)
    return train_states, {name: np.concatenate([one[name] for one in parts], 1) for name in figures}


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
    for name, rows in batch.figures.items():
        # The names of the figures are first known here.
        if name not in collected.histories:
            # (trials, seeds, epochs, ...), where a confusion matrix has further axes
            shape = (*collected.scores.shape, *rows.shape[2:])
            collected.histories[name] = np.full(shape, np.nan)
        collected.histories[name][indices] = rows
    # The best trials so far, and those of this batch.
    candidates = np.sort(np.array([*collected.kept, *indices], int))
    means = collected.scores[candidates].mean(1)
    # Of equal scores the earlier trial is kept, as in the ranks.
    best = candidates[collected.score.order(means)][:keep]
    places = {int(index): place for place, index in enumerate(indices)}
    # States of this batch are stacked; those of earlier batches are separate already.
    kept = {}
    for index in map(int, best):
        if index in places:
            states = (lanes.take(stacked, places[index]) for stacked in batch.train_states)
            kept[index] = tuple(states)
        else:
            kept[index] = collected.kept[index]
    collected.kept = kept


def _restore(
    collected: Collected,
    saved: Saved,
    recipes: Sequence[Recipe],
    task: Task,
) -> None:
    """Put saved results into `collected`."""
    notes = saved.notes
    collected.done[notes["done"]] = True
    collected.widths = {int(group): width for group, width in notes["widths"].items()}
    seeds = collected.scores.shape[1]
    # The reader needs shapes and dtypes, which follow from the recipes.
    kept = {str(index): (state_shapes(recipes[index], task),) * seeds for index in notes["kept"]}
    figures = {
        name: np.zeros((*collected.scores.shape, task.epochs, *shape))
        for name, shape in notes["figures"].items()
    }
    tree = saved.read({"scores": collected.scores, "histories": figures, "kept": kept})
    collected.scores = tree["scores"]
    collected.histories = tree["histories"]
    collected.kept = {int(index): tuple(states) for index, states in tree["kept"].items()}


def seed_key(key: RandomKey, seed: int) -> RandomKey:
    """Return the key of the runs of a seed, the same for all trials."""
    # By fold_in, so that the key of a seed does not depend on the number of seeds.
    return jax.random.fold_in(jax.random.fold_in(key, RUNS), seed)


def group_by_structure(recipes: Sequence[Recipe]) -> list[np.ndarray]:
    """Return the indices of the recipes of each structure, in the order of the first ones."""
    groups: dict[Any, list[int]] = {}
    for index, recipe in enumerate(recipes):
        leaves, structure = jax.tree.flatten(recipe)
        # An array of another shape needs another program.
        shapes = tuple(map(np.shape, leaves))
        groups.setdefault((structure, shapes), []).append(index)
    return [np.array(indices) for indices in groups.values()]


def expect_finite_score(score: Score, scores: np.ndarray) -> None:
    """Raise NonFiniteError if there are trials, and none of them has a finite score.

    Args:
        score: The figure by which trials are compared.
        scores: Of the trials that are done, (trials, seeds).
    """
    # One diverged seed makes the mean of a trial NaN.
    means = scores.mean(1)
    if len(means) and not np.isfinite(score.cost(means)).any():
        raise NonFiniteError(
            f"search {score.name}",
            "a finite score of at least one trial",
            f"{len(means)} trials, all of them NaN or infinite",
            "narrow the space, such as the upper end of the learning rate",
        )
