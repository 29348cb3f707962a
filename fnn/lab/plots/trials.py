"""Plots of a search: scores by hyperparameter, the best score of n trials, parallel coordinates."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.axis import mark_beyond, set_log_x, set_scale
from fnn.lab.plots.class_names import shorten, shorten_all
from fnn.lab.plots.figure import PALETTE, SEQUENTIAL, FilePath, create_figure, save_figure
from fnn.search.columns import choice_options, edges
from fnn.search.trials import Trials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRIAL_COLOR, TIE_COLOR, EDGE_COLOR = PALETTE[0], PALETTE[4], PALETTE[1]
MAX_COLUMNS = 4  # panels in a row
MAX_NAME_WIDTH = 34  # columns of the path of a hyperparameter
MAX_LABEL_WIDTH = 16  # of an option
MARGIN = 0.04  # of an axis, at both ends
GOLDEN_RATIO = 0.618034
SPREAD = 0.5  # of the distance between options, over which their trials are drawn
NOT_CHOSEN = -0.12  # position of trials without the hyperparameter, below the axis
MAX_LINES = 500  # trials of which parallel coordinates are opaque


def plot_search(trials: Trials, path: FilePath | None = None) -> "Figure":
    """Plot the score of each trial against each hyperparameter, on its own scale.

    Bars are one standard deviation over seeds, the star is the best trial, and trials that seeds
    cannot distinguish from it have another color. Trials that diverged are crosses at the edge of
    worse scores. Of an interval that ends too early, the edge is marked and the title says on which
    side to widen it; see `Trials.boundaries`. Trials that do not have the hyperparameter are left
    out. Needs matplotlib: pip install '.[plot]'.

    Args:
        trials: The results of a search.
        path: The file to write, such as "search.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `trials` are not results of a search, the suffix of `path` is not a picture
            format, its folder does not exist, or matplotlib is not installed.
    """
    _expect_trials("plot_search", trials)
    names = list(trials.hyperparameters)
    columns = min(len(names), MAX_COLUMNS)
    rows = -(-len(names) // columns)
    size = (max(4.2 * columns, 5), 3.6 * rows)
    figure, target = create_figure("plot_search", path, figsize=size)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    boundaries = trials.boundaries()
    has_seeds = trials.scores.shape[1] > 1
    is_tie = np.isin(np.arange(len(trials)), trials.ties() if has_seeds else [])
    for axes in panels[len(names) :]:
        axes.remove()
    for index, (axes, name) in enumerate(zip(panels, names, strict=False)):
        if index % columns == 0:
            axes.set_ylabel(trials.figure.name)
        if index == 0 and trials.figure.sign > 0:
            # A loss may be larger by powers of ten. The other panels share the axis.
            set_scale(axes, trials.mean_scores)
        _draw_trials(axes, trials, name, is_tie)
        boundary = boundaries[name]
        title = shorten(name, MAX_NAME_WIDTH)
        if boundary.edge is not None:
            title += f"\n{boundary}"
            limit = axes.get_xlim()[1 if boundary.verdict == "above" else 0]
            axes.axvline(limit, color=EDGE_COLOR, linewidth=6)
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if "diverged" in handles:
        handles[f"diverged: {trials.is_diverged.sum()}"] = handles.pop("diverged")
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    return save_figure(figure, target)


def _draw_trials(
    axes: "Axes",
    trials: Trials,
    name: str,
    is_tie: np.ndarray,
) -> None:
    x, is_used = _horizontal(axes, trials, name)
    scores, deviations = trials.mean_scores, trials.deviations
    finite = is_used & ~trials.is_diverged
    is_best = np.arange(len(trials)) == trials.best.index
    others = finite & ~is_best
    styles = [(others & ~is_tie, TRIAL_COLOR, "trials"), (others & is_tie, TIE_COLOR, "ties")]
    for chosen, color, label in styles:
        if not chosen.any():
            continue
        bars = None if np.isnan(deviations).all() else deviations[chosen]
        axes.errorbar(
            x[chosen], scores[chosen], bars,
            fmt="o", color=color, markersize=4, elinewidth=0.8, alpha=0.7, label=label,
        )  # fmt: skip
    best = trials.best.index
    if finite[best]:
        axes.plot(
            x[best], scores[best], "*",
            color=EDGE_COLOR, markeredgecolor="black", markersize=13, zorder=5, label="best",
        )  # fmt: skip
    diverged = x[is_used & trials.is_diverged]
    if diverged.size:
        # At the edge of worse scores: the upper one of a loss.
        edge = np.full(diverged.shape, 1.0 if trials.figure.sign > 0 else 0.0)
        transform = axes.get_xaxis_transform()
        axes.plot(
            diverged, edge, "x",
            color=EDGE_COLOR, markersize=7, clip_on=False, zorder=4, transform=transform,
            label="diverged",
        )  # fmt: skip
    if trials.figure.sign > 0:
        mark_beyond(axes, x[finite], scores[finite], TRIAL_COLOR)


def _horizontal(
    axes: "Axes",
    trials: Trials,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Set the horizontal axis of a hyperparameter.

    Returns:
        The horizontal position of each trial, (trials,), and whether it has the hyperparameter.
    """
    distribution = trials.space.distributions[name]
    is_used = np.isfinite(trials.positions(name))
    if distribution.ends is not None:
        x = trials.hyperparameters[name].astype(float)
        lowest, highest = map(float, distribution.ends)
        if distribution.is_log:
            margin = (highest / lowest) ** MARGIN
            axes.set_xlim(lowest / margin, highest * margin)
            set_log_x(axes)
        elif edges(distribution) is not None:
            margin = MARGIN * (highest - lowest)
            axes.set_xlim(lowest - margin, highest + margin)
        return x, is_used
    _, labels = _quantile_ticks(trials, name)
    x = trials.positions(name) * len(labels) - 0.5
    # Trials of an option are spread, evenly in any order, so that they do not overlap.
    x = x + SPREAD * (np.arange(len(x)) * GOLDEN_RATIO % 1 - 0.5)
    axes.set_xticks(range(len(labels)), labels, rotation=30 if len(labels) > 3 else 0)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    return x, is_used


