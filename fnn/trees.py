"""Pytree arithmetic, and what two pytrees must share."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.checks import describe
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.types import Number, Shape


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by path, `{"body/conv_0/kernel": array}`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def map_named(function: Callable[[str, Any], Any], name: str, tree: Any) -> Any:
    """function(path, leaf) for every leaf, the paths beginning with the name."""

    def one(path: Any, leaf: Any) -> Any:
        return function(
            "/".join(
                [name, *filter(None, [jax.tree_util.keystr(path, simple=True, separator="/")])]
            ),
            leaf,
        )

    return jax.tree_util.tree_map_with_path(one, tree)


def is_shape(shape: Any) -> bool:
    """Whether it is the shape of one array, not a tree of such."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def wide(array: jax.Array) -> Any:
    """The dtype to compute statistics of the array in: its own, but float32 at least."""
    return array.dtype if jnp.finfo(array.dtype).bits >= 32 else jnp.dtype(jnp.float32)


def knob(value: Number, like: jax.Array) -> Number:
    """A hyperparameter in the dtype of the array that it meets, so that a traced one promotes nothing."""
    return (
        value.astype(like.dtype) if isinstance(value, jax.Array | np.ndarray | np.number) else value
    )


def select(condition: jax.Array, when_true: Any, when_false: Any) -> Any:
    """All of one tree or all of the other; the condition is one boolean."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), when_true, when_false)


def finite_leaves(tree: Any) -> dict[str, jax.Array]:
    """For each floating-point leaf, by path, whether all its numbers are finite."""
    floats = {
        path: leaf
        for path, leaf in named_leaves(tree).items()
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    return {path: jnp.isfinite(leaf).all() for path, leaf in floats.items()}


def all_finite(tree: Any) -> jax.Array:
    """Whether every floating-point number in the tree is finite."""
    return jnp.stack([jnp.array(True), *finite_leaves(tree).values()]).all()


def expect_like(where: str, tree: Any, like: Any) -> None:
    """Raise TreeMismatchError at the first path that differs, unless both agree in structure, shapes and dtypes."""
    if _are_alike(tree, like):  # much quicker than to find paths
        return
    _compare(
        where,
        *({path: describe(leaf) for path, leaf in named_leaves(t).items()} for t in (tree, like)),
    )
    got, wanted = str(jax.tree.structure(tree)), str(jax.tree.structure(like))
    if got != wanted:
        raise TreeMismatchError(where, wanted, got, "use the containers that init returned")


def _are_alike(tree: Any, like: Any) -> bool:
    structure: Any = jax.tree.structure(tree)
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=False)
    return structure == jax.tree.structure(like) and all(
        jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b) for a, b in pairs
    )


def expect_arrays(where: str, params: Any, shapes: Mapping[str, Shape]) -> None:
    """Raise TreeMismatchError unless a layer's params are a dict of just these arrays, DTypeError for integers."""
    if not isinstance(params, Mapping):
        raise TreeMismatchError(
            where, "a dict of arrays by name", type(params).__name__, "pass what init returned"
        )
    got = {name: f"shape {jnp.shape(leaf)}" for name, leaf in params.items()}
    _compare(where, got, {name: f"shape {shape}" for name, shape in shapes.items()})
    for name, leaf in params.items():
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise DTypeError(
                f"{where} {name}",
                "floating-point numbers",
                jnp.result_type(leaf),
                "pass what init returned",
            )


def _compare(where: str, got: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for path in [*wanted, *got]:
        if path not in got:
            raise TreeMismatchError(
                f"{where} {path}", wanted[path], "no such leaf", "add the missing leaf"
            )
        if path not in wanted:
            raise TreeMismatchError(
                f"{where} {path}", "no such leaf", got[path], "drop the extra leaf"
            )
        if got[path] != wanted[path]:
            raise TreeMismatchError(
                f"{where} {path}", wanted[path], got[path], "trees are compared, never broadcast"
            )


def matching(where: str, tree: Any, patterns: Sequence[str]) -> dict[str, bool]:
    """For each leaf, by path, whether a pattern names it: a path or the beginning of one, `*` standing for any text.

    "stem" names all that lies under stem, "*/bias" every bias below the top. ConfigError for a pattern that names
    nothing, as a typing error does.
    """
    paths = list(named_leaves(tree))
    for pattern in patterns:
        if not any(_names(pattern, path) for path in paths):
            raise ConfigError(
                where,
                f"a path among {paths}",
                repr(pattern),
                "name a leaf, or what lies above some",
            )
    return {path: any(_names(pattern, path) for pattern in patterns) for path in paths}


def _names(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")
