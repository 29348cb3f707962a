"""Parts of a tuple or dict of arrays, by path."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.stateless import stateless
from fnn.types import Layer
from fnn.values import maker


@maker
def pick(path: int | str) -> Layer:
    """Take one part of a tuple or dict of arrays, y = x[path].

    chain(parallel(mean=dense(2), scale=dense(2), join="dict"), pick("mean")) is the mean alone. In
    a graph, a source such as "encoder/mean" is the same without a node.

    Args:
        path: Index in a tuple, such as 0, or name in a dict, such as "mean"; in nested ones a path
            of them, such as "encoder/0".

    Raises:
        ConfigError: `path` is not a whole number >= 0 or a path.
        ShapeError: x has no such part.
    """
    if isinstance(path, str):
        expect_path("pick path", path)
    else:
        checks.whole("pick path", path, 0)
    # Shapes and arrays have parts of the same names.
    part = partial(part_of, "pick", path=str(path))
    return stateless("pick", part, part, several=True)


def expect_path(where: str, path: str) -> str:
    """Return a path of parts; raise ConfigError if one of its names is empty."""
    if not all(path.split("/")):
        raise ConfigError(where, "names joined by /", repr(path), "such as 'encoder/mean'")
    return path


def part_of(where: str, tree: Any, path: str) -> Any:
    """Return the part of a tree of arrays, or of their shapes, at a path.

    Args:
        where: Name of the layer in errors.
        tree: Arrays or shapes in tuples and dicts.
        path: Names in dicts and indices in tuples, joined by "/".

    Raises:
        ShapeError: There is no such part; the message lists those that there are.
    """
    part = tree
    for name in path.split("/"):
        entries = _entries(part)
        if name not in entries:
            known = ", ".join(entries)
            expected = f"a part among {known}" if entries else f"a tuple or dict with a part {name}"
            got = name if entries else checks.describe_tree(part)
            advice = "give it several arrays, as from nn.parallel"
            if _entries(tree):
                advice = f"choose one of {checks.describe_tree(tree)}"
            raise ShapeError(where, expected, got, advice)
        part = entries[name]
    return part


def _entries(tree: Any) -> dict[str, Any]:
    """Return the direct parts of a tuple or dict by name; an array and a shape have none."""
    if isinstance(tree, Mapping):
        return {str(name): part for name, part in tree.items()}
    if isinstance(tree, tuple | list) and not trees.is_shape(tree):
        return {str(index): part for index, part in enumerate(tree)}
    return {}
