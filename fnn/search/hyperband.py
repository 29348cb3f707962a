"""Successive halving and Hyperband: most trials are stopped early, by their scores so far."""

from typing import Unpack

from fnn.search.brackets import Bracket, brackets, halving_bracket
from fnn.search.halving_trials import HalvingTrials
from fnn.search.options import Options, Settings, expect_key, read_options
from fnn.search.random import draw_trials
from fnn.search.rungs import run_brackets
from fnn.search.space import Space, as_space
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey


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
    # Successive halving is a plan of one bracket.
    plan = (halving_bracket(trials, epochs, eta=eta, min_epochs=min_epochs),)
    settings = read_options(halving, Settings, options)
    return _search("halving", key, space, data, plan, batch_size, valid, settings)


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
    settings = read_options(hyperband, Settings, options)
    return _search("hyperband", key, space, data, plan, batch_size, valid, settings)


def _search(
    where: str,
    key: RandomKey,
    space: Recipe | Space,
    data: Data,
    plan: tuple[Bracket, ...],
    batch_size: int,
    valid: Data | None,
    settings: Settings,
) -> HalvingTrials:
    expect_key(key)
    found = as_space(where, space)
    # All brackets are drawn at once, so that the trials are those of search.random.
    count = sum(bracket.trials for bracket in plan)
    drawn = draw_trials(key, found, count, settings.sampler)
    return run_brackets(key, found, drawn, data, plan, batch_size, valid, settings)
