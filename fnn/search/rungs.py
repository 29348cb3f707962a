"""The execution of brackets: trials are trained from rung to rung, and some of them stop at each.

Trials of all brackets at the same epoch are trained together. A trial that survives a rung
continues from its train state. The lanes of stopped trials are filled with others that wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fnn.search.brackets import Bracket, Stage, plan_stages, survivors
from fnn.search.columns import hyperparameter_columns
from fnn.search.description import describe, kept_options, numbers_of
from fnn.search.execution import expect_finite_score, group_by_structure
from fnn.search.halving_trials import HalvingTrials, rank_trials
from fnn.search.lanes import prepare_task
from fnn.search.monitor import Monitor, Report, Saved
from fnn.search.options import Settings
from fnn.search.pool import Part, Pool
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.space import Space
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey


def run_brackets(
    key: RandomKey,
    space: Space,
    drawn: Sequence[tuple[Recipe, dict[str, Any]]],
    data: Data,
    plan: tuple[Bracket, ...],
    batch_size: int,
    valid: Data | None,
    settings: Settings,
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
        settings: The options of the search.
    """
    recipes = [recipe for recipe, _ in drawn]
    # Trials that differ in numbers alone share a program.
    groups = group_by_structure(recipes)
    firsts = [recipes[indices[0]] for indices in groups]
    # The last rungs of all brackets have the same epochs.
    epochs = plan[0].rungs[-1].epochs
    task = prepare_task(
        firsts,
        data,
        valid,
        epochs=epochs,
        batch_size=batch_size,
        mesh=settings.mesh,
    )
    score = find_score(firsts[0], settings.score, settings.mode, has_valid=valid is not None)
    expect_one_number("search", score, firsts[0], task.data)
    stages = plan_stages(plan)
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    state = _State.of(score, columns, plan, settings.seeds)
    monitor = settings.monitor
    saved = None
    if monitor is not None:
        # The plan of Hyperband has two brackets or more.
        name = "halving" if len(plan) == 1 else "hyperband"
        search = describe(
            name,
            key,
            space,
            firsts[0],
            drawn,
            task,
            score,
        )
        search |= kept_options(settings)
        # JSON has lists alone, and the saved plan is compared with this one.
        search["plan"] = [list(map(list, bracket.rungs)) for bracket in plan]
        saved = monitor.begin(search, sum(one.trials * one.epochs for one in stages), "epoch")
    # One pool for each structure, since lanes share a program.
    for number, group in enumerate(groups):
        # A resumed search has the same lanes, so that its numbers are the same to the last bit.
        width = saved.notes["widths"][number] if saved is not None else settings.lanes
        own = [recipes[int(index)] for index in group]
        state.pools.append(
            Pool(
                key,
                own,
                group,
                task,
                settings,
                width,
                _scale(stages, group),
            )
        )
    if saved is not None:
        _restore(state, saved)
    for number, stage in enumerate(stages):
        # The saved results contain the earlier stages.
        if number < state.stage:
            continue
        state.stage = number
        if not _train_stage(state, stage, monitor):
            break
        _stop_trials(state, stage.level)
    return _results(space, recipes, state, settings)


@dataclass
class _State:
    """The results so far, and the train states from which the search continues.

    Attributes:
        score: The figure by which trials are compared.
        columns: Values of each hyperparameter by path, (trials,).
        plan: The brackets.
        bracket: The index of the bracket of each trial, (trials,).
        scores: Of the last epoch of each trial, (trials, seeds).
        trained: Number of epochs of each trial, (trials,).
        is_alive: Whether no rung has stopped the trial yet, (trials,).
        stage: Index of the stage under way.
        histories: Figures by name, (trials, seeds, epochs, ...).
        pools: The train states of each structure.
    """

    score: Score
    columns: dict[str, np.ndarray]
    plan: tuple[Bracket, ...]
    bracket: np.ndarray
    scores: np.ndarray
    trained: np.ndarray
    is_alive: np.ndarray
    stage: int = 0
    histories: dict[str, np.ndarray] = field(default_factory=dict)
    pools: list[Pool] = field(default_factory=list)

    @classmethod
    def of(
        cls, score: Score, columns: dict[str, np.ndarray], plan: tuple[Bracket, ...], seeds: int
    ) -> "_State":
        """Return the state before the first epoch."""
        # (trials,): trials are numbered bracket after bracket.
        bracket = np.repeat(np.arange(len(plan)), [one.trials for one in plan])
        count = len(bracket)
        return cls(
            score=score,
            columns=columns,
            plan=plan,
            bracket=bracket,
            scores=np.full((count, seeds), np.nan),
            trained=np.zeros(count, int),
            is_alive=np.ones(count, bool),
        )

    @property
    def ranked(self) -> np.ndarray:
        """The indices of the trials from the best to the worst, as in the results."""
        return rank_trials(self.score.cost(self.scores.mean(1)), self.trained)

    def add(self, part: Part, until: int) -> None:
        """Add the results of a batch."""
        indices = part.indices
        # The figures of a batch begin at the epoch where its stage began.
        before = until - next(iter(part.figures.values())).shape[2]
        for name, rows in part.figures.items():
            if name not in self.histories:
                # With room for the trials that are never stopped.
                epochs = self.plan[0].rungs[-1].epochs
                shape = (*self.scores.shape, epochs, *rows.shape[3:])
                self.histories[name] = np.full(shape, np.nan)
            self.histories[name][indices, :, before:until] = rows
        for seed in range(self.scores.shape[1]):
            # (k, epochs)
            figures = {name: rows[indices, seed] for name, rows in self.histories.items()}
            self.scores[indices, seed] = self.score.of(figures, part.epochs[:, seed])
        # Also trials that this rung stops are trained until here.
        self.trained[indices] = until

    def report(self, trials: np.ndarray, keep: int) -> Report:
        """Return the report for a monitor, after a batch of these trials."""
        means = self.scores.mean(1)
        rows = {"trial": trials, "epochs": self.trained[trials], self.score.name: means[trials]}
        # Train states of trials that have stopped are needed for the best of them alone.
        stopped = [index for index in self.ranked if not self.is_alive[index]]
        needed = self.is_alive & (self.trained > 0)
        needed[stopped[:keep]] = True
        # The places of the trials in each pool, which are the rows of its store.
        stored = [np.flatnonzero(needed[pool.indices]) for pool in self.pools]
        notes = {
            "stage": self.stage,
            "trained": self.trained.tolist(),
            "alive": np.flatnonzero(self.is_alive).tolist(),
            "widths": [pool.width for pool in self.pools],
            "figures": {name: list(rows.shape[3:]) for name, rows in self.histories.items()},
            "stored": [places.tolist() for places in stored],
        }

        # A function, since most reports are not saved.
        def tree() -> dict[str, Any]:
            states = [pool.rows(places) for pool, places in zip(self.pools, stored, strict=True)]
            return {"scores": self.scores, "histories": self.histories, "states": states}

        return Report(
            score=self.score,
            done=int(self.trained.sum()),
            # Those that have come farthest compete.
            means=means[self.trained == self.trained.max()],
            rows=rows | numbers_of(self.columns, trials),
            notes=notes,
            tree=tree,
        )


