"""The section of a search: trials by hyperparameter, the best ones and their spread."""

from fnn.lab.plots.trials import plot_best_of_n, plot_parallel, plot_search
from fnn.lab.report.cards import UNKNOWN, banner, next_steps
from fnn.lab.report.markup import Markup, grid, join, section, table
from fnn.lab.report.svg import figure_markup
from fnn.search.trials import Trials

MAX_TRIALS = 10  # in the table


def search_section(trials: Trials) -> Markup:
    """Return the section of a search.

    Args:
        trials: The results.
    """
    figures = [
        figure_markup("trials", plot_search(trials), "Score against each hyperparameter."),
        figure_markup("best-of-n", plot_best_of_n(trials), "Best score of a search of n trials."),
        figure_markup("parallel", plot_parallel(trials), "Each line is a trial."),
    ]
    return section(
        "search",
        "Search",
        _best_trials(trials),
        grid(figures),
    )


def search_verdict(trials: Trials) -> Markup:
    """Return the banner of a search, and the intervals that it advises to widen.

    Args:
        trials: The results.
    """
    best = trials.best
    diverged = int(trials.is_diverged.sum())
    title = f"Best {trials.figure.name}: {best.score:.4g}"
    text = f"Trial {best.index} of {len(trials)}, of which {diverged} diverged."
    notes = []
    for path, boundary in trials.boundaries().items():
        # The best trials are at an edge of the interval.
        if boundary.edge is not None:
            notes.append(f"{path}: {boundary}")
    return join(
        [
            banner(
                "unknown",
                UNKNOWN,
                title,
                text,
            ),
            next_steps(notes),
        ]
    )


def _best_trials(trials: Trials) -> Markup:
    """Return a table of the best trials."""
    paths = list(trials.hyperparameters)
    has_seeds = trials.scores.shape[1] > 1
    rows = []
    for index in trials.ranked[:MAX_TRIALS].tolist():
        trial = trials[index]
        row: list[object] = [f"trial {index}", trial.score]
        if has_seeds:
            row.append(float(trials.deviations[index]))
        row += [_cell(trial.hyperparameters[path]) for path in paths]
        rows.append(row)
    spread = ["deviation over seeds"] if has_seeds else []
    head = ("trial", trials.figure.name, *spread, *paths)
    return table(head, rows, caption=f"The best {len(rows)} trials.")


def _cell(value: object) -> object:
    if isinstance(value, float | int):
        return value
    return "" if value is None else str(value)
