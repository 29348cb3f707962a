"""Leaves into a tree, each by its path, none of another shape or dtype than the tree's."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import CheckpointMismatchError, ConfigError
from fnn.lab.checkpoints.host import is_key, unique_leaves
from fnn.lab.checkpoints.reader import Checkpoint, read
from fnn.types import Weights

SHOWN = 8  # paths in a message
KINDS = (
    jnp.floating,
    jnp.complexfloating,
    jnp.integer,
)  # within one of them, dtypes may be converted


def load(
    directory: str | os.PathLike[str], *, step: int | str | None = None, sha256: str | None = None
) -> Weights:
    """Weights for inference, as `lab.save(directory, train.weights(recipe, train_state))` wrote them.

        recipe = train.recipe(network)
        outputs = train.predict(recipe, lab.load("weights"), inputs)

    Nothing is needed to be like them: params and state are dicts of arrays by their paths.

    Args:
        directory: Where they were saved.
        step: As of `lab.read`.
        sha256: As of `lab.read`.

    Raises:
        CheckpointMismatchError: The checkpoint holds something else.
    """
    found: dict[str, Any] = {"params": {}, "state": {}}
    for path, leaf in read(directory, step=step, sha256=sha256).leaves.items():
        *names, last = path.split("/")
        if (names or [last])[0] not in found:
            advice = "save train.weights(recipe, train_state); of a run, restore the train state with lab.restore"
            raise CheckpointMismatchError(f"load {directory}", "params and state", path, advice)
        place = found
        for name in names:
            place = place.setdefault(name, {})
        place[last] = jnp.asarray(leaf)
    return Weights(**found)


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
    """A tree as `like`, of saved leaves: `params = lab.restore("weights", params)`.

    source:  a directory, from which `lab.read` takes step and sha256; or what that read; or leaves by path.
    like:    arrays, or jax.ShapeDtypeStruct as of jax.eval_shape; NumPy's stay so, JAX's are placed as they were.
    prefix:  where in what was saved the tree lies, as "train_state/params"; what lies elsewhere is not asked for.
    partial: paths of leaves that may be missing, superfluous or of another shape, as ["head"] in transfer learning;
             they keep the values of `like`. True for any, of which a warning then tells.
    cast:    other dtypes of the same kind are converted, if no number overflows.

    CheckpointMismatchError names each path that does not fit, saved and expected; all of `lab.read`.
    """
    if isinstance(source, Mapping | Checkpoint):
        if step is not None or sha256 is not None:
            got = type(source).__name__
            raise ConfigError(
                "source", "a directory, to choose step or sha256 from", got, "give them to lab.read"
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
    """The tree `like` with these leaves, as `restore` tells."""
    wanted, saved = unique_leaves("like", like), _under(prefix, leaves)
    taken: dict[str, Any] = {}
    misfits: dict[str, CheckpointMismatchError] = {}
    for path, leaf in wanted.items():
        try:
            taken[path] = _fitted(path, leaf, saved, cast)
        except CheckpointMismatchError as error:
            misfits[path] = error
    extra = {path: leaf for path, leaf in saved.items() if path not in wanted}
    misfits |= {
        path: _mismatch(path, "no such leaf", f"{_told(leaf)} saved")
        for path, leaf in extra.items()
    }
    _expect_allowed(misfits, partial, [*wanted, *extra])
    for path, leaf in wanted.items():
        if path not in taken and isinstance(leaf, jax.ShapeDtypeStruct):
            advice = "give arrays where partial= leaves them"
            raise ConfigError(f"like {path}", "values to keep", "a shape only", advice)
    if partial is True and misfits:
        message = (
            f"restore: {len(taken)} leaves taken; left, {len(misfits)}: {_listed(list(misfits))}"
        )
        warnings.warn(message, stacklevel=3)
    placed = [
        _placed(leaf, taken[path]) if path in taken else leaf for path, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), placed)


def _under(prefix: str, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that lie there, by their paths from there."""
    begin = f"{prefix.rstrip('/')}/" if prefix else ""
    whole = {"": leaves[prefix]} if prefix in leaves and prefix else {}  # a tree that is one leaf
    under = whole | {
        path.removeprefix(begin): leaf for path, leaf in leaves.items() if path.startswith(begin)
    }
    if leaves and not under:
        expected = f"the beginning of a path among {_listed(list(leaves))}"
        raise ConfigError("prefix", expected, repr(prefix), "lab.read tells them all")
    return under