def plot_best_of_n(
    trials: Trials, path: FilePath | None = None, *, confidence: float = 0.9
) -> "Figure":
    """Plot the best score that a search of n trials can expect, with a band, for each n.

    A curve that is flat at its end says that more trials of this space would gain little. The thin
    line is the best score so far, in the order of this search. See `Trials.best_of_n`. Needs
    matplotlib: pip install '.[plot]'.

    Args:
        trials: The results of a search of independent trials, such as a random search.
        path: The file to write, such as "best_of_n.png"; not written if None.
        confidence: Share of searches of n trials whose best score is within the band.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: An argument is not of the type described here, the suffix of `path` is not a
            picture format, its folder does not exist, or matplotlib is not installed.
    """
    _expect_trials("plot_best_of_n", trials)
    found = trials.best_of_n(confidence=confidence)
    figure, target = create_figure("plot_best_of_n", path, figsize=(6, 4))
    axes = figure.subplots()
    axes.set_ylabel(f"best {trials.figure.name}")
    sign = trials.figure.sign
    if sign > 0:
        set_scale(axes, np.concatenate([found.low, found.high]))
    band = f"{confidence:.0%} of searches"
    axes.fill_between(found.n, found.low, found.high, color=TRIAL_COLOR, alpha=0.2, label=band)
    axes.plot(found.n, found.mean, color=TRIAL_COLOR, label="expected")
    costs = trials.figure.cost(trials.mean_scores)
    so_far = sign * np.minimum.accumulate(costs)
    so_far[~np.isfinite(so_far)] = np.nan
    label = "this search, in its order"
    axes.step(found.n, so_far, color="0.3", linewidth=1, where="post", label=label)
    axes.set_xlabel("n trials")
    if len(trials) > 1:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("n trials (log scale)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return save_figure(figure, target)


def plot_parallel(trials: Trials, path: FilePath | None = None) -> "Figure":
    """Plot parallel coordinates: each trial is a line through its hyperparameters and its rank.

    Axes have the scale of the distribution: its quantiles are evenly spaced. The last axis is the
    rank of the score. Lines of better trials are lighter and above others, the best trial is
    outlined, and diverged trials are dashed. Where an option does not have a hyperparameter, the
    line passes below its axis. Needs matplotlib: pip install '.[plot]'.

    Args:
        trials: The results of a search.
        path: The file to write, such as "parallel.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `trials` are not results of a search, the suffix of `path` is not a picture
            format, its folder does not exist, or matplotlib is not installed.
    """
    _expect_trials("plot_parallel", trials)
    names = list(trials.hyperparameters)
    shares = _rank_shares(trials)
    vertical = [_vertical(trials, name, shares) for name in names]
    # (trials, hyperparameters + 1)
    lines = np.stack([*vertical, shares], 1)
    size = (2 + 1.9 * len(names), 4.5)
    figure, target = create_figure("plot_parallel", path, figsize=size)
    import matplotlib  # create_figure has raised if it is not installed

    axes = figure.subplots()
    colors = matplotlib.colormaps[SEQUENTIAL]
    x = np.arange(len(names) + 1)
    alpha = float(np.clip(MAX_LINES / len(trials) / 5, 0.15, 0.9))
    # The best one is drawn last.
    for index in trials.ranked[::-1]:
        is_diverged = trials.is_diverged[index]
        style: dict[str, Any] = {"color": colors(shares[index]), "alpha": alpha, "linewidth": 1}
        if is_diverged:
            style = {"color": EDGE_COLOR, "linestyle": "--", "alpha": alpha, "linewidth": 0.8}
        axes.plot(x, lines[index], **style)
    best = lines[trials.best.index]
    axes.plot(x, best, "o-", color="black", linewidth=3.5, markersize=6)
    axes.plot(x, best, "-", color=colors(1.0), linewidth=2)
    for place, name in enumerate(names):
        _draw_axis(axes, place, *_quantile_ticks(trials, name))
        if (vertical[place] == NOT_CHOSEN).any():
            axes.text(place + 0.06, NOT_CHOSEN, "not chosen", fontsize="x-small", va="center")
    _draw_axis(axes, len(names), *_score_ticks(trials, shares))
    labels = [shorten(name, MAX_LABEL_WIDTH + 6) for name in names]
    axes.set_xticks(x, [*labels, trials.figure.name])
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(names) + 0.45)
    has_gaps = any((values == NOT_CHOSEN).any() for values in vertical)
    axes.set_ylim(NOT_CHOSEN - 0.05 if has_gaps else -0.05, 1.05)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return save_figure(figure, target)


