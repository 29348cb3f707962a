"""Successive halving and Hyperband: most trials are stopped early, by their scores so far.

Trials of all brackets at the same epoch are trained together. A trial that survives a rung
continues from its train state. The lanes of stopped trials are filled with others that wait.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.brackets import Bracket, brackets, halving_bracket, survivors
from fnn.search.execution import (
    Options,
    expect_finite_score,
    expect_settings,
    group_by_structure,
    seed_key,
)
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.random import draw_trials
from fnn.search.score import find_score
from fnn.search.space import Space, as_space
from fnn.search.statistics import BestOfN
from fnn.search.trials import Trials, hyperparameter_columns
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState


@dataclass(frozen=True, eq=False, repr=False)
class HalvingTrials(Trials):
    """The results of successive halving or Hyperband.

    The score of a trial is that of its last epoch. Trials that were trained longer rank above those
    that were stopped earlier, so the best trial is the best one of those trained to the end.
    Diverged trials rank last.

    Attributes:
        brackets: The plan.
        bracket: The index of the bracket of each trial, (trials,).
    """

    brackets: tuple[Bracket, ...]
    bracket: np.ndarray

    @property
    def ranked(self) -> np.ndarray:
        """The indices of the trials from the best to the worst, (trials,); diverged ones last."""
        cost = self.score.cost(self.mean_scores)
        # The last key is the first one to sort by.
        return np.lexsort((cost, -self.epochs, ~np.isfinite(cost)))

    @property
    def total_epochs(self) -> int:
        """Number of epochs of all trials and seeds together."""
        return int(self.epochs.sum()) * self.scores.shape[1]

    def best_of_n(self, *, confidence: float = 0.9) -> BestOfN:
        """Raise ConfigError: the scores of trials that were trained differently long are no sample.

        Args:
            confidence: As for `Trials.best_of_n`.
        """
        raise ConfigError(
            "best_of_n",
            "trials that were all trained to the end",
            "trials that were stopped at different epochs",
            "use the trials of search.random",
        )

    def _best_of_n_text(self) -> str:
        return "not defined, since trials were stopped at different epochs"

    # The scores of different epochs are not compared: a trial that was trained longer is better.

    @property
    def _costs(self) -> np.ndarray:
        positions = np.empty(len(self))
        positions[self.ranked] = np.arange(len(self))
        return np.where(self.is_diverged, np.inf, positions)

    @property
    def _seed_costs(self) -> np.ndarray:
        is_candidate = self.epochs == self.epochs.max()
        return np.where(is_candidate[:, None], super()._seed_costs, np.inf)

    def table(self) -> dict[str, np.ndarray]:
        """Return the columns of `Trials.table`, and the bracket of each trial."""
        return super().table() | {"bracket": self.bracket}


def halving(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    trials: int,
    eta: int = 3,
    min_epochs: int = 1,
    **options: Unpack[Options],
) -> HalvingTrials:
    """Successive halving: at each rung, the best 1 / η of the trials continue, the others stop.

        trials = search.halving(
            key, space, data, valid=valid, epochs=27, batch_size=64, trials=81
        )  # 81 trials by 1 epoch, 27 by 2 more, 9 by 6 more, 3 by 18 more

    The trials, their keys and their figures are those of `search.random` with the same key, as far
    as they are trained. Of equal scores the earlier trial continues. A diverged trial never does
    [Jamieson and Talwalkar 2016, arXiv:1502.07943].

    Args:
        key: From `jax.random.key`. It determines the trials and their runs.
        space: A recipe with distributions in the place of numbers and choices, or a `search.space`.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of the trials that are never stopped.
        batch_size: Examples per step.
        valid: (inputs, targets) by which trials are compared.
        trials: Number of trials, at least `eta`.
        eta: Ratio η >= 2 of the trials of a rung to those of the next one. The ratio of their
            epochs is the same.
        min_epochs: Epochs before a trial may be stopped. The first rung is later where there are
            too few trials for all rungs.
        options: Those of `search.random`. With several seeds, mean scores are compared.

    Returns:
        The trials. Histories are NaN where a trial was not trained.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all trials are NaN or infinite.
    """
    plan = (halving_bracket(trials, epochs, eta=eta, min_epochs=min_epochs),)
    return _search("halving", key, space, data, plan, batch_size, valid, options)


def hyperband(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    eta: int = 3,
    min_epochs: int = 1,
    **options: Unpack[Options],
) -> HalvingTrials:
    """Hyperband: brackets of successive halving, from many short trials to few long ones.

    It needs no choice between many trials and long ones. `search.brackets` returns the plan. Where
    early scores mislead, the brackets that stop fewer trials find the best one
    [Li et al. 2018, JMLR 18:185].

    Args:
        key: From `jax.random.key`. It determines the trials and their runs.
        space: A recipe with distributions in the place of numbers and choices, or a `search.space`.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of the trials that are never stopped.
        batch_size: Examples per step.
        valid: (inputs, targets) by which trials are compared.
        eta: Ratio η >= 2 of the trials of a rung to those of the next one.
        min_epochs: Epochs before a trial may be stopped.
        options: Those of `search.random`.

    Returns:
        The trials, those of the first bracket first.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all trials are NaN or infinite.
    """
    plan = brackets(epochs, eta=eta, min_epochs=min_epochs)
    return _search("hyperband", key, space, data, plan, batch_size, valid, options)


def _search(
    where: str,
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    plan: tuple[Bracket, ...],
    batch_size: int,
    valid: Data | None,
    options: Options,
) -> HalvingTrials:
    checks.key("key", key)
    found = as_space(where, space)
    count = sum(bracket.trials for bracket in plan)
    drawn = draw_trials(key, found, count, expect_settings(options, unused=("monitor",)).sampler)
    return run_brackets(key, found, drawn, data, plan, batch_size, valid, **options)


def run_brackets(
    key: RandomKey,
    space: Space,
    drawn: Sequence[tuple[Recipe, dict[str, Any]]],
    data: Data,
    plan: tuple[Bracket, ...],
    batch_size: int,
    valid: Data | None,
    **options: Unpack[Options],
) -> HalvingTrials:
    """Train the recipes of trials as planned, and collect the results.

    Args:
        key: The key of the search.
        space: The space.
        drawn: The recipe and the hyperparameters of each trial, those of the first bracket first.
        data: (inputs, targets).
        plan: The brackets.
        batch_size: Examples per step.
        valid: (inputs, targets) for validation, or None.
        options: Those of `search.random`.
    """
    settings = expect_settings(options)
    recipes = [recipe for recipe, _ in drawn]
    groups = group_by_structure(recipes)
    firsts = [recipes[indices[0]] for indices in groups]
    epochs = plan[0].rungs[-1].epochs
    task = prepare_task(firsts, data, valid, epochs=epochs, batch_size=batch_size)
    score = find_score(firsts[0], settings.score, settings.mode, has_valid=valid is not None)
    stages = plan_stages(plan)
    count = len(recipes)
    # One pool for each structure, since lanes share a program.
    pools = [
        _Pool(key, recipes, group, task, settings.seeds, settings.lanes, _scale(stages, group))
        for group in groups
    ]
    # (trials,): trials are numbered bracket after bracket.
    bracket = np.repeat(np.arange(len(plan)), [one.trials for one in plan])
    scores = np.full((count, settings.seeds), np.nan)
    histories: dict[str, np.ndarray] = {}
    trained = np.zeros(count, int)
    # Trials that no rung has stopped yet.
    is_alive = np.ones(count, bool)
    for before, level in zip([0, *(stage.level for stage in stages)], stages, strict=False):
        until = level.level
        for part in (part for pool in pools for part in pool.advance(is_alive, until - before)):
            place = part.indices, part.seed
            for name, rows in part.figures.items():
                empty = np.full((*scores.shape, epochs), np.nan)
                histories.setdefault(name, empty)[(*place, slice(before, until))] = rows
            figures = {name: rows[place] for name, rows in histories.items()}
            scores[place] = score.of(figures, part.epochs)
        # Also trials that this rung stops were trained until here.
        trained[is_alive] = until
        mean_scores = scores.mean(1)
        for index, one in enumerate(plan):
            # Trials compete within their bracket.
            competing = np.flatnonzero(is_alive & (bracket == index))
            kept = survivors(score.cost(mean_scores[competing]), _room_after(one, until))
            is_alive[np.delete(competing, kept)] = False
    expect_finite_score(score, scores)
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    results = HalvingTrials(
        space, recipes, columns, scores, histories, trained, score, {}, plan, bracket
    )
    # The train states of all other trials are dropped.
    best = set(results.ranked[: settings.keep].tolist())
    states = [pool.states_of(index) for index in best for pool in pools if index in pool.indices]
    return replace(results, kept=dict(zip(best, states, strict=True)))


class Stage(NamedTuple):
    """The epochs from one level of rungs to the next, of all brackets together.

    Attributes:
        trials: Number of trials.
        epochs: Number of epochs of each.
        level: The epoch at its end.
    """

    trials: int
    epochs: int
    level: int


def plan_stages(plan: Sequence[Bracket]) -> list[Stage]:
    """Return the stages of a plan, in order.

    Args:
        plan: The brackets.
    """
    stages = []
    before = 0
    for level in sorted({rung.epochs for bracket in plan for rung in bracket.rungs}):
        # The trials of a bracket on the way to its first rung at this level or later.
        trials = sum(
            next(rung.trials for rung in bracket.rungs if rung.epochs >= level) for bracket in plan
        )
        stages.append(Stage(trials, level - before, level))
        before = level
    return stages


def _scale(stages: Sequence[Stage], group: np.ndarray) -> list[tuple[int, int]]:
    """Return (trials, epochs) of each stage for the trials of one structure, its share of all."""
    # The numbers of each structure that survive are not known before.
    share = len(group) / stages[0].trials
    return [(max(1, round(stage.trials * share)), stage.epochs) for stage in stages]


def _room_after(bracket: Bracket, level: int) -> int:
    """Return the number of trials of a bracket that continue after a level."""
    later = [rung.trials for rung in bracket.rungs if rung.epochs > level]
    return later[0] if later else bracket.rungs[-1].trials


class Part(NamedTuple):
    """Trials that were trained together by some epochs.

    Attributes:
        indices: Of the trials, (k,).
        seed: Index of the seed.
        figures: By name, (k, epochs).
        epochs: Number of epochs of the weights that each trial would return, (k,).
    """

    indices: np.ndarray
    seed: int
    figures: dict[str, np.ndarray]
    epochs: np.ndarray


class _Pool:
    """The trials of one structure, whose train states wait on the host between rungs.

    The device holds one batch at a time. Any trials at the same epoch fill it, so its shape is
    constant. The host gathers them, since a compiled gather would depend on their number.

    Attributes:
        indices: The indices of the trials.
    """

    def __init__(
        self,
        key: RandomKey,
        recipes: Sequence[Recipe],
        indices: np.ndarray,
        task: Task,
        seeds: int,
        lanes: int | str,
        stages: Sequence[tuple[int, int]],
    ):
        self.indices = indices
        self._keys = [seed_key(key, seed) for seed in range(seeds)]
        self._recipes = [recipes[index] for index in indices]
        self._lanes = Lanes(self._recipes[0], task, len(indices), lanes, stages)
        self._epoch_length = steps_per_epoch(task.data, task.batch_size)
        # Of each seed: the train states with arrays of NumPy, stacked.
        self._states: list[TrainState | None] = [None] * seeds

    def advance(
        self,
        is_alive: np.ndarray,
        epochs: int,
    ) -> Iterator[Part]:
        """Train some of the trials further, which are all at the same epoch.

        Args:
            is_alive: Whether each trial of the search is trained, (trials,).
            epochs: Number of further epochs.
        """
        lanes = self._lanes
        # Places in this pool.
        alive = np.flatnonzero(is_alive[self.indices])
        for begin in range(0, len(alive), lanes.size):
            places = alive[begin : begin + lanes.size]
            count = len(places)
            # Repetitions of the last trial fill the last batch.
            padded = np.pad(places, (0, lanes.size - count), mode="edge")
            recipes = [self._recipes[place] for place in padded]
            for seed, key in enumerate(self._keys):
                if self._has_begun(seed, places):
                    states = self._take(seed, padded)
                else:
                    states = lanes.start(key, recipes)
                states, figures = lanes.advance(recipes, states, epochs)
                self._put(seed, places, states)
                # With early stopping, the steps of the weights that a trial would return.
                steps = np.asarray(lanes.finish(states).step)
                trained = np.broadcast_to(steps // self._epoch_length, lanes.size)
                rows = {name: values[:count] for name, values in figures.items()}
                yield Part(self.indices[places], seed, rows, trained[:count])

    def states_of(self, index: int) -> tuple[TrainState, ...]:
        """Return the finished train states of a trial, one for each seed."""
        place = int(np.flatnonzero(self.indices == index)[0])
        finished = []
        for seed in range(len(self._keys)):
            states = self._lanes.finish(self._take(seed, np.array([place])))
            state = self._lanes.take(states, 0)
            finished.append(jax.tree.map(jax.numpy.asarray, state))
        return tuple(finished)

    def _has_begun(
        self,
        seed: int,
        places: np.ndarray,
    ) -> bool:
        states = self._states[seed]
        return states is not None and bool(states.step[places[0]] > 0)

    def _take(
        self,
        seed: int,
        places: np.ndarray,
    ) -> TrainState:
        """Return the stacked train states of trials, with one step where all have the same."""
        stored = self._states[seed]
        assert stored is not None
        # The store has no key.
        taken = jax.tree.map(lambda leaf: leaf[places], stored)._replace(key=self._keys[seed])
        if self._lanes.axes.step is None:
            return taken._replace(step=taken.step[0])
        return taken

    def _put(
        self,
        seed: int,
        places: np.ndarray,
        states: TrainState,
    ) -> None:
        """Store the train states of trials; those beyond their number are padding."""
        steps = np.broadcast_to(np.asarray(states.step), self._lanes.size)
        # The key is that of the seed.
        new = states._replace(step=steps, key=None)  # type: ignore[arg-type]
        stored = self._states[seed]
        if stored is None:
            count = len(self.indices)
            # Space for all trials of the pool, also for those of later batches.
            stored = jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape[1:]), leaf.dtype), new)
            self._states[seed] = stored

        def put(old: np.ndarray, leaf: jax.Array) -> None:
            old[places] = np.asarray(leaf)[: len(places)]

        jax.tree.map(put, stored, new)
