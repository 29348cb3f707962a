"""The band of usable learning rates, by the losses of a rate test.

It depends on the order of the rates and on the losses alone, hence on no axis.
"""

from dataclasses import dataclass

import numpy as np

USEFUL_SHARE = 0.5  # of the best progress, which the low end of the band reaches
NEAR_SHARE = 0.98  # of the best progress, which the suggestion reaches
TAIL_SHARE = 0.25  # of the steps, whose mean loss is compared
ROUNDING = 1e-4  # relative rise of the loss that is no divergence,
NOISE = 0.02  # and the rise relative to the largest fall


@dataclass(frozen=True, eq=False)
class Band:
    """Rates by the losses of a rate test.

    Attributes:
        low: The smallest rate with half of the best progress; NaN if no rate makes progress.
        suggested: The smallest rate with 98 % of the best progress; NaN if none makes progress.
        high: The largest rate up to which the loss falls at all rates; NaN if it falls at none.
    """

    low: float
    suggested: float
    high: float


def find_band(
    rates: np.ndarray,
    losses: np.ndarray,
    baseline: np.ndarray,
) -> Band:
    """Find the band of rates by the rules of `rate_test`.

    Args:
        rates: Ascending, (rates,).
        losses: (rates, seeds, steps).
        baseline: Losses without training, (seeds, steps).
    """
    after = tail_mean(losses)  # (rates, seeds)
    before = tail_mean(baseline)  # (seeds,)
    # (rates, seeds, steps) -> (rates, seeds)
    is_finite = np.isfinite(losses).all(2)
    # The largest fall of each seed, (seeds,).
    fall = before - np.where(is_finite, after, np.inf).min(0)
    slack = ROUNDING * np.abs(before) + NOISE * np.maximum(fall, 0)
    # (rates, seeds) -> (rates,)
    is_stable = (is_finite & (after <= before + slack)).all(1)
    # The number of stable rates before the first one that is not.
    count = len(rates) if is_stable.all() else int(is_stable.argmin())
    if count == 0:
        return Band(np.nan, np.nan, np.nan)
    # (stable rates, seeds)
    progress = before - after[:count]
    # Each seed counts the same, whatever the scale of its loss.
    best = progress.max(0)
    # A seed without progress adds 0. (stable rates, seeds) -> (stable rates,)
    share = (progress / np.where(best > 0, best, np.inf)).mean(1)
    high = float(rates[count - 1])
    if share.max() <= 0:
        return Band(np.nan, np.nan, high)
    reach = share / share.max()
    # The argmax is the first True, hence the smallest such rate.
    suggested = float(rates[np.argmax(reach >= NEAR_SHARE)])
    return Band(float(rates[np.argmax(reach >= USEFUL_SHARE)]), suggested, high)


def tail_mean(losses: np.ndarray) -> np.ndarray:
    """Return the mean losses (...) over the last of the steps (..., steps)."""
    tail = max(1, round(TAIL_SHARE * losses.shape[-1]))
    return losses[..., -tail:].mean(-1)
