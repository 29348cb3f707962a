"""Restore saved leaves into a tree, each by its path, with checks of shape and dtype."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import CheckpointMismatchError, ConfigError, printable
from fnn.lab.checkpoints.host import is_key, unique_leaves
from fnn.lab.checkpoints.reader import Checkpoint, read
from fnn.train.placement import put
from fnn.types import Weights

MAX_LISTED = 8  # paths in a message
# Dtypes may be converted within one of these kinds.
KINDS = (jnp.floating, jnp.complexfloating, jnp.integer)


def load(
    directory: str | os.PathLike[str],
    *,
    step: int | str | None = None,
    sha256: str | None = None,
) -> Weights:
    """Load weights for inference.

    They were saved by `lab.save(directory, train.weights(recipe, train_state))`:

        recipe = train.recipe(network)
        outputs = train.predict(recipe, lab.load("weights"), inputs)

    No tree of the same structure is needed: params and state are dicts of arrays by their paths.

    Args:
        directory: Where they were saved.
        step: A step, "best", or None for the latest, as for `lab.read`.
        sha256: SHA-256 of manifest.json to verify, as for `lab.read`.

    Raises:
        CheckpointMismatchError: The checkpoint does not hold params and state.
    """
    loaded: dict[str, Any] = {"params": {}, "state": {}}
    for path, leaf in read(directory, step=step, sha256=sha256).leaves.items():
        *names, last = path.split("/")
        first = names[0] if names else last
        if first not in loaded:
            raise CheckpointMismatchError(
                f"load {directory}",
                "params and state",
                path,
                "save train.weights(recipe, train_state); of a run, restore the train state with "
                "lab.restore",
            )
        # Nested dicts by the names in the path: those of a network's params.
        branch = loaded
        for name in names:
            branch = branch.setdefault(name, {})
        branch[last] = jnp.asarray(leaf)
    return Weights(**loaded)


def restore(
    source: str | os.PathLike[str] | Checkpoint | Mapping[str, Any],
    like: Any,
    *,
    step: int | str | None = None,
    sha256: str | None = None,
    prefix: str = "",
    partial: bool | Sequence[str] = False,
    cast: bool = False,
) -> Any:
    """Restore saved leaves into a tree of the structure of `like`.

    As in `params = lab.restore("weights", params)`. Each leaf is found by its path.

    Args:
        source: A directory of checkpoints, a Checkpoint from `lab.read`, or leaves by path.
        like: A tree of arrays, or of jax.ShapeDtypeStruct as from jax.eval_shape. Leaves of NumPy
            stay NumPy arrays; leaves of JAX get the sharding that they have here.
        step: Step to read from a directory, as for `lab.read`.
        sha256: SHA-256 of manifest.json to verify, as for `lab.read`.
        prefix: Path of the tree in the checkpoint, such as "train_state/params". Saved leaves
            elsewhere are ignored.
        partial: Paths of leaves that may be missing, superfluous or of another shape, such as
            ["head"] in transfer learning; these keep their values in `like`. True allows any, and
            warns with their paths.
        cast: Whether other dtypes of the same kind are converted, if no number overflows.

    Returns:
        The tree. Its arrays share no memory with the source.

    Raises:
        CheckpointCorruptError: The checkpoint is not as it was written.
        CheckpointMismatchError: A leaf is missing, superfluous, or of another shape or dtype. The
            message names each path, the saved leaf and the expected one.
        CheckpointVersionError: The checkpoint has a newer format.
        ConfigError: There is no such checkpoint, an option does not fit, or a leaf that is to keep
            its value has none.
    """
    if isinstance(source, Mapping | Checkpoint):
        if step is not None or sha256 is not None:
            raise ConfigError(
                "source",
                "a directory, to choose step or sha256 from",
                type(source).__name__,
                "give them to lab.read",
            )
        leaves = source.leaves if isinstance(source, Checkpoint) else source
    else:
        leaves = read(source, step=step, sha256=sha256).leaves
    return fill(like, leaves, prefix=prefix, partial=partial, cast=cast)


def fill(
    like: Any,
    leaves: Mapping[str, Any],
    *,
    prefix: str = "",
    partial: bool | Sequence[str] = False,
    cast: bool = False,
) -> Any:
    """Return the tree `like` with these leaves, by path. The options are those of `restore`."""
    expected = unique_leaves("like", like)
    saved = _select_prefix(prefix, leaves)
    restored: dict[str, Any] = {}
    mismatches: dict[str, CheckpointMismatchError] = {}
    for path, leaf in expected.items():
        try:
            restored[path] = _match(path, leaf, saved, cast)
        except CheckpointMismatchError as error:
            mismatches[path] = error
    # Saved leaves that the tree does not have: they may be a sign of another network.
    extra = [path for path in saved if path not in expected]
    for path in extra:
        mismatches[path] = _mismatch(path, "no such leaf", _describe_saved(saved[path]))
    _expect_allowed(mismatches, partial, [*expected, *extra])
    for path, leaf in expected.items():
        if path not in restored and isinstance(leaf, jax.ShapeDtypeStruct):
            raise ConfigError(
                f"like {path}",
                "values to keep",
                "a shape only",
                "give arrays where partial= leaves them",
            )
    if partial is True and mismatches:
        left = _list(list(mismatches))
        message = f"restore: {len(restored)} leaves taken; left, {len(mismatches)}: {left}"
        # The level of the caller of `restore`.
        warnings.warn(message, stacklevel=3)
    filled = []
    for path, leaf in expected.items():
        filled.append(_place(leaf, restored[path]) if path in restored else leaf)
    return jax.tree.unflatten(jax.tree.structure(like), filled)


def _select_prefix(prefix: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves below a prefix, by their paths from there."""
    begin = f"{prefix.rstrip('/')}/" if prefix else ""
    selected = {}
    # The prefix may be the path of a leaf: the tree is then that leaf, with the path "".
    if prefix and prefix in leaves:
        selected[""] = leaves[prefix]
    for path, leaf in leaves.items():
        if path.startswith(begin):
            selected[path.removeprefix(begin)] = leaf
    if leaves and not selected:
        raise ConfigError(
            "prefix",
            f"the beginning of a path among {_list(list(leaves))}",
            repr(prefix),
            "lab.read returns all of them",
        )
    return selected


