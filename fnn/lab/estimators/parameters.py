"""Parameters of a recipe by the paths of scikit-learn, such as recipe__optimizer__rate."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from fnn.errors import ConfigError
from fnn.values import Made

SEPARATOR = "__"  # of scikit-learn, between the names in a path


def read_parameters(recipe: Any) -> dict[str, Any]:
    """Return the parameters of a recipe, or of a function that makes one, by path.

    Those of a recipe are the arguments of all makers in it, without arguments left at their
    defaults; those of a function are its options, the parameters with a default.

    Args:
        recipe: A recipe, or a function (outputs, ...) -> recipe.
    """
    return dict(_walk(recipe)) if isinstance(recipe, Made) else _options(recipe)


def replace_parameters(
    where: str,
    recipe: Any,
    changes: Mapping[str, Any],
) -> Any:
    """Return the recipe, or the function, with some parameters replaced.

    A recipe that differs in numbers alone shares its compiled program.

    Args:
        where: Name of the recipe in errors.
        recipe: A recipe, or a function (outputs, ...) -> recipe.
        changes: New values by path. An argument of a maker may be given that was left at its
            default.

    Raises:
        ConfigError: There is no parameter at a path, or a value is not valid.
    """
    if not isinstance(recipe, Made):
        known = _options(recipe)
        for name in changes:
            if name not in known:
                _raise_unknown(where, name, known)
        # The new values are the defaults of the partial, which `_options` reads again.
        return partial(recipe, **changes)
    for path, value in changes.items():
        recipe = _replace(where, recipe, path.split(SEPARATOR), value)
    return recipe


def _options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function's parameters by name; of a partial, those it gives."""
    if not callable(function):
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each entry of a made value or a container, and below."""
    for name, entry in _entries(node).items():
        yield name, entry
        for path, value in _walk(entry):
            yield f"{name}{SEPARATOR}{path}", value


def _entries(node: Any) -> dict[str, Any]:
    """Return the arguments of a made value, or the items of a container, by name or index."""
    # Exactly these types, as in the structure of made values: others cannot be rebuilt.
    if type(node) in (tuple, list):
        return {str(index): item for index, item in enumerate(node)}
    if type(node) is dict:
        return {str(name): item for name, item in node.items()}
    if not isinstance(node, Made):
        return {}
    entries: dict[str, Any] = {}
    for name, argument in node.arguments.items():
        # The entries of *args and **kwargs have paths of their own.
        entries |= _entries(argument) if _is_variadic(node, name) else {name: argument}
    return entries


def _is_variadic(node: Made, name: str) -> bool:
    kind = inspect.signature(node.maker).parameters[name].kind
    return kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _replace(
    where: str,
    node: Any,
    path: list[str],
    value: Any,
) -> Any:
    """Return a made value or a container with the entry at a path replaced."""
    name, *rest = path
    entries = _entries(node)
    if rest:
        if name not in entries:
            _raise_unknown(where, name, entries)
        value = _replace(f"{where}{SEPARATOR}{name}", entries[name], rest, value)
    if isinstance(node, Made):
        return _replace_argument(node, name, value)
    if name not in entries:
        _raise_unknown(where, name, entries)
    if isinstance(node, dict):
        return {key: value if str(key) == name else item for key, item in node.items()}
    return type(node)(value if key == name else item for key, item in entries.items())


def _replace_argument(
    node: Made,
    name: str,
    value: Any,
) -> Any:
    """Return a made value with one argument replaced, or one entry of its *args or **kwargs."""
    arguments = node.arguments
    for parameter, argument in arguments.items():
        if _is_variadic(node, parameter) and name in _entries(argument):
            changed = _replace("", argument, [name], value)
            signature = inspect.signature(node.maker)
            bound = inspect.BoundArguments(signature, arguments | {parameter: changed})
            return node.maker(*bound.args, **bound.kwargs)
    # It raises an error that lists the names, if there is none of this name.
    return node.replace(**{name: value})


def _raise_unknown(
    where: str,
    name: str,
    known: Mapping[str, Any],
) -> None:
    expected = f"one of {', '.join(known)}" if known else "no parameters below it"
    raise ConfigError(
        f"{where}{SEPARATOR}{name}",
        expected,
        repr(name),
        "check the spelling",
    )
