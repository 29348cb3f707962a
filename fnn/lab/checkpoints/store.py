"""A directory of checkpoints with one writer, which keeps the last ones and the best."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnn import checks
from fnn.errors import CheckpointCorruptError, CheckpointVersionError, ConfigError, FnnError
from fnn.lab.checkpoints.folders import clean_up, delete_checkpoint, find_checkpoints
from fnn.lab.checkpoints.host import Stored, to_host
from fnn.lab.checkpoints.lock import directory_lock
from fnn.lab.checkpoints.manifest import Manifest
from fnn.lab.checkpoints.reader import best_step, read, read_manifest
from fnn.lab.checkpoints.writer import draft_manifest, write_checkpoint
from fnn.lab.disk import as_path, make_folder, write_errors


class Store:
    """The writer of a directory, made by `lab.checkpoint_store`.

    Attributes:
        directory: The directory of checkpoints.
    """

    def __init__(
        self,
        directory: Path,
        keep: int | None,
        pool: ThreadPoolExecutor | None,
    ):
        self.directory = directory
        self._keep = keep
        self._pool = pool
        # Scores are read once here, so that pruning reads no files.
        folders = find_checkpoints(directory)
        self._scores = {step: _score(folder) for step, folder in folders.items()}
        self._pending: Future[None] | None = None
        # The process that holds the lock; a forked child does not.
        self._owner: int | None = os.getpid()

    def save(
        self,
        step: int,
        tree: Any,
        *,
        notes: Any = None,
        score: float | None = None,
    ) -> None:
        """Save a tree; it is on the disk on return or, if asynchronous, after `wait`.

        On an error, the directory is as before.

        Args:
            step: The step; a checkpoint of the same step is replaced.
            tree: A pytree of arrays, keys and numbers.
            notes: Any value that JSON can represent.
            score: A finite number, the lower the better, for `keep` and for lab.read(step="best").

        Raises:
            WriteError: The disk refused this save or, if asynchronous, the one before.
            ConfigError: There is a valid checkpoint of a later step, which would be taken for the
                latest; the store is closed; or an argument cannot be saved.
            DTypeError: A leaf does not hold numbers or keys.
        """
        if self._owner != os.getpid():
            raise ConfigError(
                "save",
                "a store that holds its lock",
                "a closed store, or one of a parent process",
                "save inside of `with lab.checkpoint_store(...)`, in the process that opened it",
            )
        # At most one save is in flight, so that memory holds at most one copy of the tree.
        self.wait()
        # In a thread, the caller may change NumPy arrays before they are written.
        leaves = to_host(tree, copy=self._pool is not None)
        if score is not None:
            score = float(checks.number("score", score, "(-inf, inf)"))
        step = checks.whole("step", _as_number(step), 0)
        # Errors of the arguments are raised here, not in the thread.
        manifest = draft_manifest(step, leaves, notes, score)
        self._expect_latest(manifest.step)
        if self._pool is None:
            self._write(manifest, leaves)
        else:
            # The thread writes and prunes; its error is kept in the future.
            self._pending = self._pool.submit(self._write, manifest, leaves)

    def wait(self) -> None:
        """Wait until all is on the disk; WriteError if the last save failed."""
        if self._pending is not None:
            try:
                self._pending.result()
            finally:
                # After Ctrl-C the save may still run; then it is awaited again.
                if self._pending.done():
                    self._pending = None

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints, in order."""
        return list(find_checkpoints(self.directory))

    def close(self, error: BaseException | None) -> None:
        """Wait for the last save. If it fails, raise that, or note it on the error of the block."""
        self._owner = None
        try:
            self.wait()
        except FnnError as lost:
            if error is None:
                raise
            # The error of the block is the more important one, so this one is a note on it.
            error.add_note(f"and its last checkpoint is lost: {lost}")

    def _write(self, manifest: Manifest, leaves: dict[str, Stored]) -> None:
        write_checkpoint(self.directory, manifest, leaves)
        self._scores[manifest.step] = manifest.score
        with write_errors("the older checkpoints", self.directory):
            self._prune(manifest.step)

    def _prune(self, step: int) -> None:
        """Delete the checkpoints that are neither among the last nor the best."""
        folders = {}
        for past, folder in find_checkpoints(self.directory).items():
            # A later checkpoint is corrupt, and stays for the user to see.
            if past <= step:
                folders[past] = folder
        last = list(folders)[-self._keep :] if self._keep else list(folders)
        # The first of equal scores, as in reading.
        best = best_step({past: self._scores.get(past) for past in folders})
        # Deleted after the new one is on the disk, so there is always a valid checkpoint.
        for past in folders.keys() - {*last, best}:
            delete_checkpoint(folders[past])
            self._scores.pop(past, None)

    def _expect_latest(self, step: int) -> None:
        later_steps = [later for later in self.steps() if later > step]
        for later in later_steps:
            try:
                read(self.directory, step=later)
            except CheckpointCorruptError:
                # A reader would not take it for the latest, and this run may replace it.
                continue
            raise ConfigError(
                "step",
                f"one from {later} on, the latest saved",
                step,
                "take another directory for another run, or remove the later ones",
            )


