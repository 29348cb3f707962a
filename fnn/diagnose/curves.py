"""Statistics of recorded curves: windows, trends, spikes, and cuts of the learning rate."""

from typing import NamedTuple

import numpy as np

MAX_WINDOWS = 20
MIN_WINDOW = 4  # steps, so that a window has a standard error
RECENT = 20  # steps before a spike, whose median is the level
PEAK = 3  # steps of a spike


class Windows(NamedTuple):
    """Means of consecutive parts of a curve.

    Attributes:
        mean: (windows,).
        error: Standard error of each mean, (windows,).
        ends: Step after each window, (windows,).
    """

    mean: np.ndarray
    error: np.ndarray
    ends: np.ndarray


class Cut(NamedTuple):
    """A decay of the learning rate from its largest value.

    Attributes:
        step: First step from which on the rate stays below a share of the largest one.
        before: Largest rate.
        after: Median rate from that step on.
    """

    step: int
    before: float
    after: float


def split_windows(
    values: np.ndarray,
    count: int = MAX_WINDOWS,
) -> Windows:
    """Average a curve over at most `count` windows of equal length.

    Args:
        values: (steps,), of which non-finite ones are left out.
        count: Number of windows; fewer where there are less than 4 steps for each.
    """
    windows = int(np.clip(len(values) // MIN_WINDOW, 1, count))
    parts = np.array_split(np.asarray(values, float), windows)
    means = []
    errors = []
    for part in parts:
        finite = part[np.isfinite(part)]
        means.append(finite.mean() if len(finite) else np.nan)
        errors.append(finite.std() / np.sqrt(len(finite)) if len(finite) > 1 else np.nan)
    ends = np.cumsum([len(part) for part in parts])
    return Windows(np.array(means), np.array(errors), ends)


def smooth(
    values: np.ndarray,
    width: int,
) -> np.ndarray:
    """Return the moving average over the last `width` steps, fewer at the beginning.

    Args:
        values: (steps,).
        width: Steps of the average, >= 1.
    """
    total = np.cumsum(np.insert(np.asarray(values, float), 0, 0))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    return (total[ends] - total[begins]) / (ends - begins)


def relative_fall(values: np.ndarray) -> float:
    """Return the fall of a curve from begin to end by a line fit, relative to its begin.

    Args:
        values: (steps,), at least 3.
    """
    steps = np.arange(len(values))
    slope, start = np.polyfit(steps, values, 1)
    if start == 0:
        return 0.0
    return float(-slope * (len(values) - 1) / abs(start))


def has_fallen(
    values: np.ndarray,
    share: float,
) -> bool:
    """Return whether a curve falls by a share from its first half to its second, significantly.

    Args:
        values: (steps,), at least 4.
        share: Of the mean of the first half.
    """
    first, second = np.array_split(np.asarray(values, float), 2)
    error = np.sqrt(first.var() / len(first) + second.var() / len(second))
    fall = first.mean() - second.mean()
    return bool(fall > share * abs(first.mean()) and fall > 2 * error)


def find_cut(
    rate: np.ndarray,
    share: float,
) -> Cut | None:
    """Return the first step from which on the rate stays below a share of its largest value.

    Args:
        rate: Learning rate of each step, (steps,).
        share: In (0, 1).

    Returns:
        The cut; None if the last rate is above the share, or there is no rate.
    """
    if not len(rate) or not np.isfinite(rate).all() or rate.max() <= 0:
        return None
    above = np.flatnonzero(rate > share * rate.max())
    step = int(above[-1]) + 1
    if step >= len(rate):
        return None
    return Cut(step, float(rate.max()), float(np.median(rate[step:])))


def find_spikes(
    values: np.ndarray,
    ratio: float,
    least: float,
) -> list[int]:
    """Return the steps at which a curve jumps above its recent median.

    A jump is a mean of 3 steps above `ratio` times the median of the 20 steps before them, by at
    least `least`. Steps of one jump count once.

    Args:
        values: (steps,).
        ratio: Ratio to the median.
        least: Least rise, in units of the curve.
    """
    if len(values) < RECENT + PEAK:
        return []
    values = np.asarray(values, float)
    peaks = np.lib.stride_tricks.sliding_window_view(values[RECENT:], PEAK).mean(1)
    # Losses are positive, so that a lower peak cannot rise by the least.
    steps = np.flatnonzero(peaks > least)
    before = np.lib.stride_tricks.sliding_window_view(values, RECENT)[steps]
    level = np.median(before, axis=1)
    is_spike = (peaks[steps] > ratio * level) & (peaks[steps] - level > least)
    found: list[int] = []
    for step in steps[is_spike] + RECENT:
        if not found or step - found[-1] >= RECENT:
            found.append(int(step))
    return found


def largest_rise(values: np.ndarray) -> float:
    """Return the largest rise of a curve above its minimum before; 0 if it is not finite.

    Args:
        values: (steps,).
    """
    if not np.isfinite(values).all():
        return 0.0
    return float((values - np.minimum.accumulate(values)).max())
