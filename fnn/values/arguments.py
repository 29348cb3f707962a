"""The error of a call whose arguments do not fit the signature of a maker."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from fnn.errors import ArgumentError

# Ratio of similarity from which on a name counts as a misspelling, as optimiser for optimizer.
SIMILAR = 0.6


def expect_arguments(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Raise ArgumentError unless a function of this signature can be called with the arguments.

    Args:
        name: Name of the function in the error.
        signature: Its signature.
        args: Positional arguments.
        kwargs: Arguments by name.

    Raises:
        ArgumentError: A name is not known or is given twice, an argument is missing, or there are
            too many positional ones.
    """
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        pass
    else:
        return
    parameters = signature.parameters.values()
    named = [
        one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    given = {*kwargs, *positional[: len(args)]}
    absent = [
        one.name
        for one in parameters
        if one.name in named and one.default is one.empty and one.name not in given
    ]
    unknown = [one for one in kwargs if one not in named]
    if unknown:
        wrong = unknown[0]
        known = f"one of {', '.join(named)}" if named else "no arguments"
        raise ArgumentError(
            f"{name} {wrong}", known, repr(wrong), _advice(wrong, named, absent)
        ) from None
    if len(args) > len(positional):
        others = [one for one in named if one not in positional]
        advice = f"give others by name: {', '.join(others)}" if others else "leave out the others"
        if positional and not others:
            advice = f"give {positional[-1]} as one value, such as a tuple"
        raise ArgumentError(name, _positions(positional), len(args), advice) from None
    if absent:
        expected = f"an argument {absent[0]}"
        raise ArgumentError(name, expected, "none", f"give {absent[0]}=...") from None
    twice = next(one for one in positional[: len(args)] if one in kwargs)
    advice = "give it by position or by name"
    raise ArgumentError(f"{name} {twice}", "it once", "it twice", advice) from None


def _positions(names: list[str]) -> str:
    """Describe the arguments that may be given by position."""
    if not names:
        return "no arguments by position"
    return f"at most {len(names)} by position ({', '.join(names)})"


def _advice(wrong: str, named: list[str], absent: list[str]) -> str:
    """Return the argument that was probably meant: of a similar name, or the one missing."""
    # One name within the other, as kernel_size and kernel.
    related = [one for one in named if len(wrong) > 2 and (one in wrong or wrong in one)]
    similar = difflib.get_close_matches(wrong, named, 1, SIMILAR)
    # `lr` is like no other name, but in adam(lr=1e-3) there is no `rate`.
    likely = [*related, *similar] or (absent if len(absent) == 1 else [])
    return f"give {likely[0]}=..." if likely else "leave it out, or use another function"
