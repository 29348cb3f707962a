"""The numbers of a recipe, selected by path."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import ConfigError
from fnn.values import Made


def has_gradient(leaf: Any) -> bool:
    """Return whether there is a derivative by a leaf: integers and random keys have none."""
    # A float of Python has no dtype.
    dtype = getattr(leaf, "dtype", type(leaf))
    return dtype is float or jnp.issubdtype(dtype, jnp.floating)


def select_numbers(
    where: str,
    recipe: Any,
    paths: Sequence[str] | None,
) -> dict[str, int]:
    """Return the index among the leaves of each selected number, by its path.

    Args:
        where: Name of the paths in errors.
        recipe: A recipe.
        paths: Paths of numbers, such as "optimizer.rate.peak", or of parts, such as "optimizer",
            which select all numbers below; `*` matches any text. None for all numbers.

    Raises:
        ConfigError: The recipe has no numbers, `paths` is not a sequence of texts, or one of them
            is not the path of a number.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(recipe)
    known = {}
    for index, (path, leaf) in enumerate(leaves):
        if has_gradient(leaf):
            # As in optimizer.rate.peak, the form in which paths are given.
            known[jax.tree_util.keystr(path, simple=True, separator=".")] = index
    if not known:
        raise ConfigError(
            f"{where} recipe",
            "a recipe with at least one number",
            "one whose numbers are all left at their defaults",
            "give one in the call of a maker, as in optim.sgd(0.1)",
        )
    if paths is None:
        return known
    if not isinstance(paths, tuple | list) or not paths:
        raise ConfigError(
            f"{where} paths",
            "at least one path of a number",
            repr(paths),
            'give a tuple of texts, as in ("optimizer.rate",)',
        )
    selected: dict[str, int] = {}
    for given in paths:
        found = {
            path: index
            for path, index in known.items()
            if isinstance(given, str)
            # A path of a part selects all numbers below it.
            and (fnmatchcase(path, given) or fnmatchcase(path, f"{given}.*"))
        }
        if not found:
            raise ConfigError(
                f"{where} paths",
                "the path of a number of the recipe",
                _explain(recipe, given),
                f"choose among {', '.join(known)}",
            )
        # Two paths can select the same number, which counts once.
        selected |= found
    # In the order of the leaves, so that the order of the paths compiles nothing.
    return dict(sorted(selected.items(), key=lambda item: item[1]))


def _explain(recipe: Any, given: Any) -> str:
    """Describe a path that is not that of a number."""
    if not isinstance(given, str):
        return repr(given)
    # As far as the path leads.
    node = recipe
    for part in given.split("."):
        node = _part(node, part)
        if node is _MISSING:
            return repr(given)
        if node is _DEFAULT:
            return f"{given!r}, which is left at its default and is therefore static"
    if isinstance(node, Made):
        return f"{given!r}, a part without numbers"
    return f"{given!r}, the static value {node!r}"


_MISSING = object()
_DEFAULT = object()


def _part(node: Any, name: str) -> Any:
    """Return a part of a value by the name that it has in a path."""
    if isinstance(node, tuple | list):
        is_index = name.isdigit() and int(name) < len(node)
        return node[int(name)] if is_index else _MISSING
    if isinstance(node, dict):
        return node.get(name, _MISSING)
    # Other values have no parts with a name.
    if not isinstance(node, Made):
        return _MISSING
    arguments = node.arguments
    if name in arguments:
        return arguments[name]
    # The parts of *args and **kwargs have no name of the argument in their path.
    for value in arguments.values():
        if isinstance(value, tuple | dict):
            found = _part(value, name)
            if found is not _MISSING:
                return found
    # A parameter of the maker that the call does not give.
    return _DEFAULT if name in node.maker.__dict__["record"].kinds else _MISSING


def is_initial(recipe: Any, path: str) -> bool:
    """Return whether a number acts on the first parameters alone: it is part of an initializer.

    Args:
        recipe: A recipe.
        path: Path of a number.
    """
    node = recipe
    for part in path.split("."):
        # All that is below an initializer belongs to it.
        if isinstance(node, Made) and part in node.maker.__dict__["record"].initializers:
            return True
        node = _part(node, part)
    return False
