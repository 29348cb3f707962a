"""Conformal intervals of a regression, which hold the truth with a given probability."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.ensemble.conformal import conformal_quantile
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.objective.targets import expect_floats
from fnn.types import Number
from fnn.values import maker


class PredictionInterval(NamedTuple):
    """Intervals of a regression, each empty where low > high.

    Attributes:
        low: Lower ends, (n, ...).
        high: Upper ends, (n, ...).
    """

    low: Array
    high: Array


PredictionIntervals = Callable[..., PredictionInterval]


@maker
def residual_intervals(half_width: Array) -> PredictionIntervals:
    """Intervals prediction ± half width, or prediction ± half width times deviation.

    intervals(predictions) or intervals(predictions, deviations) is a `PredictionInterval`. Fit the
    half width by `fit_residual_intervals`.

    Args:
        half_width: A number, or one for each output, (...); in units of the deviation if there are
            deviations. Infinite for the whole line.
    """

    def intervals(predictions: Any, deviations: Any = None) -> PredictionInterval:
        center = _numbers("residual_intervals predictions", predictions)
        row = jnp.asarray(half_width, center.dtype)
        # A single number serves all outputs.
        if row.ndim and row.shape != center.shape[1:]:
            raise ShapeError(
                "residual_intervals predictions",
                f"(n, {', '.join(map(str, row.shape))}), the outputs that were fitted",
                center.shape,
                "fit the intervals to this network",
            )
        # (...) -> (n, ...)
        width = jnp.broadcast_to(row, center.shape)
        if deviations is not None:
            # The score was divided by the deviation, so the width is multiplied by it.
            width = width * _deviations("residual_intervals", deviations, center)
        return PredictionInterval(center - width, center + width)

    return intervals


def fit_residual_intervals(
    predictions: Any,
    targets: Any,
    alpha: Number,
    *,
    deviations: Any = None,
) -> PredictionIntervals:
    """Fit conformal intervals of a regression, by the absolute residuals.

    The score is |y - prediction|, or |y - prediction| / deviation for intervals that are wider
    where the network is less sure. Each interval holds the truth of a share of at least 1 - α of
    other examples, for each output on its own [Lei et al. 2018, arXiv:1604.04173]. For
    α < 1 / (n + 1) it is the whole line.

    Args:
        predictions: (n, ...), of examples that training has not used.
        targets: (n, ...).
        alpha: Share of examples that may be missed, in (0, 1).
        deviations: Predicted standard deviations, (n, ...) and > 0, such as the root of the total
            of `variance_decomposition`; None for intervals of one width. The intervals then need
            them too.

    Returns:
        `residual_intervals(half_width)`, which maps predictions to a `PredictionInterval`.

    Raises:
        ConfigError: `alpha` is outside of (0, 1).
        DTypeError: An array does not hold floats.
        ShapeError: The shapes do not fit.
    """
    where = "fit_residual_intervals"
    checks.number(f"{where} alpha", alpha, "(0, 1)")
    center = _numbers(f"{where} predictions", predictions)
    truth = _numbers(f"{where} targets", targets)
    _expect_shape(f"{where} targets", truth, center.shape)
    # (n, ...): each output has scores, hence a half width, of its own.
    scores = jnp.abs(truth.astype(center.dtype) - center)
    if deviations is not None:
        # Locally weighted residuals of Lei et al. 2018.
        scores = scores / _deviations(where, deviations, center)
    return residual_intervals(conformal_quantile(scores, alpha))


@maker
def quantile_intervals(margin: Number) -> PredictionIntervals:
    """Intervals between two predicted quantiles, widened by a margin.

    intervals(quantiles), for quantiles (n, 2), is a `PredictionInterval` of (n,): from the lower
    quantile - margin to the upper one + margin. A negative margin narrows it. Fit the margin by
    `fit_quantile_intervals`.

    Args:
        margin: A number; infinite for the whole line.
    """
    checks.number("quantile_intervals margin", margin, "[-inf, inf]")

    def intervals(quantiles: Any) -> PredictionInterval:
        low, high = _ends("quantile_intervals", quantiles)
        # A negative margin may cross the ends: the interval is then empty.
        own = trees.knob(margin, low)
        return PredictionInterval(low - own, high + own)

    return intervals


def fit_quantile_intervals(
    quantiles: Any,
    targets: Any,
    alpha: Number,
) -> PredictionIntervals:
    """Fit conformal intervals to predicted quantiles (CQR).

    The score is max(low - y, y - high). The network has two outputs, as trained by
    `objective.quantile` for the levels α / 2 and 1 - α / 2. Each interval holds the truth of a
    share of at least 1 - α of other examples [Romano et al. 2019, arXiv:1905.03222]. For
    α < 1 / (n + 1) it is the whole line.

    Args:
        quantiles: (n, 2), the lower and the upper quantile of examples that training has not used.
        targets: (n,) or (n, 1).
        alpha: Share of examples that may be missed, in (0, 1).

    Returns:
        `quantile_intervals(margin)`, which maps quantiles to a `PredictionInterval`.

    Raises:
        ConfigError: `alpha` is outside of (0, 1), or the lower quantile is above the upper one in
            most examples. A few that cross are a warning: the intervals stay valid, and become
            shorter if both quantiles are sorted.
        DTypeError: An array does not hold floats.
        ShapeError: The shapes do not fit.
    """
    where = "fit_quantile_intervals"
    checks.number(f"{where} alpha", alpha, "(0, 1)")
    low, high = _ends(where, quantiles)
    _expect_order(where, low, high)
    truth = _numbers(f"{where} targets", targets)
    # Targets may have the axis of one output.
    if truth.shape != (len(low), 1):
        _expect_shape(f"{where} targets", truth, low.shape)
    # (n,) or (n, 1) -> (n,)
    truth = truth.reshape(-1).astype(low.dtype)
    # Signed distance to the nearer end, < 0 within the interval: wide ones are narrowed.
    scores = jnp.maximum(low - truth, truth - high)
    return quantile_intervals(conformal_quantile(scores, alpha))


def _ends(where: str, quantiles: Any) -> tuple[Array, Array]:
    ends = _numbers(f"{where} quantiles", quantiles)
    if ends.ndim != 2 or ends.shape[1] != 2:
        raise ShapeError(
            f"{where} quantiles",
            "(n, 2), the lower and the upper one",
            ends.shape,
            "stack them, as in jnp.stack([low, high], -1)",
        )
    return ends[:, 0], ends[:, 1]


def _expect_order(where: str, low: Array, high: Array) -> None:
    """Raise ConfigError if most quantiles are in the wrong order; warn if some are."""
    if not (checks.is_concrete(low) and checks.is_concrete(high)):
        return
    crossing = int((low > high).sum())
    if not crossing:
        return
    got = f"{crossing} of {len(low)} that cross"
    if 2 * crossing > len(low):
        advice = "give the lower quantile first, quantiles[:, ::-1]"
        raise ConfigError(f"{where} quantiles", "low <= high", got, advice)
    # Estimates of two quantiles may cross [Chernozhukov et al. 2010, doi:10.3982/ECTA7880].
    advice = "sort both for shorter intervals, as in jnp.sort(quantiles, 1), also for new examples"
    warnings.warn(f"{where} quantiles: expected low <= high, got {got}; {advice}", stacklevel=3)


def _numbers(where: str, values: Any) -> Array:
    expect_floats(where, values)
    if not values.ndim or not values.size:
        raise ShapeError(
            where,
            "(n, ...)",
            values.shape,
            "give one number an example",
        )
    # Differences of 16-bit numbers would give scores with many ties.
    return jnp.asarray(values, trees.wide(values))


def _deviations(where: str, deviations: Any, center: Array) -> Array:
    own = _numbers(f"{where} deviations", deviations)
    _expect_shape(f"{where} deviations", own, center.shape)
    # A deviation of 0 would make a score infinite or NaN.
    if checks.is_concrete(own) and not bool((own > 0).all()):
        raise DTypeError(
            f"{where} deviations",
            "numbers > 0",
            "0, a negative number or NaN",
            "give standard deviations, with a small constant added",
        )
    return own.astype(center.dtype)


def _expect_shape(where: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ShapeError(
            where,
            f"the predictions' shape {shape}",
            array.shape,
            "reshape them",
        )