def _fitted(path: str, like: Any, saved: Mapping[str, Any], cast: bool) -> Any:
    """The saved leaf, in the shape and dtype of the leaf it takes the place of."""
    if path not in saved:
        raise _mismatch(path, _told(like), "no such leaf saved")
    leaf, (shape, dtype) = saved[path], _spec(like)
    if np.shape(leaf) != shape:
        raise _mismatch(path, _told(like), f"{_told(leaf)} saved")
    if _is_jax(like) and not is_key(like) and jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise _mismatch(
            path, f"{dtype}, which JAX has only with jax_enable_x64", f"{_told(leaf)} saved"
        )
    if _spec(leaf)[1] == dtype:
        return leaf
    if not cast or is_key(leaf) or is_key(like):
        raise _mismatch(path, _told(like), f"{_told(leaf)} saved")
    return _cast(path, leaf, like, dtype)


def _cast(path: str, leaf: Any, like: Any, dtype: Any) -> np.ndarray:
    """The leaf in another dtype of its kind: floating-point numbers are rounded, whole numbers stay what they are."""
    leaf = np.asarray(leaf)
    kind = next(
        (kind for kind in KINDS if all(jnp.issubdtype(one, kind) for one in (leaf.dtype, dtype))),
        None,
    )
    if kind is not None:
        with np.errstate(all="ignore"):  # what overflows is told below
            converted = leaf.astype(dtype)
        kept = (
            converted == leaf
            if kind is jnp.integer
            else np.isfinite(converted) | ~np.isfinite(leaf)
        )
        if kept.all():
            return converted
    raise _mismatch(path, f"{_told(like)}, able to hold its numbers", f"{_told(leaf)} saved")


def _placed(like: Any, leaf: Any) -> Any:
    """The leaf in the kind and place of another, in memory of its own."""
    if isinstance(like, bool | int | float):
        return type(like)(np.asarray(leaf).item())
    if not _is_jax(like):
        return np.array(leaf) if isinstance(like, np.ndarray) else np.array(leaf)[()]
    bound = like.sharding if not isinstance(like, jax.Array) or like.committed else None
    if is_key(leaf):
        leaf = jax.random.clone(leaf)
        return leaf if bound is None else jax.device_put(leaf, bound)
    # On the CPU, device_put may go on using the memory that it is given.
    return jnp.array(leaf) if bound is None else jax.device_put(np.array(leaf), bound)


def _expect_allowed(
    misfits: Mapping[str, CheckpointMismatchError], partial: Any, paths: list[str]
) -> None:
    """Raise the first misfit that partial does not name, with all their paths."""
    if isinstance(partial, bool):
        allowed = dict.fromkeys(
            paths, partial and len(misfits) < len(paths)
        )  # something is to be taken
    else:
        patterns = [partial] if isinstance(partial, str) else partial
        allowed = trees.matching("partial", dict.fromkeys(paths, 0), patterns)
    refused = [path for path in misfits if not allowed[path]]
    if refused:
        where, expected, got, advice = misfits[refused[0]].args
        more = f" ({len(refused)} leaves do not fit: {_listed(refused)})" if refused[1:] else ""
        raise CheckpointMismatchError(where, expected, f"{got}{more}", advice)


def _mismatch(path: str, expected: str, got: str) -> CheckpointMismatchError:
    advice = "restore into what was saved, or name in partial= what may differ, or convert dtypes by cast=True"
    return CheckpointMismatchError(f"restore {path}".rstrip(), expected, got, advice)


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:SHOWN]) + (
        f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    )


def _is_jax(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _spec(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Its shape, and its dtype in the byte order of this machine."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return tuple(array.shape), array.dtype if is_key(array) else np.dtype(array.dtype).newbyteorder(
        "="
    )


def _told(leaf: Any) -> str:
    shape, dtype = _spec(leaf)
    return f"{dtype}[{','.join(map(str, shape))}]"