def _vertical(
    trials: Trials,
    name: str,
    shares: np.ndarray,
) -> np.ndarray:
    """Return the height of each trial on an axis, (trials,)."""
    distribution = trials.space.distributions[name]
    positions = trials.positions(name)
    options = distribution.options
    if options is not None and not distribution.is_number:
        # Lines through one option would be one line.
        positions = positions + SPREAD / len(options) * (shares - 0.5)
    return np.where(np.isfinite(positions), positions, NOT_CHOSEN)


def _quantile_ticks(trials: Trials, name: str) -> tuple[list[float], list[str]]:
    distribution = trials.space.distributions[name]
    if not distribution.is_number:
        labels = _options(trials, name)
        return [(index + 0.5) / len(labels) for index in range(len(labels))], labels
    options = choice_options(distribution)
    if options is not None:
        heights = [(index + 0.5) / len(options) for index in range(len(options))]
        return heights, [f"{option:.3g}" for option in options]
    heights = [0.0, 0.25, 0.5, 0.75, 1.0]
    inside = np.minimum(heights, np.nextafter(1.0, 0.0))
    return heights, [f"{distribution.quantile(float(height)):.3g}" for height in inside]


def _score_ticks(trials: Trials, shares: np.ndarray) -> tuple[list[float], list[str]]:
    """Return the heights and scores of the best, the middle and the worst trial."""
    ranked = trials.ranked[: int((~trials.is_diverged).sum())]
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, 5).astype(int))]
    labels = [f"{trials.mean_scores[index]:.3g}" for index in chosen]
    heights = shares[chosen].tolist()
    if trials.is_diverged.any():
        # All of them share the lowest rank.
        return [*heights, 0.0], [*labels, "diverged"]
    return heights, labels


def _draw_axis(
    axes: "Axes",
    place: int,
    heights: list[float],
    labels: list[str],
) -> None:
    axes.plot([place, place], [0, 1], color="black", linewidth=1)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    for height, label in zip(heights, labels, strict=True):
        axes.plot([place, place + 0.02], [height, height], color="black", linewidth=1)
        axes.text(place + 0.04, height, label, fontsize="x-small", va="center", bbox=box, zorder=6)


def _rank_shares(trials: Trials) -> np.ndarray:
    """Return the share of worse trials, from 1 for the best to 0 for the worst, (trials,).

    Diverged trials have 0.
    """
    count = len(trials)
    shares = np.empty(count)
    shares[trials.ranked] = np.linspace(1, 0, count) if count > 1 else 1.0
    shares[trials.is_diverged] = 0
    return shares


def _options(trials: Trials, name: str) -> list[str]:
    """Return the labels of the options of a choice, in its order."""
    return shorten_all(trials.option_labels(name), MAX_LABEL_WIDTH)


def _expect_trials(where: str, value: Any) -> None:
    if not isinstance(value, Trials):
        advice = "give those of search.random"
        raise ConfigError(
            where,
            "the trials of a search",
            checks.show(value),
            advice,
        )
