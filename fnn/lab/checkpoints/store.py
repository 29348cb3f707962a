"""A directory of checkpoints with one writer, who keeps the last ones and the best."""

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
from fnn.lab.checkpoints.disk import as_path, make_folder, telling
from fnn.lab.checkpoints.folders import drop, found, sweep
from fnn.lab.checkpoints.host import Stored, on_host
from fnn.lab.checkpoints.lock import locked
from fnn.lab.checkpoints.manifest import Manifest
from fnn.lab.checkpoints.reader import lowest, manifest_of, read
from fnn.lab.checkpoints.writer import draft, write


class Store:
    """What `lab.checkpoint_store` gives: the one writer into a directory."""

    def __init__(self, directory: Path, keep: int | None, pool: ThreadPoolExecutor | None):
        self.directory = directory
        self._keep, self._pool = keep, pool
        self._scores = {step: _score(folder) for step, folder in found(directory).items()}
        self._pending: Future[None] | None = None
        self._owner: int | None = os.getpid()

    def save(self, step: int, tree: Any, *, notes: Any = None, score: float | None = None) -> None:
        """Save a tree; it is on the disk when this returns or, asynchronous, when `wait` does.

        A checkpoint of the same step is replaced. notes are what JSON can hold; score a finite number, the lower the
        better. ConfigError for a step before that of a good checkpoint, which would be taken for the latest;
        CheckpointWriteError from the disk, of this save or, asynchronous, of the one before. Then all is as it was.
        """
        if self._owner != os.getpid():
            advice = (
                "save inside of `with lab.checkpoint_store(...)`, in the process that opened it"
            )
            raise ConfigError(
                "save", "a store that holds its lock", "one that let go of it", advice
            )
        self.wait()
        leaves = on_host(tree, copy=self._pool is not None)
        score = None if score is None else float(checks.number("score", score, "(-inf, inf)"))
        manifest = draft(checks.whole("step", _item(step), 0), leaves, notes, score)
        self._expect_latest(manifest.step)
        if self._pool is None:
            self._write(manifest, leaves)
        else:
            self._pending = self._pool.submit(self._write, manifest, leaves)

    def wait(self) -> None:
        """Return when all is on the disk; CheckpointWriteError if it could not be put there."""
        if self._pending is not None:
            try:
                self._pending.result()
            finally:
                if self._pending.done():  # else Ctrl-C came in between
                    self._pending = None

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in their order."""
        return list(found(self.directory))

    def close(self, error: BaseException | None) -> None:
        """End all saving; a checkpoint that is lost then is told in the error that ends the block, or is one."""
        self._owner = None
        try:
            self.wait()
        except FnnError as lost:
            if error is None:
                raise
            error.add_note(f"and its last checkpoint is lost: {lost}")

    def _write(self, manifest: Manifest, leaves: dict[str, Stored]) -> None:
        write(self.directory, manifest, leaves)
        self._scores[manifest.step] = manifest.score
        with telling("the checkpoints before", self.directory):
            self._prune(manifest.step)

    def _prune(self, step: int) -> None:
        """Remove what is neither among the last nor the best; of later ones, which are corrupt, nothing."""
        folders = {past: folder for past, folder in found(self.directory).items() if past <= step}
        last = list(folders)[-self._keep :] if self._keep else folders
        best = lowest({past: self._scores.get(past) for past in folders})
        for past in folders.keys() - {*last, best}:
            drop(folders[past])
            self._scores.pop(past, None)

    def _expect_latest(self, step: int) -> None:
        for later in (one for one in self.steps() if one > step):
            try:
                read(self.directory, step=later)
            except CheckpointCorruptError:
                continue  # it is taken for no latest, and the run may come by again
            advice = "take another directory for another run, or remove the later ones"
            raise ConfigError("step", f"one from {later} on, the latest saved", step, advice)


@contextmanager
def checkpoint_store(
    directory: str | os.PathLike[str], *, keep: int | None = 3, asynchronous: bool = False
) -> Iterator[Store]:
    """Within, this process alone writes checkpoints into the directory: `with lab.checkpoint_store("run") as store:`.

    `store.save(step, tree, notes=None, score=None)`, `store.wait()`, `store.steps()`. The last `keep` stay, and the
    one of the lowest score; all, if keep is None. asynchronous: save returns at once, what comes after does not reach
    what it writes, one thread writes, and an error comes from the next save, wait, or the end of the block. A crash at
    any moment leaves every checkpoint that was saved; what it left else is removed here. CheckpointLockedError names
    the other writer.
    """
    path = as_path("directory", directory)
    keep = keep if keep is None else checks.whole("keep", keep)
    asynchronous = checks.flag("asynchronous", asynchronous)
    with telling("a directory", path):
        make_folder(path)
    with locked(path), ThreadPoolExecutor(1, "checkpoints") as pool:
        with telling("what a crash left", path):
            sweep(path)
        store = Store(path, keep, pool if asynchronous else None)
        try:
            yield store
        except BaseException as error:
            store.close(error)
            raise
        store.close(None)


def save(directory: str | os.PathLike[str], tree: Any, *, step: int = 0) -> None:
    """Save one tree, on the disk when this returns: `lab.save("weights", params)`; `lab.restore` reads it."""
    with checkpoint_store(directory, keep=None) as store:
        store.save(step, tree)


def _score(folder: Path) -> float | None:
    """Its score; none if it is corrupt, or of another format."""
    try:
        return manifest_of(folder).score
    except (CheckpointCorruptError, CheckpointVersionError):
        return None


def _item(step: Any) -> Any:
    """An array of one number, as a train state has for its step, as the number."""
    return step.item() if isinstance(step, jax.Array | np.ndarray) and step.ndim == 0 else step
