"""Calls with variables: makers called with arguments whose values are chosen later.

Such a call makes an open value, as a search space is. It is checked with examples of its variables,
but it cannot be used before `assign` has put a value in the place of each of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fnn.values.leaves import Variable
from fnn.values.made import Made


def is_open(value: Any) -> bool:
    """Return whether there is a variable in an argument of a call.

    Args:
        value: The argument.
    """
    if isinstance(value, Made):
        # Computed once, since each enclosing call asks again.
        if "is_open" not in value.cache:
            value.cache["is_open"] = any(map(is_open, value.children))
        return value.cache["is_open"]
    if isinstance(value, Variable):
        return True
    if type(value) in (tuple, list):
        return any(map(is_open, value))
    return type(value) is dict and any(map(is_open, value.values()))


def assign(value: Any, choose: Callable[[Variable], Any]) -> Any:
    """Return the value with choose(variable) in the place of each variable, unchecked.

    Args:
        value: An argument of a call.
        choose: Returns the value of a variable, which may have variables itself.
    """
    if not is_open(value):
        return value
    if isinstance(value, Variable):
        return assign(choose(value), choose)
    if isinstance(value, Made):
        arguments = {name: assign(part, choose) for name, part in value.arguments.items()}
        # Not built, since the call was checked with examples.
        return value.recorded(arguments)
    if type(value) is dict:
        return {name: assign(part, choose) for name, part in value.items()}
    return type(value)(assign(part, choose) for part in value)


def open_parts(argument: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Iterate over the variables and made values in an argument, each with its path."""
    if isinstance(argument, Variable | Made):
        yield path, argument
    elif type(argument) in (tuple, list):
        for index, part in enumerate(argument):
            yield from open_parts(part, (*path, str(index)))
    elif type(argument) is dict:
        for name, part in argument.items():
            yield from open_parts(part, (*path, str(name)))


def _example_names(variable: Variable) -> list[str]:
    """Return the end of the path of each example: .sgd, [1] without a name, or .sgd[1]."""
    names = [
        "." + example.shown_call()[0].rpartition(".")[-1] if isinstance(example, Made) else ""
        for example in variable.examples
    ]
    counts = Counter(names)
    return [
        name if name and counts[name] == 1 else f"{name}[{index}]"
        for index, name in enumerate(names)
    ]


def variables_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Variable]]:
    """Iterate over all variables of a value with their paths, such as optimizer.rate.peak.

    A variable of an option of another one has the name of the option in its path, as in
    optimizer.sgd.rate; also its index where options share a name, as in optimizer.sgd[1].rate. A
    variable in two places comes twice.

    Args:
        value: An argument of a call.
        path: The path of the value.
    """
    for inner, part in open_parts(value, path):
        if isinstance(part, Variable):
            yield ".".join(inner), part
            names = _example_names(part)
            for name, example in zip(names, part.examples, strict=True):
                yield from variables_of(example, (*inner[:-1], inner[-1] + name))
        else:
            for key, child in part.by_key():
                yield from variables_of(child, (*inner, key))
