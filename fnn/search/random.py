"""Random search and grid search."""

import itertools
from typing import Any, Unpack

import jax

from fnn import checks
from fnn.errors import ConfigError
from fnn.search.execution import run_trials
from fnn.search.options import Options, Settings, expect_key, read_options
from fnn.search.samplers import unit_points
from fnn.search.space import Space, as_space
from fnn.search.trials import Trials
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey

POINTS = 0  # use of the key of a search; see RUNS in execution.py


def random(
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    valid: Data | None = None,
    trials: int,
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
        options: `sampler="random"` for independent trials; "sobol" or "halton" for scrambled
            sequences that fill the space more evenly [Bergstra and Bengio 2012, JMLR 13:281].
            `seeds=1`, runs of each trial, whose scores are averaged. `score="valid_loss"`,
            name of the figure by which trials are compared. `mode=None`, "min" or "max" for a
            metric of your own. `keep=3`, number of the best trials whose train states are returned.
            `lanes="auto"`, number of trials at a time; "auto" measures whether trials are faster
            together or one after another, and how many fit into memory. `mesh=None`, a
            jax.sharding.Mesh over whose devices trials are divided; `lanes` is then the number at a
            time on each of them.

    Returns:
        The trials. Those that diverged have a score of NaN and the last ranks.

    Raises:
        FnnError: An argument is not valid. Raised before anything compiles.
        NonFiniteError: The scores of all trials are NaN or infinite.
    """
    expect_key(key)
    found = as_space("random", space)
    checks.whole("trials", trials)
    settings = read_options(random, Settings, options)
    drawn = draw_trials(key, found, trials, settings.sampler)
    return run_trials(
        "random",
        key,
        found,
        drawn,
        data,
        epochs=epochs,
        batch_size=batch_size,
        valid=valid,
        settings=settings,
    )


def draw_trials(
    key: RandomKey,
    space: Space,
    count: int,
    sampler: str,
) -> list[tuple[Recipe, dict[str, Any]]]:
    """Return the recipe and the hyperparameters of each trial of a search.

    Args:
        key: The key of the search.
        space: The space.
        count: Number of trials.
        sampler: "random", "sobol" or "halton".
    """
    # Apart from the keys of the runs.
    own_key = jax.random.fold_in(key, POINTS)
    points = unit_points(own_key, count, len(space.distributions), sampler=sampler)
    return [space.draw(point) for point in points]


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
    expect_key(key)
    found = as_space("grid", space)
    # A grid draws no points, so that a sampler would have no effect.
    settings = read_options(grid, Settings, options, unused=("sampler",))
    counts = points if isinstance(points, dict) else dict.fromkeys(found.distributions, points)
    # The first path that the space does not have.
    for path in counts.keys() - found.distributions.keys():
        known = ", ".join(found.distributions)
        raise ConfigError(
            "grid points",
            f"one of {known}",
            repr(path),
            "check the path",
        )
    # An axis of the grid for each hyperparameter, as pairs of path and value.
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
        "grid",
        key,
        found,
        drawn,
        data,
        epochs=epochs,
        batch_size=batch_size,
        valid=valid,
        settings=settings,
    )
