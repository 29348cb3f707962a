"""The power law of a learning curve, and its fit."""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from fnn import checks
from fnn.errors import ConfigError

EXPONENTS = np.linspace(0.02, 3, 150)  # candidates for c, from which the fit begins
# A limit, since scores that fall only once would let c grow without end.
MAX_EXPONENT = 10.0


class Estimate(NamedTuple):
    """Scores that a power law predicts, with an interval of the mean score.

    Attributes:
        mean: (sizes,), or a number.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: Any
    low: Any
    high: Any


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """The power law score = a + b n^-c, fitted by least squares.

    Attributes:
        a: Score of infinitely many examples.
        b: Scale; > 0 for a score that falls, < 0 for one that rises.
        c: Exponent, > 0.
        covariance: Of (a, scaled b, c), (3, 3); infinite where the scores do not determine them.
        freedom: Number of scores minus 3.
        pivot: Number of examples at which b is scaled: b = scaled b · pivot^c.
    """

    a: float
    b: float
    c: float
    covariance: np.ndarray
    freedom: int
    pivot: float

    def predict(self, sizes: Any, level: float = 0.95) -> Estimate:
        """Return the scores at other sizes, also beyond those measured.

        The interval is that of the mean score over seeds, by the linearized fit. It assumes that
        the power law holds. Extrapolate by a factor of 2 to 4 rather than of 100.

        Args:
            sizes: Numbers of examples, > 0.
            level: Probability of the interval, in (0, 1).
        """
        checks.number("predict level", level, "(0, 1)")
        n = np.asarray(sizes, float)
        if not (n > 0).all():
            raise ConfigError(
                "predict sizes",
                "numbers > 0",
                sizes,
                "give numbers of examples",
            )
        # Powers of n / pivot neither overflow nor vanish.
        scaled = n / self.pivot
        height = self.b * self.pivot**-self.c
        decay = scaled**-self.c
        # The slopes by a, scaled b and c, (..., 3).
        slopes = np.stack([np.ones_like(n), decay, -height * decay * np.log(scaled)], -1)
        if np.isfinite(self.covariance).all():
            # (..., 3), (3, 3), (..., 3) -> (...)
            variance = np.einsum("...i,ij,...j->...", slopes, self.covariance, slopes)
            # Rounding can make a variance of 0 negative.
            deviation = np.sqrt(np.maximum(variance, 0))
        else:
            deviation = np.full_like(n, np.inf)
        # Three scores leave no degree of freedom; 1 gives the widest interval.
        width = stdtrit(max(self.freedom, 1), (1 + level) / 2) * deviation
        mean = self.a + height * decay
        ends = (mean, mean - width, mean + width)
        return Estimate(*(map(float, ends) if n.ndim == 0 else ends))

    def __repr__(self) -> str:
        sign = "-" if self.b < 0 else "+"
        return f"{self.a:.4g} {sign} {abs(self.b):.4g} n^-{self.c:.3g}"


def fit_power_law(sizes: np.ndarray, scores: np.ndarray) -> PowerLaw:
    """Fit score = a + b n^-c by least squares.

    Args:
        sizes: Numbers of examples, (scores,).
        scores: (scores,); those that are not finite are left out.

    Raises:
        ConfigError: There are finite scores of fewer than three sizes.
    """
    if not has_fit(sizes, scores.reshape(len(sizes), -1)):
        got = len(np.unique(sizes[np.isfinite(scores)]))
        advice = "measure more sizes, spread over a factor of 10"
        raise ConfigError(
            "fit sizes",
            "finite scores of at least three sizes",
            got,
            advice,
        )
    # On first use, since it takes long to import.
    from scipy import optimize

    is_finite = np.isfinite(scores)
    n = np.asarray(sizes, float)[is_finite]
    y = np.asarray(scores, float)[is_finite]
    # Sizes around 1, and scores around 0 with a deviation of 1, are well-conditioned.
    pivot = float(np.exp(np.log(n).mean()))
    # Equal scores have no deviation to divide by.
    shift, scale = y.mean(), y.std() or 1.0
    x, target = n / pivot, (y - shift) / scale

    def law(
        x: np.ndarray,
        a: float,
        b: float,
        c: float,
    ) -> np.ndarray:
        return a + b * x**-c

    # a and b are linear for a given exponent, so that only c needs a good start.
    start = min((_linear_fit(x, target, c) for c in EXPONENTS), key=lambda one: one[0])[1]
    bounds = ([-np.inf, -np.inf, 0.0], [np.inf, np.inf, MAX_EXPONENT])
    with warnings.catch_warnings():
        # Scores without a trend do not determine c. Then the covariance is infinite.
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        (a, b, c), covariance = optimize.curve_fit(
            law,
            x,
            target,
            p0=start,
            bounds=bounds,
            max_nfev=10_000,
            ftol=1e-12,
            xtol=1e-12,
        )
    # Back in the units of sizes and scores.
    units = np.array([scale, scale, 1.0])
    return PowerLaw(
        a=float(shift + scale * a),
        # By b (n / pivot)^-c = b pivot^c n^-c.
        b=float(scale * b * pivot**c),
        c=float(c),
        # Cov(D z) = D Cov(z) D for a diagonal matrix D.
        covariance=covariance * np.outer(units, units),
        freedom=len(y) - 3,
        pivot=pivot,
    )


def _linear_fit(x: np.ndarray, y: np.ndarray, c: float) -> tuple[float, tuple[float, ...]]:
    """Return the squared error and (a, b, c) of the best law with this exponent."""
    # (scores, 2)
    columns = np.stack([np.ones_like(x), x**-c], 1)
    solution = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(np.square(columns @ solution - y).sum()), (*map(float, solution), c)


def has_fit(sizes: np.ndarray, scores: np.ndarray) -> bool:
    """Return whether there are finite scores of at least three sizes, which a fit needs.

    Args:
        sizes: Numbers of examples, (sizes,).
        scores: (sizes, seeds).
    """
    # Three parameters need three sizes; seeds of one size count once.
    return len(np.unique(sizes[np.isfinite(scores).any(1)])) >= 3
