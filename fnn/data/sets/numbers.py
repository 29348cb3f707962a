"""Numbers and targets of tables, parsed from text without loss of whole numbers."""

import math
from collections.abc import Mapping

import numpy as np

from fnn.errors import DatasetFormatError

MAX_FLOAT = float(np.finfo(np.float32).max)
# From here on, float32 and float64 skip whole numbers.
FLOAT32_WHOLE = 2**24
FLOAT64_WHOLE = 2**53
INT32_END = 2**31
INT64_END = 2**63


def to_number(field: str) -> float:
    """Parse a number; return NaN for other text."""
    try:
        number = float(field)
    except ValueError:
        return math.nan
    # float() reads Python's 1_000, and the digits of all scripts.
    return number if field.isascii() and "_" not in field else math.nan


def is_wide(where: str, field: str, number: float) -> bool:
    """Return whether a number written without exponent is too long for float32.

    Raises DatasetFormatError if it is a whole number that is too long for float64.
    """
    digits = field.strip()
    if abs(number) <= FLOAT32_WHOLE or not digits.lstrip("+-").replace(".", "", 1).isdigit():
        return False
    if "." not in digits and abs(number) >= FLOAT64_WHOLE and int(digits) != number:
        advice = "leave the column out, or make it text, as an identifier"
        raise DatasetFormatError(where, "a whole number of float64", repr(field), advice)
    return float(np.float32(number)) != number


def _is_empty(field: str) -> bool:
    """Return whether a target is missing or a number that is not finite, and no name."""
    return not field or field.lower().lstrip("+-") in ("nan", "inf", "infinity")


def parse_targets(
    where: str,
    fields: list[str],
    codes: Mapping[str, int] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the targets of a table, and the names of their classes.

    Args:
        where: Name of the column in errors.
        fields: The text of each target.
        codes: Code of each class; None for numbers, or for names in sorted order.
    """
    if codes is not None:
        unknown = [field for field in fields if field not in codes]
        if unknown:
            expected = f"one of the categories {', '.join(codes)}"
            advice = "add it to categories=, or correct it"
            raise DatasetFormatError(where, expected, repr(unknown[0]), advice)
        return np.array([codes[field] for field in fields], np.int32), tuple(codes)
    numbers = np.array([to_number(field) for field in fields])
    # False for NaN, hence for text.
    finite = np.abs(numbers) <= MAX_FLOAT
    if not finite.any() and not any(map(_is_empty, fields)):
        # Not np.unique, which drops the characters 0 at the end of a text.
        classes = tuple(sorted(set(fields)))
        index_of = {name: index for index, name in enumerate(classes)}
        return np.array([index_of[field] for field in fields], np.int32), classes
    if not finite.all():
        expected = "finite numbers, or names, in all rows"
        got = repr(fields[int(finite.argmin())])
        raise DatasetFormatError(
            where,
            expected,
            got,
            "correct it, or leave the row out",
        )
    return _narrow(where, fields, numbers), ()


def _narrow(where: str, fields: list[str], numbers: np.ndarray) -> np.ndarray:
    """Return the numbers in the narrowest dtype that keeps the values of whole numbers."""
    largest = np.abs(numbers).max()
    # Whole numbers are labels or counts.
    if np.all(numbers == np.rint(numbers)):
        if largest < INT32_END:
            return numbers.astype(np.int32)
        if all(field.lstrip("+-").isdigit() for field in fields):
            # The texts, because float64 has rounded the numbers.
            whole = [int(field) for field in fields]
            if min(whole) >= -INT64_END and max(whole) < INT64_END:
                return np.array(whole, np.int64)
            got = repr(fields[int(np.abs(numbers).argmax())])
            advice = "make it text, as a name"
            raise DatasetFormatError(where, "whole numbers of int64", got, advice)
    wide = [is_wide(where, *pair) for pair in zip(fields, numbers.tolist(), strict=True)]
    return numbers if any(wide) else numbers.astype(np.float32)
