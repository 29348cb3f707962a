"""How `fit` keeps a run on disk, and finds it again."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import unwrap
from pathlib import Path
from typing import Any, NamedTuple

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.checkpoints.reader import read
from fnn.lab.checkpoints.restore import restore
from fnn.lab.checkpoints.store import Store, checkpoint_store
from fnn.lab.fit.history import Figures, HistoryBuffer
from fnn.types import TrainState

HISTORY = "history/"  # where the figures lie in a checkpoint


class CheckpointPolicy(NamedTuple):
    """Where a run is kept, and how often."""

    directory: Path
    epochs: int
    seconds: float
    keep: int
    asynchronous: bool


def checkpoint_policy(
    directory: str | os.PathLike[str],
    *,
    epochs: int = 1,
    seconds: float = math.inf,
    keep: int = 3,
    asynchronous: bool = False,
) -> CheckpointPolicy:
    """Where and how often `lab.fit` keeps a run: after so many epochs, and within an epoch after so many seconds.

    The last `keep` are kept, and the best by validation loss, or by what early stopping goes by. asynchronous=True
    writes beside the next steps. ConfigError for a number out of range.
    """
    checks.number("checkpoint_policy seconds", seconds, "(0, inf]")
    return CheckpointPolicy(
        Path(directory),
        checks.whole("checkpoint_policy epochs", epochs),
        float(seconds),
        checks.whole("checkpoint_policy keep", keep),
        checks.flag("checkpoint_policy asynchronous", asynchronous),
    )


def as_saving(value: str | os.PathLike[str] | CheckpointPolicy | None) -> CheckpointPolicy | None:
    """What was meant: a directory alone is kept in after every epoch."""
    if value is None or isinstance(value, CheckpointPolicy):
        return value
    if not isinstance(value, str | os.PathLike):
        expected = "a directory, or what lab.checkpoint_policy gives"
        if _is_store(value):
            got, advice = (
                "lab.checkpoint_store(...), a store of its own",
                "give the directory, or lab.checkpoint_policy(directory)",
            )
            raise ConfigError("checkpoints", expected, got, advice)
        raise ConfigError("checkpoints", expected, repr(value), "give a path")
    return checkpoint_policy(value)


def _is_store(value: Any) -> bool:
    """Whether it comes from `lab.checkpoint_store`, with its block entered or not."""
    return isinstance(value, Store) or getattr(value, "func", None) is unwrap(checkpoint_store)


class ResumeState(NamedTuple):
    """A run as it was kept: its train state, figures by name, and the place of its course; or as it begins."""

    train_state: TrainState
    figures: Figures
    place: dict[str, Any]
    was_kept: bool = False


class RunStore:
    """Keeps a run in a directory that is locked meanwhile; without one, nowhere."""

    def __init__(self, saving: CheckpointPolicy | None, store: Store | None):
        self.saving, self.store = saving, store
        self.kept, self.last = -1, time.monotonic()

    @property
    def keeps(self) -> bool:
        """Whether there is a directory to keep it in."""
        return self.store is not None

    def is_due(self, epochs: int | None) -> bool:
        """Whether to save now, at the end of so many epochs, or within one."""
        if self.saving is None:
            return False
        due = epochs is not None and epochs % self.saving.epochs == 0
        return due or time.monotonic() - self.last >= self.saving.seconds

    def save(
        self,
        train_state: TrainState,
        diary: HistoryBuffer,
        place: dict[str, Any],
        score: float | None = None,
    ) -> None:
        """Keep the run as it is, unless it is kept already."""
        step = int(train_state.step)
        if self.store is not None and step != self.kept:
            tree = {"train_state": train_state, "history": diary.arrays()}
            self.store.save(step, tree, notes={"place": place}, score=score)
            self.kept, self.last = step, time.monotonic()


@contextmanager
def keeping(saving: CheckpointPolicy | None) -> Iterator[RunStore]:
    """A keeper; at the end all is written."""
    if saving is None:
        yield RunStore(None, None)
    else:
        with checkpoint_store(
            saving.directory, keep=saving.keep, asynchronous=saving.asynchronous
        ) as store:
            yield RunStore(saving, store)


def past(keeper: RunStore, fresh: TrainState, resume: bool | TrainState) -> ResumeState:
    """Where the run begins; ConfigError for a directory that keeps a run which is not to be gone on with."""
    kept = keeper.store.steps() if keeper.store is not None else []
    if kept and resume is not True:
        advice = "give resume=True to go on with it, or another directory"
        raise ConfigError(
            "checkpoints", "a directory without checkpoints", f"one at step {kept[-1]}", advice
        )
    if isinstance(resume, TrainState):
        return ResumeState(resume, {}, {})
    if keeper.store is None or not kept:
        return ResumeState(fresh, {}, {})
    found = read(keeper.store.directory)
    keeper.kept = found.step
    figures = {
        path.removeprefix(HISTORY): leaf
        for path, leaf in found.leaves.items()
        if path.startswith(HISTORY)
    }
    return ResumeState(
        restore(found, fresh, prefix="train_state"), figures, found.notes["place"], True
    )