@contextmanager
def checkpoint_store(
    directory: str | os.PathLike[str],
    *,
    keep: int | None = 3,
    asynchronous: bool = False,
) -> Iterator[Store]:
    """Open a directory to save checkpoints: `with lab.checkpoint_store("run") as store:`.

    Within the block, no other process can write there. `store.save(step, tree, notes=None,
    score=None)`, `store.wait()`, `store.steps()`. A crash at any moment leaves every checkpoint
    that was saved; its leftovers are removed when the directory is opened again.

    Args:
        directory: The directory; it is made if it does not exist.
        keep: Number of the last checkpoints to keep, besides that of the lowest score; None keeps
            all.
        asynchronous: Whether `save` returns at once and a thread writes. Later changes of the tree
            do not reach the file. An error is raised by the next `save` or `wait`, or at the end of
            the block.

    Raises:
        CheckpointLockedError: Another process, or another store, writes there; the message names
            it.
        WriteError: The directory cannot be made or written to.
        ConfigError: An option is out of range.
    """
    path = as_path("directory", directory)
    keep = keep if keep is None else checks.whole("keep", keep)
    asynchronous = checks.flag("asynchronous", asynchronous)
    with write_errors("a directory", path):
        make_folder(path)
    # The pool ends before the lock is released.
    with directory_lock(path), ThreadPoolExecutor(1, "checkpoints") as pool:
        with write_errors("leftovers of a crash", path):
            clean_up(path)
        store = Store(path, keep, pool if asynchronous else None)
        try:
            yield store
        except BaseException as error:
            store.close(error)
            raise
        store.close(None)


def save(directory: str | os.PathLike[str], tree: Any, *, step: int = 0) -> None:
    """Save one tree, on the disk on return: `lab.save("weights", params)`; `lab.restore` reads it.

    Args:
        directory: A directory of checkpoints; it is made if it does not exist. All others stay.
        tree: A pytree of arrays, keys and numbers.
        step: Its step; a checkpoint of the same step is replaced.

    Raises:
        CheckpointLockedError: Another process writes there.
        WriteError: The disk refused it; the directory is as before.
        ConfigError: There is a valid checkpoint of a later step, or an argument cannot be saved.
        DTypeError: A leaf does not hold numbers or keys.
    """
    with checkpoint_store(directory, keep=None) as store:
        store.save(step, tree)


def saved_in(directory: Path) -> list[int]:
    """Return the steps of the checkpoints in a directory, in order; none if it does not exist."""
    return list(find_checkpoints(directory)) if directory.is_dir() else []


def _score(folder: Path) -> float | None:
    """Return the score of a checkpoint; None if it is corrupt, or of a newer format."""
    try:
        return read_manifest(folder).score
    except (CheckpointCorruptError, CheckpointVersionError):
        return None


def _as_number(step: Any) -> Any:
    """Return an array of one number, such as the step of a train state, as a Python number."""
    is_scalar_array = isinstance(step, jax.Array | np.ndarray) and step.ndim == 0
    return step.item() if is_scalar_array else step
