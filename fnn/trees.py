"""Arithmetic on pytrees, and comparison of their structures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.checks import describe, is_concrete
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.types import Number, Shape

# A context that does nothing, made once: small networks train in less time than several are made.
NO_CONTEXT = nullcontext()

# Paths.


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves by path, `{"body/conv_0/kernel": array}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def map_named(
    function: Callable[[str, Any], Any],
    name: str,
    tree: Any,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """Apply function(path, leaf) to every leaf; the paths begin with the name.

    Args:
        function: Its first argument is the path of a leaf.
        name: The first part of all paths.
        tree: A pytree.
        is_leaf: (node) -> whether a node is a leaf, as for jax.tree.map.
    """

    def apply(path: Any, leaf: Any) -> Any:
        relative = path_name(path)
        # The path of a tree that is a single leaf is empty.
        full = f"{name}/{relative}" if relative else name
        return function(full, leaf)

    return jax.tree_util.tree_map_with_path(apply, tree, is_leaf=is_leaf)


def path_name(path: Any) -> str:
    """Return the path of a leaf as text, from that of jax.tree_util.tree_flatten_with_path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def matching(where: str, tree: Any, patterns: Sequence[str]) -> dict[str, bool]:
    """Return for each leaf, by path, whether one of the patterns matches it.

    A pattern is a path or the beginning of one, in which `*` matches any text: "stem" matches all
    leaves below stem, "*/bias" every bias below the top.

    Args:
        where: Name of the patterns in errors.
        tree: A pytree.
        patterns: Patterns of paths.

    Raises:
        ConfigError: A pattern matches no leaf, for example because of a typing error.
    """
    paths = list(named_leaves(tree))
    for pattern in patterns:
        if not any(_matches(pattern, path) for path in paths):
            raise ConfigError(
                where,
                f"a path among {paths}",
                repr(pattern),
                "name a leaf, or the beginning of a path",
            )
    return {path: any(_matches(pattern, path) for pattern in patterns) for path in paths}


def _matches(pattern: str, path: str) -> bool:
    # fnmatch, unlike a file system's glob, lets * match a slash too.
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def is_shape(shape: Any) -> bool:
    """Return whether the value is the shape of one array, not a tree of shapes."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


# Arithmetic.


def wide(array: jax.Array) -> Any:
    """Return the dtype in which to compute statistics: that of the array, but at least float32."""
    # An array of NumPy may have a dtype that JAX does not use, float64 unless it is enabled.
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def knob(value: Number, like: jax.Array) -> Number:
    """Return a hyperparameter in the dtype of the array that it is combined with.

    A traced float32 hyperparameter would otherwise promote an array of bfloat16. Python numbers are
    weakly typed and stay as they are.
    """
    if isinstance(value, jax.Array | np.ndarray | np.number):
        return value.astype(like.dtype)
    return value


def read(array: Any) -> Any:
    """Return an array of JAX as one of NumPy; those of NumPy stay as they are.

    An implicit copy from an accelerator would be an error under `jax.transfer_guard`.
    """
    if isinstance(array, jax.Array):
        devices: Any = array.sharding.device_set
        # A call of device_get takes 20 times as long as a view of memory.
        if next(iter(devices)).platform != "cpu":
            return jax.device_get(array)
    return np.asarray(array)


def allow_transfers() -> AbstractContextManager[Any]:
    """Return a context in which arrays that a caller gave are copied to the device.

    It is needed where `jax.transfer_guard` forbids this. Otherwise it is empty, since entering a
    guard takes longer than the checks of a call.
    """
    config: Any = jax.config
    if config.jax_transfer_guard_host_to_device is None:
        return NO_CONTEXT
    return jax.transfer_guard("allow")


def select(condition: jax.Array, when_true: Any, when_false: Any) -> Any:
    """Return all leaves of one tree or all of the other; the condition is a boolean scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), when_true, when_false)


def finite_leaves(tree: Any) -> dict[str, jax.Array]:
    """Return for each floating-point leaf, by path, whether all its numbers are finite."""
    finite = {}
    for path, leaf in named_leaves(tree).items():
        # Integers are always finite.
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite[path] = jnp.isfinite(leaf).all()
    return finite


