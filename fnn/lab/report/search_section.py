"""The section of a search: trials by hyperparameter, the best ones and their spread."""

import numpy as np

from fnn.lab.plots.trials import plot_best_of_n, plot_parallel, plot_search
from fnn.lab.report.markup import Markup, element, grid, section, table
from fnn.lab.report.svg import figure_markup
from fnn.search.trials import Trials

MAX_TRIALS = 10  # in the table


def search_section(trials: Trials) -> Markup:
    """Return the section of a search.

    Args:
        trials: The results.
    """
    paths = list(trials.hyperparameters)
    rows = []
    for index in trials.ranked[:MAX_TRIALS].tolist():
        trial = trials[index]
        values = [_cell(trial.hyperparameters[path]) for path in paths]
        spread = float(trials.deviations[index])
        shown = spread if np.isfinite(spread) else ""
        rows.append((f"trial {index}", trial.score, shown, *values))
    head = ("trial", trials.figure.name, "deviation over seeds", *paths)
    diverged = int(trials.is_diverged.sum())
    text = f"{len(trials)} trials, of which {diverged} diverged."
    boundaries = trials.boundaries()
    notes = [
        f"{path}: {boundary}" for path, boundary in boundaries.items() if boundary.edge is not None
    ]
    edges = Markup()
    if notes:
        title = element("h3", "Intervals that end too early")
        edges = element(
            "div",
            title,
            element("ul", *(element("li", note) for note in notes)),
        )
    figures = [
        figure_markup("trials", plot_search(trials), "Score against each hyperparameter."),
        figure_markup("best-of-n", plot_best_of_n(trials), "Best score of a search of n trials."),
        figure_markup("parallel", plot_parallel(trials), "Each line is a trial."),
    ]
    return section(
        "search",
        "Search",
        element("p", text),
        edges,
        table(head, rows, caption=f"The best {len(rows)} trials."),
        grid(figures),
    )


def _cell(value: object) -> object:
    if isinstance(value, float | int):
        return value
    return "" if value is None else str(value)