def _match(
    path: str,
    like: Any,
    saved: Mapping[str, Any],
    cast: bool,
) -> Any:
    """Return the saved leaf at the path, in the shape and dtype of `like`, or raise."""
    if path not in saved:
        raise _mismatch(path, _describe(like), "no such leaf saved")
    leaf = saved[path]
    shape, dtype = _shape_and_dtype(like)
    if np.shape(leaf) != shape:
        raise _mismatch(path, _describe(like), _describe_saved(leaf))
    # JAX would make float64 a float32 silently.
    if _is_jax(like) and not is_key(like) and jax.dtypes.canonicalize_dtype(dtype) != dtype:
        expected = f"{dtype}, which JAX has only with jax_enable_x64"
        raise _mismatch(path, expected, _describe_saved(leaf))
    _, saved_dtype = _shape_and_dtype(leaf)
    if saved_dtype == dtype:
        return leaf
    if not cast or is_key(leaf) or is_key(like):
        raise _mismatch(path, _describe(like), _describe_saved(leaf))
    return _cast(path, leaf, like, dtype)


def _cast(
    path: str,
    leaf: Any,
    like: Any,
    dtype: Any,
) -> np.ndarray:
    """Convert the leaf to another dtype of its kind: floats are rounded, integers stay equal."""
    # The leaf may be a Python number.
    leaf = np.asarray(leaf)
    # Between kinds nothing is converted: an integer as a float would hide a mistake.
    kind = _common_kind(leaf.dtype, dtype)
    if kind is not None:
        # An overflow is checked below, so NumPy need not warn of it.
        with np.errstate(all="ignore"):
            converted = leaf.astype(dtype)
        if kind is jnp.integer:
            fits = converted == leaf
        else:
            fits = np.isfinite(converted) | ~np.isfinite(leaf)
        if fits.all():
            return converted
    expected = f"{_describe(like)}, able to hold its numbers"
    raise _mismatch(path, expected, _describe_saved(leaf))


