"""Numbers and targets of tables, parsed from text without loss of whole numbers."""

import math
from collections.abc import Mapping, Set

import numpy as np

from fnn.errors import DatasetFormatError

MAX_FLOAT = float(np.finfo(np.float32).max)
FLOAT32_DIGITS = 7  # decimal digits, at most
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
    if not field.isascii() or "_" in field:
        return math.nan
    return number


def is_wide(
    where: str,
    field: str,
    number: float,
) -> bool:
    """Return whether a large number is written with more digits than float32 holds.

    Raises DatasetFormatError if it is a whole number that is too long for float64.
    """
    digits = field.strip()
    size = abs(number)
    # Numbers up to here are exact in float32, if they are whole.
    if size <= FLOAT32_WHOLE:
        return False
    unsigned = digits.lstrip("+-")
    mantissa, *exponent = unsigned.lower().split("e")
    written = mantissa.replace(".", "", 1)
    if not written.isdigit():
        return False
    # 6.02e23 is rounded in the file already.
    if exponent and len(written.strip("0")) <= FLOAT32_DIGITS:
        return False
    is_whole = not exponent and "." not in digits
    if is_whole and size >= FLOAT64_WHOLE and int(digits) != number:
        expected = "a whole number of float64"
        got = repr(field)
        advice = "leave the column out, or make it text, as an identifier"
        raise DatasetFormatError(where, expected, got, advice)
    narrowed = np.float32(number)
    return float(narrowed) != number


def _is_nonfinite(field: str) -> bool:
    """Return whether a target is the text of NaN or infinity, and no name."""
    return field.lower().lstrip("+-") in ("nan", "inf", "infinity")


def parse_targets(
    where: str,
    fields: list[str],
    codes: Mapping[str, int] | None,
    missing: Set[str],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the targets of a table, and the names of their classes.

    Args:
        where: Name of the column in errors.
        fields: The text of each target.
        codes: Code of each class; None for numbers, or for names in sorted order.
        missing: Texts that are neither a number nor a name.
    """
    if codes is not None:
        unknown = [field for field in fields if field not in codes]
        if unknown:
            listed = ", ".join(codes)
            expected = f"one of the categories {listed}"
            got = repr(unknown[0])
            advice = "add it to categories=, or correct it"
            raise DatasetFormatError(where, expected, got, advice)
        known = [codes[field] for field in fields]
        return np.array(known, np.int32), tuple(codes)
    parsed = [to_number(field) for field in fields]
    numbers = np.array(parsed)
    # False for NaN, hence for text.
    finite = np.abs(numbers) <= MAX_FLOAT
    nameless = [field for field in fields if field in missing or _is_nonfinite(field)]
    are_names = not finite.any() and not nameless
    if are_names:
        # Not np.unique, which drops the characters 0 at the end of a text.
        classes = tuple(sorted(set(fields)))
        index_of = {name: index for index, name in enumerate(classes)}
        labels = [index_of[field] for field in fields]
        return np.array(labels, np.int32), classes
    if not finite.all():
        got = repr(nameless[0] if nameless else fields[int(finite.argmin())])
        advice = "correct it, or leave the row out"
        if nameless and nameless[0] in missing:
            advice = 'leave the row out, as by missing="drop", or name all classes by categories='
        raise DatasetFormatError(where, "finite numbers, or names, in all rows", got, advice)
    narrowed = _narrow(where, fields, numbers)
    return narrowed, ()


def _narrow(
    where: str,
    fields: list[str],
    numbers: np.ndarray,
) -> np.ndarray:
    """Return the numbers in the narrowest dtype that keeps the values of whole numbers."""
    sizes = np.abs(numbers)
    largest = sizes.max()
    # Whole numbers are labels or counts.
    are_whole = numbers == np.rint(numbers)
    if np.all(are_whole):
        if largest < INT32_END:
            return numbers.astype(np.int32)
        if all(field.lstrip("+-").isdigit() for field in fields):
            # The texts, because float64 has rounded the numbers.
            whole = [int(field) for field in fields]
            if min(whole) >= -INT64_END and max(whole) < INT64_END:
                return np.array(whole, np.int64)
            index = int(sizes.argmax())
            got = repr(fields[index])
            advice = "make it text, as a name"
            raise DatasetFormatError(where, "whole numbers of int64", got, advice)
    # All are checked, since a check may raise an error.
    wide = []
    for field, number in zip(fields, numbers.tolist(), strict=True):
        wide.append(is_wide(where, field, number))
    if any(wide):
        return numbers
    return numbers.astype(np.float32)
