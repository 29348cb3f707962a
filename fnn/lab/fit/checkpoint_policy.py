"""Where and how often `fit` saves a run, and how it finds a saved run again."""

import difflib
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from inspect import unwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnn import checks, trees
from fnn.errors import CheckpointCorruptError, CheckpointMismatchError, ConfigError
from fnn.lab.checkpoints.reader import Checkpoint, read
from fnn.lab.checkpoints.restore import restore
from fnn.lab.checkpoints.store import Store, checkpoint_store, saved_in
from fnn.lab.fit.history import Figures, HistoryBuffer
from fnn.lab.fit.votes import is_whole, join_positions, own_position
from fnn.train.figures import is_validation
from fnn.train.layout import Layout
from fnn.train.placement import own_copy
from fnn.train.processes import agreement, is_writer, spans_processes
from fnn.train.recipe import Recipe
from fnn.train.run import expect_same_key
from fnn.train.run_facts import describe, describe_state
from fnn.types import RandomKey, TrainState

# Names within a checkpoint. They are part of its format: older checkpoints have them as well.
TRAIN_STATE = "train_state"
HISTORY = "history"
EPOCH_ENDS = "epoch_ends"
POSITION = "place"  # of the data source, in the notes
RECIPE = "recipe"  # its text, in the notes
MAX_CHANGES = 3  # of a recipe, that a message lists


class CheckpointPolicy(NamedTuple):
    """Where and how often a run is saved. Made by `lab.checkpoint_policy`."""

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
    """Set where and how often `lab.fit` saves a run.

    A checkpoint holds the history from the first step on, so that it alone is enough to resume and
    to complete a log. This takes 4 bytes for each figure of a step, for example 2 MB for 5 figures
    of 100,000 steps.

    Args:
        directory: Folder of the checkpoints of one run.
        epochs: Number of epochs between two checkpoints.
        seconds: Seconds after which a run is saved within an epoch.
        keep: Number of latest checkpoints to keep. The best one is kept as well: the one of the
            lowest validation loss, or the best by the figure that early stopping uses.
        asynchronous: Whether to write checkpoints in a thread while the next steps are computed.

    Raises:
        ConfigError: A number is out of its range.
    """
    checks.number("checkpoint_policy seconds", seconds, "(0, inf]")
    return CheckpointPolicy(
        directory=Path(directory),
        epochs=checks.whole("checkpoint_policy epochs", epochs),
        seconds=float(seconds),
        keep=checks.whole("checkpoint_policy keep", keep),
        asynchronous=checks.flag("checkpoint_policy asynchronous", asynchronous),
    )


def as_policy(value: str | os.PathLike[str] | CheckpointPolicy | None) -> CheckpointPolicy | None:
    """Convert the argument `checkpoints` to a policy, or None to save nothing.

    Raises:
        ConfigError: The value is neither a directory nor a policy.
    """
    if value is None or isinstance(value, CheckpointPolicy):
        return value
    if isinstance(value, str | os.PathLike):
        return checkpoint_policy(value)
    expected = "a directory, or the value of lab.checkpoint_policy(...)"
    if _is_store(value):
        raise ConfigError(
            "checkpoints",
            expected,
            "lab.checkpoint_store(...), a store for use without lab.fit",
            "give the directory, or lab.checkpoint_policy(directory)",
        )
    raise ConfigError("checkpoints", expected, repr(value), "give a path")


def _is_store(value: Any) -> bool:
    # The context manager of `lab.checkpoint_store`, or the store that it opened.
    maker = getattr(value, "func", None)
    return isinstance(value, Store) or maker is unwrap(checkpoint_store)


class ResumeState(NamedTuple):
    """The state from which a run begins or resumes.

    Attributes:
        train_state: Before the next step.
        figures: Figures of the steps and epochs before, by name.
        epoch_ends: Step after which each epoch before ended.
        position: Position of the data source, as its `position` returned it.
        changes: Text of the changes of the recipe since then, or "".
        is_saved: Whether it was read from a checkpoint.
    """

    train_state: TrainState
    figures: Figures
    position: dict[str, Any]
    epoch_ends: tuple[int, ...] = ()
    changes: str = ""
    is_saved: bool = False


