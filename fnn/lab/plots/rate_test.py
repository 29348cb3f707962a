"""Plot of a learning rate test: the loss against the rate, and the band."""

from typing import TYPE_CHECKING

import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.axis import mark_nonfinite, set_log_x
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.search import RateTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADROOM = 0.5  # of the fall of the loss, above the loss without training


def plot_rate_test(test: RateTest, path: FilePath | None = None) -> "Figure":
    """Plot a rate test: the loss of each rate and seed, the band, and the suggested rate.

    Rates without a finite loss are marked at the upper edge. Needs matplotlib:
    pip install '.[plot]'.

    Args:
        test: From `search.rate_test`.
        path: The file to write, such as "rates.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `test` is not a rate test, the suffix of `path` is not a picture format, its
            folder does not exist, or matplotlib is not installed.
    """
    if not isinstance(test, RateTest):
        got = checks.show(test)
        raise ConfigError(
            "plot_rate_test",
            "a RateTest",
            got,
            "give that of search.rate_test",
        )
    figure, target = create_figure("plot_rate_test", path, figsize=(8, 4))
    axes = figure.subplots()
    color, accent, gray = PALETTE[0], PALETTE[1], "0.4"
    # (rates, seeds)
    losses = test.tail_losses
    axes.plot(
        test.rates,
        losses,
        color=color,
        alpha=0.35,
        linewidth=1,
    )
    axes.plot(
        test.rates,
        losses.mean(1),
        color=color,
        linewidth=2,
        label="mean over seeds",
    )
    before = test.tail_baseline
    axes.axhline(
        before,
        color=gray,
        linestyle="--",
        linewidth=1,
        label="without training",
    )
    # The band of useful rates.
    axes.axvspan(
        test.low,
        test.high,
        color=accent,
        alpha=0.12,
        label="low to high",
    )
    axes.axvline(test.suggested, color=accent, label=f"suggested {test.suggested:.2g}")
    axes.set_xlabel(test.path)
    set_log_x(axes)
    least = np.nanmin(np.where(np.isfinite(losses), losses, np.nan))
    fall = max(before - least, 1e-3 * abs(before))
    # Rates that diverge have losses far above.
    axes.set_ylim(least - 0.1 * fall, before + HEADROOM * fall)
    mark_nonfinite(
        axes,
        test.rates,
        losses.T,
        color,
    )
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, target)
