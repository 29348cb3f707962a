"""Plot of a learning curve: the score against the number of training examples, and its fit."""

from typing import TYPE_CHECKING

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.axis import set_log_x
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.search import LearningCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 200  # of a drawn curve


def plot_learning_curve(
    curve: LearningCurve, path: FilePath | None = None, *, extend: float = 2.0
) -> "Figure":
    """Plot a learning curve: the scores of all seeds, the power law, and its 95 % interval.

    The law is dashed beyond the measured sizes. It is left out for fewer than three sizes. Needs
    matplotlib: pip install '.[plot]'.

    Args:
        curve: From `search.learning_curve`.
        path: The file to write, such as "curve.png"; not written if None.
        extend: Factor >= 1 of the largest size up to which the law is drawn.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `curve` is not a learning curve, `extend` is below 1, the suffix of `path` is
            not a picture format, its folder does not exist, or matplotlib is not installed.
    """
    if not isinstance(curve, LearningCurve):
        got = checks.show(curve)
        advice = "give that of search.learning_curve"
        raise ConfigError(
            "plot_learning_curve",
            "a LearningCurve",
            got,
            advice,
        )
    checks.number("plot_learning_curve extend", extend, "[1, inf)")
    figure, target = create_figure("plot_learning_curve", path, figsize=(8, 4))
    axes = figure.subplots()
    color, accent = PALETTE[0], PALETTE[1]
    seeds = curve.scores.shape[1]
    axes.plot(
        np.repeat(curve.sizes, seeds),
        curve.scores.ravel(),
        "o",
        color=color,
        alpha=0.4,
        markersize=4,
        label="one seed",
    )
    axes.plot(
        curve.sizes,
        curve.mean_scores,
        "_",
        color=color,
        markersize=14,
        label="mean",
    )
    if curve.has_fit:
        law = curve.fit()
        last = curve.sizes[-1]
        inside = np.geomspace(curve.sizes[0], last, POINTS)
        beyond = np.geomspace(last, last * extend, POINTS)
        axes.plot(
            inside,
            law.predict(inside).mean,
            color=accent,
            label=str(law),
        )
        axes.plot(
            beyond,
            law.predict(beyond).mean,
            "--",
            color=accent,
        )
        whole = np.concatenate([inside, beyond])
        band = law.predict(whole)
        if np.isfinite(band.low).all():
            axes.fill_between(
                whole,
                band.low,
                band.high,
                color=accent,
                alpha=0.15,
                label="95 % interval",
            )
    axes.set_xlabel("training examples")
    set_log_x(axes, curve.sizes)
    axes.set_ylabel(curve.figure.name)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, target)
