"""Plots of searches that stop or change trials: the rungs of halving, and populations."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.axis import mark_nonfinite, set_scale
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.search import HalvingTrials, Population

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE, BEST, COPY = PALETTE[0], PALETTE[1], "0.6"
PANEL = (6.0, 3.2)  # inches
COLUMNS = 3
STEEP = 20  # ratio of values above which the axis of a hyperparameter is logarithmic


def plot_rungs(trials: HalvingTrials, path: FilePath | None = None) -> "Figure":
    """Plot the score of each trial of halving or Hyperband over its epochs, one panel a bracket.

    A dot marks the epoch at which a trial was stopped, a cross one that diverged. The best trial
    has another color. Needs matplotlib: pip install '.[plot]'.

    Args:
        trials: From `search.halving` or `search.hyperband`.
        path: The file to write, such as "rungs.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `trials` are not such trials, or the path cannot be written.
    """
    if not isinstance(trials, HalvingTrials):
        advice = "give the result of search.halving or search.hyperband"
        raise ConfigError(
            "plot_rungs",
            "HalvingTrials",
            checks.show(trials),
            advice,
        )
    count = len(trials.brackets)
    figure, panels, target = _create_panels("plot_rungs", path, count)
    # (trials, epochs), the mean over seeds
    curves = trials.histories[trials.figure.name].mean(1)
    best = trials.best.index
    for index, axes in enumerate(panels):
        rungs = trials.brackets[index].rungs
        # The best trial is drawn last, above the others.
        members = sorted(np.flatnonzero(trials.bracket == index), key=lambda one: one == best)
        for trial in members:
            color = BEST if trial == best else LINE
            epochs = np.arange(1, trials.epochs[trial] + 1)
            curve = curves[trial, : len(epochs)]
            alpha = 1.0 if trial == best else 0.35
            axes.plot(
                epochs,
                curve,
                color=color,
                alpha=alpha,
                linewidth=1 + (trial == best),
            )
            # The epoch at which the trial was stopped.
            if np.isfinite(curve[-1:]).all():
                axes.plot(
                    epochs[-1:],
                    curve[-1:],
                    "o",
                    color=color,
                    markersize=4,
                )
        ends = curves[members, trials.epochs[members] - 1]
        mark_nonfinite(
            axes,
            trials.epochs[members],
            ends,
            PALETTE[6],
        )
        # Rungs are powers of eta, hence evenly spaced.
        axes.set_xscale("log")
        axes.set_xticks(sorted({1, *(rung.epochs for rung in rungs)}))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(axis="x", alpha=0.4)
        axes.set_title(" → ".join(str(rung.trials) for rung in rungs) + " trials", fontsize=10)
        axes.set_xlabel("epoch (log scale)")
        axes.set_ylabel(trials.figure.name)
    for axes in panels:
        # One scale for all panels, so that they can be compared.
        set_scale(axes, curves)
        axes.set_ylim(panels[0].get_ylim())
    return save_figure(figure, target)


def plot_population(population: Population, path: FilePath | None = None) -> "Figure":
    """Plot the score and each hyperparameter of a population over its rounds.

    A line follows a member; where a member copied another one, a dotted line joins them. The line
    of descent of the best member has another color: it is the schedule of hyperparameters that
    `search.replay` trains again. Needs matplotlib: pip install '.[plot]'.

    Args:
        population: From `search.population`.
        path: The file to write, such as "population.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `population` is not one, or the path cannot be written.
    """
    if not isinstance(population, Population):
        advice = "give the result of search.population"
        raise ConfigError(
            "plot_population",
            "a Population",
            checks.show(population),
            advice,
        )
    numbers = {
        name: np.asarray(values, float)
        for name, values in {
            population.figure.name: population.round_scores,
            **population.rounds,
        }.items()
    }
    figure, panels, target = _create_panels("plot_population", path, len(numbers))
    # (rounds,): the member that the best one descends from.
    line = population.lineage(population.best.index)
    rounds = np.arange(1, len(line) + 1)
    epochs = rounds * population.interval
    for axes, (name, values) in zip(panels, numbers.items(), strict=True):
        _plot_members(
            axes,
            epochs,
            values,
            population.parents,
        )
        axes.plot(
            epochs,
            values[rounds - 1, line],
            color=BEST,
            linewidth=2,
            label="best",
        )
        if name == population.figure.name:
            mark_nonfinite(
                axes,
                epochs,
                values.T,
                PALETTE[6],
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        set_scale(axes, values, needs=STEEP)
    panels[0].legend(frameon=False)
    return save_figure(figure, target)


def _plot_members(
    axes: "Axes", epochs: np.ndarray, values: np.ndarray, parents: np.ndarray
) -> None:
    """Plot a line for each member, interrupted where it copied another one."""
    for index in range(1, len(epochs)):
        for member, parent in enumerate(parents[index]):
            is_copy = parent != member
            axes.plot(
                epochs[index - 1 : index + 1],
                [values[index - 1, parent], values[index, member]],
                ":" if is_copy else "-",
                color=COPY if is_copy else LINE,
                linewidth=0.8,
                alpha=0.7,
            )


def _create_panels(
    where: str,
    path: FilePath | None,
    count: int,
) -> tuple["Figure", Any, Any]:
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    width, height = PANEL
    figure, target = create_figure(where, path, figsize=(width * columns, height * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[count:]:
        unused.remove()
    return figure, list(panels[:count]), target
