"""Columns of hyperparameters: their values, labels of options, and positions on their scale."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fnn.search.distributions import Distribution
from fnn.search.space import Space
from fnn.values import shown
from fnn.values.show import Shown

NO_VALUE = "-"  # label of a hyperparameter of an option that was not chosen
MAX_LABEL = 60  # columns of the label of an option


def hyperparameter_columns(space: Space, values: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the values of trials as one array (trials,) for each hyperparameter, by path.

    Args:
        space: The space.
        values: By path, of each trial; None for those of options that were not chosen.
    """
    columns = {}
    for path, distribution in space.distributions.items():
        column = [one[path] for one in values]
        if distribution.is_number:
            # NaN keeps the column numeric, as tables and statistics need it.
            numbers = [np.nan if value is None else value for value in column]
            columns[path] = np.array(numbers, float)
        else:
            # Not np.array(column), which would look into values that are sequences.
            columns[path] = np.empty(len(column), object)
            columns[path][:] = column
    return columns


def positions(distribution: Distribution, column: np.ndarray) -> np.ndarray:
    """Return values on the scale of their distribution, (trials,); NaN for NaN and None.

    They are probabilities of smaller values, from 0 to 1, for an integer at the middle of its
    probability. Options are evenly spaced, numbers in ascending order.

    Args:
        distribution: Of the values.
        column: The values, (trials,).
    """
    result = np.full(len(column), np.nan)
    options = choice_options(distribution)
    if options is not None:
        for row, option in enumerate(_indices(options, column)):
            if option is not None:
                # The middle of the interval of probabilities that gives this option.
                result[row] = (option + 0.5) / len(options)
        return result
    # Values that were not chosen stay NaN.
    for index in np.flatnonzero(np.isfinite(column.astype(float))):
        value = column[index]
        result[index] = distribution.probability(value)
        # An integer k has the interval from its own probability to that of k + 1.
        if distribution.is_finite:
            next_one = distribution.probability(value + 1)
            result[index] = (result[index] + next_one) / 2
    return result


def labeled(distribution: Distribution, column: np.ndarray) -> np.ndarray:
    """Return a column of numbers as it is, and one of options as their labels, (trials,).

    Args:
        distribution: Of the values.
        column: The values, (trials,).
    """
    if column.dtype != object:
        return column
    options = distribution.options
    assert options is not None  # an interval has numbers
    # Labels have the order of the options, so that both share an index.
    labels = option_labels(options)
    texts = [None if index is None else labels[index] for index in _indices(options, column)]
    return np.array(texts, object)


def value_label(distribution: Distribution, value: Any) -> str:
    """Return the text of a value; a dash if there is none.

    Args:
        distribution: Of the value.
        value: The value, or None.
    """
    options = distribution.options
    # None can be an option too, as in choice(None, ...).
    if value is None and (options is None or None not in options):
        return NO_VALUE
    if options is None or distribution.is_number:
        return f"{value:.4g}"
    return option_labels(options)[_index(options, value)]


def option_labels(options: Sequence[Any]) -> list[str]:
    """Return a short text of each option of a choice; they differ.

    A value of a maker has the maker's name, such as optim.sgd, or the whole call where options
    share it.

    Args:
        options: Of the choice.
    """
    # The name of a maker is the shortest text, and often suffices.
    labels = list(map(_short_label, options))
    counts = Counter(labels)
    for index, option in enumerate(options):
        # Options of one maker differ in their arguments, which the whole call shows.
        if counts[labels[index]] > 1:
            labels[index] = " ".join(shown(option).split())[:MAX_LABEL]
    # Texts that were cut can still be equal.
    counts = Counter(labels)
    return [
        f"{label} #{index}" if counts[label] > 1 else label for index, label in enumerate(labels)
    ]


def _short_label(option: Any) -> str:
    if isinstance(option, str):
        return option
    # A value of a maker prints as its call, unless it has a text of its own.
    if isinstance(option, Shown) and option.shown_text() is None:
        return option.shown_call()[0]
    return " ".join(shown(option).split())[:MAX_LABEL]


def _index(options: Sequence[Any], value: Any) -> int:
    """Return the index of an option. Options such as functions are compared by identity."""
    return next(i for i, option in enumerate(options) if option is value or option == value)


def _indices(options: Sequence[Any], column: np.ndarray) -> list[int | None]:
    """Return the index of the option of each trial; None where none was chosen."""
    # None is an option, or the mark of a value that was not chosen.
    has_none = any(option is None for option in options)
    return [
        None if (value is None and not has_none) or _is_nan(value) else _index(options, value)
        for value in column
    ]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def choice_options(distribution: Distribution) -> list[Any] | None:
    """Return the options of a choice, numbers in ascending order; None for an interval."""
    options = distribution.options
    if options is None:
        return None
    # Numbers have an order, which positions follow.
    return sorted(options) if distribution.is_number else list(options)


def edges(distribution: Distribution) -> tuple[float, float] | None:
    """Return the lowest and the highest value; None for a distribution without edges."""
    # Any edge of a normal distribution would be arbitrary.
    if not distribution.is_number or distribution.kind == "normal":
        return None
    values = distribution.ends or distribution.options
    assert values is not None
    return float(min(values)), float(max(values))