class RunStore:
    """Saves one run into a directory by a policy. Without a policy it does nothing.

    Args:
        policy: Where and how often to save, or None to save nothing.
        store: The open directory, on the process that writes; None on the others.
        recipe: Its text is saved, to find changes when the run is resumed.
        layout: The devices of the run. All of their processes call the same methods.
    """

    def __init__(
        self,
        policy: CheckpointPolicy | None,
        store: Store | None,
        recipe: Recipe,
        layout: Layout | None = None,
    ):
        self._policy = policy
        self._recipe = describe(recipe)
        self._store = store
        self._layout = layout
        self._saved_at = time.monotonic()
        self.saved_step = -1  # of the latest checkpoint

    @property
    def is_active(self) -> bool:
        """Whether there is a directory to save into."""
        return self._policy is not None

    def is_overdue(self) -> bool:
        """Return whether to save within an epoch, by the time since the last checkpoint."""
        if self._policy is None:
            return False
        return time.monotonic() - self._saved_at >= self._policy.seconds

    def is_due(self, completed_epochs: int | None, is_overdue: bool) -> bool:
        """Return whether to save now.

        Args:
            completed_epochs: Number of epochs done, at the end of an epoch; None within an epoch.
            is_overdue: Whether it is to be saved by the time since the last checkpoint.
        """
        if self._policy is None:
            return False
        # Epochs are counted from the beginning of the run, seconds from the last checkpoint.
        if completed_epochs is not None and completed_epochs % self._policy.epochs == 0:
            return True
        return is_overdue

    def save(
        self,
        train_state: TrainState,
        history: HistoryBuffer,
        position: dict[str, Any],
        score: float | None = None,
        *,
        together: bool = True,
    ) -> None:
        """Save the run, unless this step is saved already.

        Args:
            train_state: Before the next step.
            history: Figures of all steps and epochs before.
            position: Position of the data source.
            score: The lower, the better. The checkpoint of the lowest score is kept.
            together: Whether all processes of the run call this. Otherwise the run is saved if this
                process alone has all of it.
        """
        # The end of an epoch and the end of the run are often the same step.
        step = int(trees.read(train_state.step))
        if self._policy is None or step == self.saved_step:
            return
        if together:
            position = join_positions(self._layout, step, position)
        elif not is_whole(train_state, position):
            return
        # Of a state that is divided among processes, all of them gather the parts.
        train_state = own_copy(train_state)
        # The whole history, so that the latest checkpoint is all that is needed to resume.
        tree = {
            TRAIN_STATE: train_state,
            HISTORY: history.arrays(),
            EPOCH_ENDS: history.epoch_ends(),
        }
        notes = {POSITION: position, RECIPE: self._recipe}
        if self._store is not None:
            self._store.save(step, tree, notes=notes, score=score)
        self.saved_step = step
        self._saved_at = time.monotonic()

    def load(self, initial_state: TrainState, resume: bool | TrainState) -> ResumeState:
        """Return the state from which the run begins or resumes.

        Args:
            initial_state: The train state of a new run.
            resume: True to continue the last checkpoint if there is one, or the train state to
                continue from.

        Raises:
            ConfigError: The directory holds checkpoints, and `resume` is not True.
        """
        # Also the processes that do not write read the checkpoint.
        saved_steps = [] if self._policy is None else saved_in(self._policy.directory)
        if saved_steps and resume is not True:
            raise ConfigError(
                "checkpoints",
                "a directory without checkpoints",
                f"one at step {saved_steps[-1]}",
                "give resume=True to continue that run, or another directory",
            )
        if isinstance(resume, TrainState):
            return ResumeState(resume, figures={}, position={})
        if self._policy is None or not saved_steps:
            return ResumeState(initial_state, figures={}, position={})
        checkpoint = read(self._policy.directory)
        if not _is_run(checkpoint):
            raise ConfigError(
                "checkpoints",
                "a directory that lab.fit saved",
                f"step {checkpoint.step} in {self._policy.directory}, saved by lab.save or a store",
                "restore it by lab.restore, and give resume=train_state",
            )
        self.saved_step = checkpoint.step
        # The history has no fixed structure to restore it into: its length is that of the run.
        figures = {}
        for path, leaf in checkpoint.leaves.items():
            if path.startswith(f"{HISTORY}/"):
                name = path.removeprefix(f"{HISTORY}/")
                figures[name] = leaf
        changes = _list_changes(checkpoint.notes.get(RECIPE), self._recipe)
        try:
            train_state = restore(checkpoint, initial_state, prefix=TRAIN_STATE)
        except CheckpointMismatchError as error:
            where, expected, got, _ = error.args
            advice = "give the network and optimizer of the saved run, or another directory"
            mismatch = CheckpointMismatchError(where, expected, got, advice)
            if changes:
                mismatch.add_note(f"The recipe differs from that of the saved run: {changes}")
            raise mismatch from None
        epoch_ends = checkpoint.leaves[EPOCH_ENDS]
        _expect_whole_history(
            checkpoint.step, int(trees.read(train_state.step)), figures, epoch_ends
        )
        position = own_position(self._layout, checkpoint.notes[POSITION])
        ends = tuple(epoch_ends.tolist())
        return ResumeState(train_state, figures, position, ends, changes, is_saved=True)

    def describe(self, begin: ResumeState) -> dict[str, Any]:
        """Return the facts about the beginning of a run that are equal on all its processes."""
        if not spans_processes(self._layout):
            return {}
        facts = {"train state": describe_state(begin.train_state)}
        if self._policy is not None:
            name = f"latest step in {self._policy.directory}, which all processes must share,"
            facts[name] = str(self.saved_step)
        # The place of a checkpoint comes first, since another one has another train state.
        return dict(reversed(facts.items()))