def _common_kind(first: Any, second: Any) -> Any:
    for kind in KINDS:
        if jnp.issubdtype(first, kind) and jnp.issubdtype(second, kind):
            return kind
    return None


def _place(like: Any, leaf: Any) -> Any:
    """Return a copy of the leaf, of the type of `like` and on its devices."""
    # A Python number in the tree stays one.
    if isinstance(like, bool | int | float):
        return type(like)(np.asarray(leaf).item())
    if not _is_jax(like):
        array = np.array(leaf)
        # [()] makes a NumPy scalar of an array without axes.
        return array if isinstance(like, np.ndarray) else array[()]
    # An uncommitted array may follow others to their device, so it gets no sharding.
    is_placed = not isinstance(like, jax.Array) or like.committed
    sharding = like.sharding if is_placed else None
    if is_key(leaf):
        # A clone, since each restored key may be used once.
        leaf = jax.random.clone(leaf)
        return leaf if sharding is None else put(leaf, sharding)
    # On the CPU, device_put may share the memory of its argument, so it gets a copy.
    copied = np.array(leaf)
    return jax.device_put(copied) if sharding is None else put(copied, sharding)


def _expect_allowed(
    mismatches: Mapping[str, CheckpointMismatchError],
    partial: bool | Sequence[str],
    paths: list[str],
) -> None:
    """Raise the first mismatch that `partial` does not allow, with the paths of all of them."""
    if isinstance(partial, bool):
        # If nothing fits, the source is the wrong one, also with partial=True.
        some_fit = len(mismatches) < len(paths)
        allowed = dict.fromkeys(paths, partial and some_fit)
    else:
        # A single path may be given without a list.
        patterns = [partial] if isinstance(partial, str) else partial
        allowed = trees.matching("partial", dict.fromkeys(paths, 0), patterns)
    refused = [path for path in mismatches if not allowed[path]]
    if not refused:
        return
    where, expected, got, advice = mismatches[refused[0]].args
    if len(refused) > 1:
        got = f"{got} ({len(refused)} leaves do not fit: {_list(refused)})"
    raise CheckpointMismatchError(
        where,
        expected,
        got,
        advice,
    )


def _mismatch(path: str, expected: str, got: str) -> CheckpointMismatchError:
    advice = (
        "restore into the tree that was saved, or name in partial= the leaves that may differ, or "
        "convert dtypes by cast=True"
    )
    # The path of a tree that is one leaf is "".
    return CheckpointMismatchError(f"restore {path}".rstrip(), expected, got, advice)


def _list(paths: list[str]) -> str:
    """Return the first paths as text, and the number of the others."""
    listed = ", ".join(map(printable, paths[:MAX_LISTED]))
    others = len(paths) - MAX_LISTED
    return f"{listed} and {others} more" if others > 0 else listed


def _is_jax(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _shape_and_dtype(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Return the shape, and the dtype in the byte order of this machine."""
    # Python numbers have the dtype that NumPy gives them.
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    # The dtype of keys has no byte order.
    dtype = array.dtype if is_key(array) else np.dtype(array.dtype).newbyteorder("=")
    return tuple(array.shape), dtype


def _describe(leaf: Any) -> str:
    """Return the leaf as `float32[2,3]`."""
    shape, dtype = _shape_and_dtype(leaf)
    return f"{dtype}[{','.join(map(str, shape))}]"


def _describe_saved(leaf: Any) -> str:
    return f"{_describe(leaf)} saved"