def _train_stage(state: _State, stage: Stage, monitor: Monitor | None) -> bool:
    """Train the trials that no rung has stopped to the end of a stage; False if it was stopped."""
    for pool in state.pools:
        for places in pool.batches(state.is_alive):
            indices = pool.indices[places]
            # A resumed stage.
            if (state.trained[indices] == stage.level).all():
                continue
            part = pool.train(places, stage, monitor)
            if part is None:
                return False
            state.add(part, stage.level)
            if monitor is not None:
                monitor.report(state.report(indices, pool.keep))
    return True


def _stop_trials(state: _State, level: int) -> None:
    """Stop the worse trials of each bracket that has a rung at this level."""
    means = state.scores.mean(1)
    for index, bracket in enumerate(state.plan):
        # Trials compete within their bracket.
        competing = np.flatnonzero(state.is_alive & (state.bracket == index))
        # A bracket without a rung at this level keeps all but diverged trials.
        kept = survivors(state.score.cost(means[competing]), _room_after(bracket, level))
        state.is_alive[np.delete(competing, kept)] = False


def _restore(state: _State, saved: Saved) -> None:
    """Put saved results into the state."""
    notes = saved.notes
    state.stage = notes["stage"]
    state.trained = np.array(notes["trained"])
    state.is_alive = np.isin(np.arange(len(state.trained)), notes["alive"])
    epochs = state.plan[0].rungs[-1].epochs
    figures = {
        name: np.zeros((*state.scores.shape, epochs, *shape))
        for name, shape in notes["figures"].items()
    }
    like = {
        "scores": state.scores,
        "histories": figures,
        "states": [
            pool.empty_rows(len(places))
            for pool, places in zip(state.pools, notes["stored"], strict=True)
        ],
    }
    tree = saved.read(like)
    state.scores = tree["scores"]
    state.histories = tree["histories"]
    for pool, places, rows in zip(state.pools, notes["stored"], tree["states"], strict=True):
        pool.put_rows(np.array(places, int), rows)


def _results(
    space: Space, recipes: Sequence[Recipe], state: _State, settings: Settings
) -> HalvingTrials:
    """Return the results of the trials that have begun: all of them, unless it was stopped."""
    begun = np.flatnonzero(state.trained)
    expect_finite_score(state.score, state.scores[begun])
    results = HalvingTrials(
        space=space,
        recipes=[recipes[int(index)] for index in begun],
        hyperparameters={path: column[begun] for path, column in state.columns.items()},
        scores=state.scores[begun],
        histories={name: rows[begun] for name, rows in state.histories.items()},
        epochs=state.trained[begun],
        figure=state.score,
        kept={},
        brackets=state.plan,
        bracket=state.bracket[begun],
    )
    kept = {}
    # The train states of all other trials are dropped.
    for place in results.ranked[: settings.keep].tolist():
        index = int(begun[place])
        # Each trial is in the pool of its structure.
        (pool,) = (one for one in state.pools if index in one.indices)
        kept[place] = pool.states_of(index)
    return replace(results, kept=kept)


def _scale(stages: Sequence[Stage], group: np.ndarray) -> list[tuple[int, int]]:
    """Return (trials, epochs) of each stage for the trials of one structure, its share of all."""
    # The numbers of each structure that survive are not known before.
    share = len(group) / stages[0].trials
    return [(max(1, round(stage.trials * share)), stage.epochs) for stage in stages]


def _room_after(bracket: Bracket, level: int) -> int:
    """Return the number of trials of a bracket that continue after a level."""
    # After the last rung, all of its trials stay.
    later = [rung.trials for rung in bracket.rungs if rung.epochs > level]
    return later[0] if later else bracket.rungs[-1].trials