def all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point number in the tree is finite."""
    # The constant makes the stack valid for a tree without such leaves.
    return jnp.stack([jnp.array(True), *finite_leaves(tree).values()]).all()


# Comparison.


def expect_like(where: str, tree: Any, like: Any) -> None:
    """Raise TreeMismatchError, naming the first differing path, unless two trees are alike.

    Args:
        where: Name of the tree in errors.
        tree: The tree to check.
        like: A tree of the expected structure, shapes and dtypes.
    """
    # This is called in every update of an optimizer: comparing leaves is faster than naming them.
    if _are_alike(tree, like):
        return
    got_leaves = {path: describe(leaf) for path, leaf in named_leaves(tree).items()}
    wanted_leaves = {path: describe(leaf) for path, leaf in named_leaves(like).items()}
    _compare(where, got_leaves, wanted_leaves)
    # All leaves agree, so the containers differ, such as a list and a tuple.
    got = str(jax.tree.structure(tree))
    wanted = str(jax.tree.structure(like))
    if got != wanted:
        raise TreeMismatchError(
            where,
            wanted,
            got,
            "use the containers that init returned",
        )


def _are_alike(tree: Any, like: Any) -> bool:
    structure: Any = jax.tree.structure(tree)
    if structure != jax.tree.structure(like):
        return False
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True):
        if jnp.shape(a) != jnp.shape(b) or jnp.result_type(a) != jnp.result_type(b):
            return False
    return True


def expect_arrays(where: str, params: Any, shapes: Mapping[str, Shape]) -> None:
    """Raise an error unless the params of a layer are a dict of arrays of these shapes.

    Args:
        where: Name of the layer in errors.
        params: The params to check.
        shapes: The expected shapes by name.

    Raises:
        TreeMismatchError: A name or shape differs.
        DTypeError: An array does not hold floating-point numbers.
    """
    if not isinstance(params, Mapping):
        raise TreeMismatchError(
            where,
            "a dict of arrays by name",
            type(params).__name__,
            "pass the params that init returned",
        )
    got = {name: f"shape {jnp.shape(leaf)}" for name, leaf in params.items()}
    wanted = {name: f"shape {shape}" for name, shape in shapes.items()}
    _compare(where, got, wanted)
    for name, leaf in params.items():
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise DTypeError(
                f"{where} {name}",
                "floating-point numbers",
                jnp.result_type(leaf),
                "pass the params that init returned",
            )


def expect_known(where: str, tree: Any) -> None:
    """Raise DTypeError for traced arrays, in functions that read values on the host.

    Args:
        where: Name of the function or argument in the error.
        tree: A pytree.
    """
    if not all(map(is_concrete, jax.tree.leaves(tree))):
        advice = "call it outside of jax.jit, vmap and grad"
        raise DTypeError(where, "known values", "a traced array", advice)


def expect_not_donated(where: str, tree: Any) -> None:
    """Raise ConfigError if the arrays of a tree were donated to a function, and are deleted."""
    # A donation deletes all arrays, so that the first one stands for all.
    first = first_leaf(tree)
    if isinstance(first, jax.Array) and is_concrete(first) and first.is_deleted():
        got = "arrays that were donated to a compiled function"
        raise ConfigError(where, "arrays that exist", got, "use those that it returned")


def first_leaf(tree: Any) -> Any:
    """Return a leaf of a tree, or None if it has none, without a pass over all of them."""
    # Each call of a program comes here. Most trees have an array in the first place of all levels.
    first = tree
    while isinstance(first, dict | tuple) and len(first):
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    if isinstance(first, jax.Array):
        return first
    if isinstance(tree, dict):
        parts: Iterable[Any] = tree.values()
    elif isinstance(tree, tuple | list):
        parts = tree
    elif isinstance(tree, jax.Array):
        return tree
    else:
        parts = ()
        leaves = jax.tree.leaves(tree)
        if leaves:
            return leaves[0]
    for part in parts:
        leaf = first_leaf(part)
        if leaf is not None:
            return leaf
    return None


def _compare(where: str, got: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise TreeMismatchError at the first path whose descriptions differ."""
    for path in [*wanted, *got]:
        if path not in got:
            raise TreeMismatchError(
                f"{where} {path}",
                wanted[path],
                "no such leaf",
                "add the missing leaf",
            )
        if path not in wanted:
            raise TreeMismatchError(
                f"{where} {path}",
                "no such leaf",
                got[path],
                "drop the extra leaf",
            )
        if got[path] != wanted[path]:
            raise TreeMismatchError(
                f"{where} {path}",
                wanted[path],
                got[path],
                "trees are compared, never broadcast",
            )


# Random keys.


def split_keys(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the leaves with random keys as their bits, and the function that restores the tree."""
    leaves, structure = jax.tree.flatten(tree)
    impls = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
    pairs = zip(leaves, impls, strict=True)
    bits = [leaf if impl is None else jax.random.key_data(leaf) for leaf, impl in pairs]

    def restore(bits: list[Any]) -> Any:
        restored = [
            leaf if impl is None else jax.random.wrap_key_data(leaf, impl=impl)
            for leaf, impl in zip(bits, impls, strict=True)
        ]
        return jax.tree.unflatten(structure, restored)

    return bits, restore


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
