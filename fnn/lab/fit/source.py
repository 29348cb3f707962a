"""What the fit loop trains on: the protocol of data sources, and a segment of a run."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fnn.errors import NonFiniteError
from fnn.lab.fit.history import Figures
from fnn.types import TrainState


class EpochPart(NamedTuple):
    """What was done of an epoch.

    measured:  by each step, (steps,)
    validated: by validation, if the epoch ended with them
    """

    measured: Figures
    validated: Figures | None


class Segment(NamedTuple):
    """Steps that are under way, or done.

    first:       where they began.
    train_state: where they lead, at this step at most, having taken note of validation if an epoch is then over.
    parts:       what they are of each epoch, and how many of the seconds that it waits for them are validation's.
    waited:      the seconds in which there was no batch to do a step on.
    """

    first: TrainState
    train_state: TrainState
    step: int
    parts: Callable[[], tuple[list[EpochPart], float]]
    waited: float = 0.0


class DataSource(Protocol):
    """What a run goes over."""

    @property
    def length(self) -> int | None:
        """Steps an epoch, if that is known."""

    @property
    def looks_ahead(self) -> bool:
        """Whether the next steps may be set out on before the last are done, and given up without a trace."""

    def go(self, train_state: TrainState, step: int, count: int) -> Segment:
        """So many steps or fewer, at least one; not beyond one that ends the run."""

    def compile(self, train_state: TrainState) -> tuple[Figures, Figures]:
        """Do as `go` does, without a step; what will be measured, (0,), and validation, true where no step is done."""

    def blame(self, train_state: TrainState, step: int) -> tuple[TrainState, NonFiniteError]:
        """For a step of the last stretch, which began here: the train state before it, and what was not finite."""

    def first_inputs(self, train_state: TrainState) -> Any:
        """The inputs of the next step as the network sees them."""

    def epochs(self, step: int) -> tuple[int, int]:
        """At this step, how many are over, and how many steps of the one under way."""

    def place(self) -> dict[str, Any]:
        """What a checkpoint must keep, besides the train state, to go on from here."""

    def go_to(self, place: dict[str, Any], steps: int) -> bool:
        """Go on from there, after so many steps; whether what was done before had not to be read again for it."""


def on_host(figures: Mapping[str, jax.Array], part: Any = ...) -> Figures:
    """A copy, which does not hold on to the rest."""
    return {name: np.array(np.asarray(value)[part]) for name, value in figures.items()}


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds it takes."""
    began = time.monotonic()
    return function(), time.monotonic() - began
