"""Features on disk, of data sets that do not fit into memory."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.lab.disk import as_path, sync, write_all, write_errors
from fnn.lab.fit.loader import is_stream
from fnn.train.arrays import validate_data
from fnn.train.inputs import validate_inputs
from fnn.train.recipe import Recipe
from fnn.transfer.features import Cut, features_at, find_cut
from fnn.transfer.head import as_recipe, fitting_weights
from fnn.types import Layer, TrainState, Weights

SUFFIX = ".npy"


def save_features(
    path: str | os.PathLike[str],
    recipe: Recipe | Layer,
    train_state: TrainState | Weights,
    inputs: Any,
    *,
    layer: str | None = None,
    batch_size: int = 256,
    targets: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Write features to a .npy file, batch by batch, as of `transfer.features`.

        x = lab.save_features("train.npy", recipe, weights, images)
        x = lab.save_features("train.npy", recipe, weights, loader, targets="labels.npy")

    Memory holds one batch. The file is written completely or not at all: an earlier file of that
    name stays until the new one is complete.

    Args:
        path: The file to write, which ends in .npy.
        recipe: As for `transfer.features`.
        train_state: As for `transfer.features`.
        inputs: Arrays whose first axis is the example, such as a memory map of NumPy; or an
            iterable of batches (inputs, targets), of which one pass is made.
        layer: As for `transfer.features`.
        batch_size: Examples that pass through the network at once. Batches of an iterable are
            divided into such ones.
        targets: A second .npy file for the targets of an iterable; None to leave them out.

    Returns:
        The features, a memory map of the file that is open for reading.

    Raises:
        ConfigError: A path does not end in .npy, there are no batches, `targets` are given with
            arrays, or as for `transfer.features`.
        ShapeError: The layer has several outputs, or batches have features of several shapes.
        WriteError: The disk refused it; a file of that name is as before.
        FnnError: The inputs do not fit the recipe, as for `train.predict`.
    """
    made = as_recipe("save_features", recipe)
    checks.whole("save_features batch_size", batch_size)
    files = [_expect_npy("path", path)]
    streams = is_stream(inputs)
    if targets is not None:
        if not streams:
            advice = "save them by numpy.save"
            expected = "None for arrays, whose targets you have"
            raise ConfigError(
                "save_features targets",
                expected,
                checks.show(targets),
                advice,
            )
        files.append(_expect_npy("targets", targets))
    batches = _stream(inputs) if streams else _batches(inputs, batch_size)
    cut: Cut | None = None
    given: Weights | None = None
    with ExitStack() as stack:
        opened = [stack.enter_context(_array_file(file)) for file in files]
        for batch, labels in batches:
            valid = validate_inputs("inputs", made, batch)
            if cut is None or given is None:
                # The first batch decides the shapes, and with them where the network is cut.
                given = fitting_weights("save_features", made, train_state, valid)
                cut = find_cut("save_features", made.network, given, layer)
            found = features_at(made, given, valid, cut, batch_size)
            if not isinstance(found, jax.Array):
                got = checks.describe_tree(found)
                advice = "choose a layer with one output"
                raise ShapeError(
                    "save_features layer",
                    "one array",
                    got,
                    advice,
                )
            # NumPy has no dtype for bfloat16.
            dtype = np.dtype(np.float32) if found.dtype == jnp.bfloat16 else found.dtype
            opened[0].append("features", np.asarray(found, dtype))
            if targets is not None:
                opened[1].append("targets", np.asarray(checks.one_array("targets", labels)))
        if cut is None:
            advice = "make the iterable again, as a list or a loader"
            raise ConfigError(
                "save_features inputs",
                "at least one batch",
                "none",
                advice,
            )
    return np.load(files[0], mmap_mode="r")


def _expect_npy(name: str, value: Any) -> Path:
    path = as_path(f"save_features {name}", value)
    if path.suffix != SUFFIX:
        expected = "a file name that ends in .npy"
        raise ConfigError(
            f"save_features {name}",
            expected,
            path.name,
            "add .npy",
        )
    return path


def _batches(inputs: Any, batch_size: int) -> Iterator[tuple[Any, None]]:
    """Yield the inputs of each batch, read from the arrays one batch at a time."""
    leaves = jax.tree.leaves(inputs)
    examples = np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else 0
    if not examples:
        # The checks of inputs name the mistake.
        yield inputs, None
        return
    for first in range(0, examples, batch_size):
        part = slice(first, first + batch_size)
        yield jax.tree.map(lambda leaf, part=part: leaf[part], inputs), None


def _stream(batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for batch in batches:
        # Copies, since a loader may refill its buffers.
        yield validate_data("batch", batch)


class _ArrayFile:
    """A .npy file of arrays that are appended along the first axis.

    The header has the number of examples, and is written again at the end. NumPy pads it so that
    its length does not depend on this number.
    """

    def __init__(self, descriptor: int, path: Path):
        self._descriptor = descriptor
        self._path = path
        self._first: np.ndarray | None = None
        self._examples = 0

    def append(self, name: str, array: np.ndarray) -> None:
        """Write an array (batch, ...)."""
        if self._first is None:
            # Without rows, for dtype and shape alone.
            self._first = array[:0]
            self._write(self._header())
        first = self._first
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            expected = f"batches of {first.dtype} (batch, {', '.join(map(str, first.shape[1:]))})"
            advice = "give all inputs one shape"
            raise ShapeError(
                f"save_features {name}",
                expected,
                checks.describe(array),
                advice,
            )
        # (batch, ...) -> bytes, row by row
        self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._examples += len(array)

    def _write(self, chunk: Any) -> None:
        # Errors of writing alone: an error of a loader is not one of this file.
        with _errors_of(self._path):
            write_all(self._descriptor, chunk)

    def finish(self) -> None:
        """Write the header, and flush all to the disk."""
        with _errors_of(self._path):
            if self._first is not None:
                os.pwrite(self._descriptor, self._header(), 0)
            # Before the rename, or a crash could leave an incomplete file under the name.
            os.fsync(self._descriptor)

    def _header(self) -> bytes:
        assert self._first is not None
        header = np.lib.format.header_data_from_array_1_0(self._first)
        header["shape"] = (self._examples, *self._first.shape[1:])
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        return buffer.getvalue()


@contextmanager
def _array_file(path: Path) -> Iterator[_ArrayFile]:
    """Open a new file under another name, and give it its name if no error is raised."""
    # With the number of the process, so that two writers have two files.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with _errors_of(path):
        descriptor = os.open(partial, flags, 0o666)
    try:
        try:
            file = _ArrayFile(descriptor, path)
            yield file
            file.finish()
        finally:
            os.close(descriptor)
        with _errors_of(path):
            # Within one folder a rename is atomic.
            partial.rename(path)
            sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _errors_of(path: Path) -> AbstractContextManager[None]:
    return write_errors(f"features {path.name}", path.parent)