def _list_changes(saved: Any, current: str) -> str:
    """Return the lines of a recipe that differ from the saved one, as text; "" if none does."""
    if not isinstance(saved, str) or saved == current:
        return ""
    before = saved.splitlines()
    after = current.splitlines()
    changes = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, stop, new_start, new_stop in matcher.get_opcodes():
        if kind != "equal":
            removed = _join_lines(before[start:stop])
            added = _join_lines(after[new_start:new_stop])
            changes.append(f"{removed} -> {added}")
    others = len(changes) - MAX_CHANGES
    more = [f"and {others} more"] if others > 0 else []
    return "; ".join(changes[:MAX_CHANGES] + more)


def _join_lines(lines: list[str]) -> str:
    """Join the lines of an expression into one."""
    text = " ".join(line.strip() for line in lines).removesuffix(",")
    return re.sub(r",? \)", ")", text.replace("( ", "(")) or "nothing"


def _is_run(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint was saved by `lab.fit`."""
    notes = checkpoint.notes
    has_position = isinstance(notes, dict) and isinstance(notes.get(POSITION), dict)
    return has_position and EPOCH_ENDS in checkpoint.leaves


def _expect_whole_history(step: int, state_step: int, figures: Figures, ends: np.ndarray) -> None:
    """Raise CheckpointCorruptError unless a history is that of a run up to a step.

    Args:
        step: Step of the checkpoint.
        state_step: Step of its train state.
        figures: The history: figures of steps, (steps, ...), and of validation, (epochs, ...).
        ends: Step after which each epoch ended, (epochs,).
    """
    counts = {True: set[int](), False: set[int]()}  # of validation, and of steps
    for name, values in figures.items():
        counts[is_validation(name)].add(values.shape[0] if values.ndim else -1)
    steps = max(counts[False], default=-1)
    is_whole = (
        step == state_step
        and counts[False] == {steps}
        and 0 <= steps <= step
        and counts[True] <= {len(ends)}
        and ends.ndim == 1
        and bool(np.all(np.diff(ends, prepend=step - steps, append=step) >= 0))
    )
    if not is_whole:
        raise CheckpointCorruptError(
            "checkpoint history",
            f"figures of the steps up to {step}",
            f"{steps} steps, {ends.size} epochs and a train state at step {state_step}",
            "resume from another checkpoint",
        )


@contextmanager
def open_run_store(
    policy: CheckpointPolicy | None,
    recipe: Recipe,
    layout: Layout | None,
) -> Iterator[RunStore]:
    """Open the directory of a policy. At the end of the block all checkpoints are written.

    Args:
        policy: Where and how often to save, or None to save nothing.
        recipe: Its text is saved, to find changes when the run is resumed.
        layout: The devices of the run. Of several processes, the first one writes.
    """
    if policy is None:
        yield RunStore(None, None, recipe, layout)
        return
    with ExitStack() as stack:
        store = None
        with agreement("checkpoints", layout):
            if is_writer(layout):
                opened = checkpoint_store(
                    policy.directory,
                    keep=policy.keep,
                    asynchronous=policy.asynchronous,
                )
                store = stack.enter_context(opened)
        yield RunStore(policy, store, recipe, layout)


def expect_same_run(train_state: TrainState, key: RandomKey, total: int | None) -> None:
    """Raise ConfigError unless a train state to resume belongs to this run.

    Args:
        train_state: The train state.
        key: Key of the run.
        total: Number of steps of the run, or None where it is not known.
    """
    expect_same_key(train_state, key)
    step = int(trees.read(train_state.step))
    if total is not None and step > total:
        raise ConfigError(
            "resume",
            f"a train state within the {total} steps",
            f"step {step}",
            "train for more epochs",
        )


def expect_same_figures(past: Figures, shapes: tuple[Figures, Figures]) -> None:
    """Raise ConfigError unless a run measures the figures that were measured before.

    Args:
        past: Figures of the run before it was resumed, {} for a new run.
        shapes: Figures of steps and of validation that the run measures now.
    """
    of_steps, of_validation = shapes
    names = [*of_steps, *of_validation]
    if past and past.keys() != set(names):
        raise ConfigError(
            "resume",
            f"a run that measures {', '.join(past)}",
            ", ".join(names),
            "give the loss, metrics and valid= of the saved run",
        )
