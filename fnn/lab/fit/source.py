"""The protocol of data sources, and segments of a run."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fnn import trees
from fnn.errors import NonFiniteError
from fnn.lab.fit.history import Figures
from fnn.types import TrainState


class Segment(NamedTuple):
    """Consecutive steps that were launched, and may still be under way.

    Attributes:
        first_state: The train state before the first step.
        train_state: The train state after the last step. If an epoch then ends, it is updated on
            validation.
        first_step: Number of steps done before the segment.
        stop: Number of steps done after it. It ends earlier where early stopping ends the run, or
            at a non-finite step.
        figures: Figures on the device, in the form of the source that launched the segment.
    """

    first_state: TrainState
    train_state: TrainState
    first_step: int
    stop: int
    figures: Any


class EpochPart(NamedTuple):
    """Figures of those steps of a segment that belong to one epoch, on the host.

    Attributes:
        measured: Figures of each step by name, (steps, ...).
        validated: Figures of validation by name if the epoch ended with these steps, else None.
    """

    measured: Figures
    validated: Figures | None


class Diagnosis(NamedTuple):
    """The cause of a non-finite step that ends the run.

    Attributes:
        train_state: The train state before the step.
        position: Position of the data source before the step.
        error: The error to raise.
    """

    train_state: TrainState
    position: dict[str, Any]
    error: NonFiniteError


class DataSource(Protocol):
    """Data to train on, and the program that trains on it. The time of waiting is measured."""

    @property
    def epoch_length(self) -> int | None:
        """Steps per epoch, or None where it is not known."""

    @property
    def can_launch_ahead(self) -> bool:
        """Whether a segment may be launched before the last one is done, and be discarded."""

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """Compile the programs of `launch`, without a step.

        Returns:
            Figures of no step, (0, ...), and figures of validation. The latter are those of this
            train state if no step was done.
        """

    def launch(self, train_state: TrainState, step: int, max_steps: int) -> Segment:
        """Launch at least one step from a train state that is at `step`, without waiting."""

    def wait(self, segment: Segment) -> list[EpochPart]:
        """Wait until a segment is done, and return its figures by epoch."""

    def diagnose(self, segment: Segment, step: int) -> Diagnosis:
        """Find the cause of a non-finite step of the last segment."""

    def next_inputs(self, train_state: TrainState) -> Any:
        """Return the inputs of the next step as the network gets them."""

    def count_epochs(self, step: int) -> tuple[int, int]:
        """Return the number of epochs done after a step, and of steps in the current one."""

    def position(self) -> dict[str, Any]:
        """Return all that a checkpoint needs for JSON, besides the train state, to resume here."""

    def seek(self, position: dict[str, Any], steps: int) -> bool:
        """Go to a position, {} for the first one, before which `steps` steps were done.

        Returns:
            False if the data before it had to be read again.
        """


def on_host(figures: Mapping[str, jax.Array], index: Any = ...) -> Figures:
    """Copy a part of each figure to the host."""
    copies = {}
    for name, value in figures.items():
        part = trees.read(value)[index]
        # Always a copy: a view would keep the whole array in memory.
        copies[name] = np.array(part)
    return copies
