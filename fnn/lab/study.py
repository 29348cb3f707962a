"""A bridge to Optuna: its samplers, pruners and storage, with trials as lanes of one program."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.columns import option_labels
from fnn.search.distributions import Distribution
from fnn.search.execution import group_by_structure, seed_key
from fnn.search.lane_devices import count_devices
from fnn.search.lanes import Lanes, Task, prepare_task
from fnn.search.options import Options, Settings, read_options
from fnn.search.score import Score, expect_one_number, find_score
from fnn.search.space import Space, as_space
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey
from fnn.values import Variable

LANES = 16  # trials that are asked for at a time, where lanes="auto"


def optimize_study(
    study: Any,
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    trials: int,
    **options: Unpack[Options],
) -> None:
    """Run trials of an Optuna study, many of them as one compiled program.

        study = optuna.create_study(storage=storage, study_name="rates", load_if_exists=True)
        lab.optimize_study(study, key, space, data, valid=valid, epochs=5, batch_size=64, trials=64)
        recipe = lab.study_recipe(space, study.best_trial)

    A batch of trials is drawn from the study and trained as lanes, and the study receives their
    scores. After each epoch the scores are reported, and trials that the study's pruner stops are
    trained no further. Several processes, also on several machines, share a study by its storage. A
    trial whose score is not finite has failed. Needs Optuna, `pip install 'fnn[optuna]'`.

    Args:
        study: From `optuna.create_study`. Its direction must be that of the score.
        key: From `jax.random.key`. It determines the runs; the trials follow from the sampler of
            the study.
        space: A recipe with distributions in the place of numbers and choices, or a `search.space`.
        data: (inputs, targets), arrays whose first axis is the example.
        epochs: Passes over the data of each trial.
        batch_size: Examples per step.
        valid: (inputs, targets) by which trials are compared.
        trials: Number of trials to run in this process.
        options: `seeds`, `score`, `mode`, `lanes` and `mesh` of `search.random`. `lanes` is the
            number of trials that are asked for at a time for each device, by default 16.

    Raises:
        FnnError: An argument is not valid. Raised before the study is asked.
    """
    checks.key("key", key)
    found = as_space("optimize_study", space)
    settings = read_options(
        optimize_study, Settings, options, unused=("sampler", "keep", "monitor")
    )
    checks.whole("trials", trials)
    if not all(callable(getattr(study, name, None)) for name in ("ask", "tell")):
        advice = "give that of optuna.create_study()"
        raise ConfigError(
            "study",
            "a study of Optuna",
            checks.show(study),
            advice,
        )
    # One recipe stands for all, so that wrong arguments raise before a trial is begun.
    example, _ = found.draw(np.full(len(found.distributions), 0.5))
    task = prepare_task(
        [example],
        data,
        valid,
        epochs=epochs,
        batch_size=batch_size,
        mesh=settings.mesh,
    )
    score = find_score(
        example,
        settings.score,
        settings.mode,
        has_valid=valid is not None,
    )
    expect_one_number("search", score, example, task.data)
    _expect_direction(study, score)
    # Trials that are asked for together do not know of each other.
    width = LANES if settings.lanes == "auto" else int(settings.lanes)
    together = width * count_devices(task.mesh)
    for first in range(0, trials, together):
        asked = [study.ask() for _ in range(min(together, trials - first))]
        recipes = [study_recipe(found, trial) for trial in asked]
        for indices in group_by_structure(recipes):
            lanes = Lanes(
                recipes[indices[0]],
                task,
                len(indices),
                width,
            )
            part = [recipes[index] for index in indices]
            _train(
                study,
                [asked[index] for index in indices],
                part,
                key,
                lanes,
                score,
                settings,
            )


def study_recipe(space: Recipe | Space, trial: Any) -> Recipe:
    """Return the recipe of a trial of a study, also of one of another process.

    Args:
        space: The space of `optimize_study`.
        trial: A trial of Optuna, such as study.best_trial.

    Raises:
        ConfigError: The space has no hyperparameters.
        ValueError: The trial is not one of this space.
    """
    # Asked for in the order of the space, so that samplers get one order.
    found = as_space("study_recipe", space)
    paths = {id(distribution): path for path, distribution in found.distributions.items()}

    def value(variable: Variable) -> Any:
        assert isinstance(variable, Distribution)
        return _suggest(trial, paths[id(variable)], variable)

    return found.fill(value)


def _suggest(
    trial: Any,
    path: str,
    distribution: Distribution,
) -> Any:
    """Return the value of a hyperparameter that the trial suggests."""
    options = distribution.options
    if options is not None:
        # Optuna stores texts, numbers and truth values; options may be anything.
        labels = options if distribution.is_number else option_labels(options)
        # The study stores the label, and the space has the option.
        label = trial.suggest_categorical(path, labels)
        return options[labels.index(label)]
    # Its probability is uniform.
    if distribution.kind == "normal":
        # Optuna has no normal distribution.
        return distribution.quantile(trial.suggest_float(path, 0.0, 1.0))
    # Both ends are included, as in Optuna.
    low, high = distribution.examples
    suggest = trial.suggest_int if distribution.is_finite else trial.suggest_float
    return suggest(
        path,
        low,
        high,
        log=distribution.is_log,
    )


def _train(
    study: Any,
    trials: Sequence[Any],
    recipes: Sequence[Recipe],
    key: RandomKey,
    lanes: Lanes,
    score: Score,
    settings: Settings,
) -> None:
    """Train trials of one structure, report their scores, and give the last ones to the study."""
    task: Task = lanes.task
    # The runs of a seed are those of search.random.
    states = [lanes.start(seed_key(key, seed), recipes) for seed in range(settings.seeds)]
    history: list[dict[str, np.ndarray]] = [{} for _ in states]
    trials = list(trials)
    recipes = list(recipes)
    for epoch in range(1, task.epochs + 1):
        for seed, state in enumerate(states):
            states[seed], figures = lanes.advance(recipes, state, 1)
            past = history[seed]
            # (n, epochs so far) for each figure
            history[seed] = {
                name: np.concatenate([past[name], rows], 1) if past else rows
                for name, rows in figures.items()
            }
        means = _scores(
            lanes,
            states,
            history,
            score,
        )
        for trial, mean in zip(trials, means, strict=True):
            trial.report(float(mean), epoch)
        # After the last epoch there is nothing to save.
        stops = np.array([trial.should_prune() for trial in trials]) & (epoch < task.epochs)
        for index in np.flatnonzero(stops):
            study.tell(trials[index], state=_state("PRUNED"))
        kept = np.flatnonzero(~stops)
        if not kept.size:
            return
        if stops.any():
            # The lanes are padded, so that fewer trials compile nothing.
            trials = [trials[index] for index in kept]
            recipes = [recipes[index] for index in kept]
            states = [lanes.take(state, kept) for state in states]
            history = [{name: rows[kept] for name, rows in one.items()} for one in history]
            means = means[kept]
    for trial, mean in zip(trials, means, strict=True):
        if np.isfinite(mean):
            study.tell(trial, float(mean))
        else:
            study.tell(trial, state=_state("FAIL"))


def _scores(
    lanes: Lanes, states: Sequence[Any], history: Sequence[dict[str, np.ndarray]], score: Score
) -> np.ndarray:
    """Return the mean scores over seeds of the weights that trials would return now, (n,)."""
    epoch_length = steps_per_epoch(lanes.task.data, lanes.task.batch_size)
    # (seeds, n)
    columns = [
        score.of(figures, np.asarray(lanes.finish(state).step) // epoch_length)
        for state, figures in zip(states, history, strict=True)
    ]
    # (seeds, n) -> (n,)
    return np.mean(columns, 0)


def _state(name: str) -> Any:
    """Return a state of a trial of Optuna."""
    from optuna.trial import TrialState

    return TrialState[name]


def _expect_direction(study: Any, score: Score) -> None:
    """Raise ConfigError unless the study has the direction of the score."""
    # A study of the other direction would keep the worst trials.
    direction = "maximize" if score.sign < 0 else "minimize"
    if study.direction.name.lower() != direction:
        advice = f'use optuna.create_study(direction="{direction}")'
        raise ConfigError(
            "study direction",
            f"{direction}, as {score.name}",
            study.direction.name.lower(),
            advice,
        )
