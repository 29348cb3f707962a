"""Distributions of hyperparameters, which take the place of numbers and choices in a recipe."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from fnn import checks
from fnn.errors import ConfigError
from fnn.values import Variable, shown

# Quantiles are taken of [0, 1). A normal distribution would be infinite at its ends.
# At 1e-12 it is 7 standard deviations from the mean.
MIN_PROBABILITY = 1e-12


class Distribution(Variable):
    """A distribution of one hyperparameter. The same object in two places is one hyperparameter.

    Attributes:
        kind: Name of the function that made it, such as log_uniform.
        options: The values of a choice, in its order; None for an interval.
        ends: The lowest and the highest value of an interval, of a normal distribution almost; None
            for a choice.
        examples: Values with which a call is checked: both ends, or all options.
        is_number: Whether all values are numbers.
        is_finite: Whether there are finitely many values.
        values: The values, in order; None for infinitely many.
        is_log: Whether the distribution is uniform in the logarithm of the value.
        quantile: From a probability in [0, 1) to the value.
        probability: From a value to the probability of a smaller one: the inverse of `quantile`.
    """

    def __init__(
        self,
        call: tuple[str, tuple[Any, ...]],
        examples: tuple[Any, ...],
        quantile: Callable[[float], Any],
        probability: Callable[[Any], float],
        *,
        values: Sequence[Any] | None = None,
        is_log: bool = False,
        is_number: bool = True,
    ):
        self._call = call
        self.kind = call[0]
        self.examples = examples
        self.quantile = quantile
        self.probability = probability
        self.values = values
        self.is_log = is_log
        self.is_number = is_number
        self.is_finite = values is not None

    @property
    def options(self) -> tuple[Any, ...] | None:
        """The values of a choice, in its order; None for an interval."""
        return self.examples if self.kind == "choice" else None

    @property
    def ends(self) -> tuple[Any, Any] | None:
        """The lowest and the highest value of an interval; None for a choice."""
        return None if self.kind == "choice" else (self.examples[0], self.examples[1])

    def points(self, count: int) -> list[Any]:
        """Return the values of a grid.

        Args:
            count: Number of values of an interval, both ends included. Of finitely many values all
                are returned.
        """
        if self.values is not None:
            return list(self.values)
        # The examples of an interval are its ends.
        low, high = map(float, self.examples)
        if self.is_log:
            # Even steps on the scale of the distribution.
            return [float(value) for value in np.geomspace(low, high, count)]
        return [float(value) for value in np.linspace(low, high, count)]

    def shown_call(self) -> tuple[str, list[tuple[str | None, Any]]]:
        """The maker and its arguments, as in search.uniform(0, 0.5)."""
        name, arguments = self._call
        return f"search.{name}", [(None, argument) for argument in arguments]

    def __repr__(self) -> str:
        return shown(self)

    # Two distributions that were made alike are equal, so that spaces can be compared. They are
    # two hyperparameters nevertheless: those are distinguished by identity.

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distribution) and self._call == other._call

    def __hash__(self) -> int:
        # By text, since an option may have no hash.
        return hash(repr(self._call))


def uniform(low: float, high: float) -> Distribution:
    """Uniform distribution on an interval.

    Args:
        low: Lower end.
        high: Upper end, > low.

    Raises:
        ConfigError: The interval is empty, or an end is not a finite number.
    """
    low, high = _interval("uniform", low, high)

    def quantile(u: float) -> float:
        return low + u * (high - low)

    def probability(value: float) -> float:
        return (value - low) / (high - low)

    return Distribution(
        ("uniform", (low, high)),
        (low, high),
        quantile,
        probability,
    )


def log_uniform(low: float, high: float) -> Distribution:
    """Distribution on an interval whose logarithm is uniform, as for rates; its median is √(ab).

    Args:
        low: Lower end a, > 0.
        high: Upper end b, > low.

    Raises:
        ConfigError: The interval is empty or not positive, or an end is not a finite number.
    """
    low, high = _positive("log_uniform", *_interval("log_uniform", low, high))
    # Of the logarithm.
    span = math.log(high / low)

    def quantile(u: float) -> float:
        # Rounding must not leave the interval.
        return min(max(low * math.exp(u * span), low), high)

    def probability(value: float) -> float:
        return math.log(value / low) / span

    call = ("log_uniform", (low, high))
    return Distribution(
        call,
        (low, high),
        quantile,
        probability,
        is_log=True,
    )


def normal(mean: float, deviation: float) -> Distribution:
    """Normal distribution. In a recipe, the numbers within 7 deviations must be valid.

    Args:
        mean: Its mean.
        deviation: Its standard deviation, > 0.

    Raises:
        ConfigError: An argument is not a finite number, or the deviation is not positive.
    """
    checks.number("normal mean", mean, "(-inf, inf)")
    checks.number("normal deviation", deviation, "(0, inf)")
    mean = float(mean)
    deviation = float(deviation)

    def quantile(u: float) -> float:
        # Finite also at the ends of [0, 1).
        inside = min(max(u, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
        return mean + deviation * float(ndtri(inside))

    def probability(value: float) -> float:
        return float(ndtr((value - mean) / deviation))

    # They are finite, since recipes are checked with them.
    ends = (quantile(0.0), quantile(1.0))
    return Distribution(
        ("normal", (mean, deviation)),
        ends,
        quantile,
        probability,
    )


def integer(low: int, high: int) -> Distribution:
    """Integers of an interval, all equally likely, both ends included.

    In the place of a number such as a patience all values share one program. In the place of
    structure, such as a width, each value compiles once.

    Args:
        low: Smallest value.
        high: Largest value, > low.

    Raises:
        ConfigError: The interval is empty, or an end is not an integer.
    """
    low, high = _integers("integer", low, high)
    count = high - low + 1

    def quantile(u: float) -> int:
        # For u just below 1, the product may round up to the count.
        return low + min(int(u * count), count - 1)

    def probability(value: int) -> float:
        return (value - low) / count

    call = ("integer", (low, high))
    values = range(low, high + 1)
    return Distribution(
        call,
        (low, high),
        quantile,
        probability,
        values=values,
    )


def log_integer(low: int, high: int) -> Distribution:
    """Integers of an interval, k with a probability proportional to log((k + 1) / k).

    Args:
        low: Smallest value, >= 1.
        high: Largest value, > low.

    Raises:
        ConfigError: The interval is empty or begins below 1, or an end is not an integer.
    """
    low, high = _positive("log_integer", *_integers("log_integer", low, high))
    # Each integer k is the interval [k, k + 1).
    span = math.log((high + 1) / low)

    def quantile(u: float) -> int:
        # Truncation maps the interval [k, k + 1) to k.
        return min(max(int(low * math.exp(u * span)), low), high)

    def probability(value: int) -> float:
        return math.log(value / low) / span

    call = ("log_integer", (low, high))
    values = range(low, high + 1)
    return Distribution(
        call,
        (low, high),
        quantile,
        probability,
        values=values,
        is_log=True,
    )


def choice(*options: Any) -> Distribution:
    """One of several values, all equally likely.

    Options can be numbers or structure: activations, widths, optimizers, whole networks. They can
    have distributions themselves, as in

        search.choice(optim.sgd(search.log_uniform(1e-3, 1)), optim.adam(1e-3))

    Args:
        options: The values, or one list of them.

    Raises:
        ConfigError: There are no options.
    """
    if len(options) == 1 and isinstance(options[0], list | tuple):
        options = tuple(options[0])
    if not options:
        raise ConfigError(
            "choice options",
            "at least one",
            "none",
            "give the values to choose of",
        )
    count = len(options)

    def quantile(u: float) -> Any:
        # As for an integer, the product may round up to the count.
        return options[min(int(u * count), count - 1)]

    def probability(value: Any) -> float:
        # Options such as functions are compared by identity.
        index = next(i for i, option in enumerate(options) if option is value or option == value)
        return index / count

    # A bool is an int of Python, but no number that could be changed by a factor.
    is_number = all(
        isinstance(option, int | float | np.number) and not isinstance(option, bool)
        for option in options
    )
    call = ("choice", options)
    return Distribution(
        call,
        options,
        quantile,
        probability,
        values=options,
        is_number=is_number,
    )


def _interval(
    name: str,
    low: Any,
    high: Any,
) -> tuple[float, float]:
    """Return both ends as floats; ConfigError unless low < high."""
    checks.number(f"{name} low", low, "(-inf, inf)")
    checks.number(f"{name} high", high, "(-inf, inf)")
    _expect_order(name, low, high)
    return float(low), float(high)


def _integers(
    name: str,
    low: Any,
    high: Any,
) -> tuple[int, int]:
    """Return both ends as integers; ConfigError unless low < high."""
    # A compiled program has integers of 32 bits.
    smallest = -(2**31)
    low = checks.whole(f"{name} low", low, smallest)
    high = checks.whole(f"{name} high", high, smallest)
    _expect_order(name, low, high)
    return low, high


def _expect_order(
    name: str,
    low: Any,
    high: Any,
) -> None:
    if not low < high:
        advice = "exchange them" if low > high else "give the number itself"
        raise ConfigError(
            f"{name} high",
            f"a number > low = {low}",
            high,
            advice,
        )


def _positive(
    name: str,
    low: Any,
    high: Any,
) -> tuple[Any, Any]:
    if low <= 0:
        advice = "begin above 0, since the logarithm is uniform"
        raise ConfigError(
            f"{name} low",
            "a number > 0",
            low,
            advice,
        )
    return low, high
