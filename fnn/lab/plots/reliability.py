"""Plots of confidence: reliability diagrams and risk-coverage curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import checks
from fnn.ensemble import Reliability, RiskCoverage
from fnn.errors import ConfigError
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "osD^vPX"  # of several tables, which differ without color too
STYLES = ("-", "--", "-.", ":")  # of several curves
QUANTILE = 1.96  # of a normal distribution, for 95 %
MARGIN = 1.08  # of the vertical axis above the highest point


def plot_reliability(
    tables: Reliability | Mapping[str, Reliability],
    path: FilePath | None = None,
) -> "Figure":
    """Plot reliability diagrams: the accuracy of each bin against its mean confidence.

    Points below the diagonal are too confident. Bars are the 95 % intervals of the accuracy
    (Wilson), which are long for bins of few examples. The lower panel shows the share of the
    examples in each bin. Needs matplotlib: pip install '.[plot]'.

    Args:
        tables: From `ensemble.reliability`; or several by name, such as those before and after a
            calibration.
        path: The file to write, such as "reliability.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `tables` are not of `ensemble.reliability`, the suffix of `path` is not a
            picture format, its folder does not exist, or matplotlib is not installed.
    """
    named = _by_name("plot_reliability", tables, Reliability, "ensemble.reliability")
    figure, target = create_figure("plot_reliability", path, figsize=(5.6, 6.6))
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    upper.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="calibrated")
    for index, (name, table) in enumerate(named.items()):
        examples = np.asarray(table.examples, float)
        used = examples > 0
        color = PALETTE[index % len(PALETTE)]
        error = f"error {float(table.expected_error):.3g}"
        confidence = np.asarray(table.confidence)[used]
        accuracy = np.asarray(table.accuracy)[used]
        low, high = _wilson(accuracy, examples[used])
        upper.vlines(confidence, low, high, color=color, alpha=0.4, linewidth=2)
        upper.plot(
            confidence,
            accuracy,
            marker=MARKERS[index % len(MARKERS)],
            color=color,
            markersize=5,
            label=f"{name}: {error}" if name else error,
        )
        # Bins of equal mass without an example have no ends.
        ends = np.isfinite(np.asarray(table.low))
        edges = np.append(np.asarray(table.low)[ends], np.asarray(table.high)[ends][-1])
        lower.stairs(
            examples[ends] / examples.sum(),
            edges,
            color=color,
            fill=len(named) == 1,
            linewidth=1.5,
        )
    upper.set_ylabel("accuracy")
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.02, 1.02)
    upper.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    lower.set_xlabel("confidence")
    lower.set_ylabel("share of\nexamples")
    lower.grid(alpha=0.3)
    return save_figure(figure, target)


def plot_risk_coverage(
    curves: RiskCoverage | Mapping[str, RiskCoverage],
    path: FilePath | None = None,
) -> "Figure":
    """Plot risk-coverage curves: the mean loss of the answered examples against their share.

    A lower curve is better. All curves of one network end at the same risk, that of all examples.
    Needs matplotlib: pip install '.[plot]'.

    Args:
        curves: From `ensemble.risk_coverage`; or several by name, such as those of several scores.
        path: The file to write, such as "risk.png"; not written if None.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `curves` are not of `ensemble.risk_coverage`, the suffix of `path` is not a
            picture format, its folder does not exist, or matplotlib is not installed.
    """
    named = _by_name("plot_risk_coverage", curves, RiskCoverage, "ensemble.risk_coverage")
    figure, target = create_figure("plot_risk_coverage", path, figsize=(6, 4))
    axes = figure.subplots()
    highest = 0.0
    for index, (name, curve) in enumerate(named.items()):
        area = f"area {float(curve.area):.3g}"
        risk = np.asarray(curve.risk)
        axes.plot(
            np.asarray(curve.coverage),
            risk,
            STYLES[index % len(STYLES)],
            color=PALETTE[index % len(PALETTE)],
            label=f"{name}: {area}" if name else area,
        )
        highest = max(highest, float(risk.max()))
    axes.set_xlabel("coverage (share of the examples that are answered)")
    axes.set_ylabel("risk (mean loss of these)")
    axes.set_xlim(0, 1)
    if highest > 0:
        axes.set_ylim(0, MARGIN * highest)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    return save_figure(figure, target)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a probability, of which a share of n draws was found."""
    factor = 1 + QUANTILE**2 / n
    center = (share + QUANTILE**2 / (2 * n)) / factor
    width = QUANTILE * np.sqrt(share * (1 - share) / n + QUANTILE**2 / (4 * n**2)) / factor
    return center - width, center + width


def _by_name(
    where: str,
    values: Any,
    kind: type,
    source: str,
) -> Mapping[str, Any]:
    """Return values by name, "" for a single one; ConfigError for values of another kind."""
    named = values if isinstance(values, Mapping) else {"": values}
    if not named or not all(isinstance(value, kind) for value in named.values()):
        expected = f"a {kind.__name__}, or some by name"
        raise ConfigError(where, expected, checks.show(values), f"give those of {source}")
    return {str(name): value for name, value in named.items()}
