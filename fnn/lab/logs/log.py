"""What a log is: four functions that a run calls as it goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from fnn.errors import ConfigError
from fnn.lab.logs.formats import column
from fnn.types import TrainState


class Begun(NamedTuple):
    """What a log is told when a run begins or resumes.

    step:     how many steps are done: 0, or where the run resumes.
    names:    every figure that will be told, in order.
    settings: hyperparameters and facts of the run.
    resumes:  whether a run that was kept goes on, be it from its beginning.
    images:   gives the next batch as the network sees it, (n, height, width, channels), or None if it is of no images.
    """

    step: int
    names: tuple[str, ...]
    settings: Mapping[str, str | int | float]
    images: Callable[[], np.ndarray | None] = lambda: None
    resumes: bool = False

    @property
    def is_new(self) -> bool:
        """Whether nothing may have been told of this run yet."""
        return self.step == 0 and not self.resumes


def _ignore(*_: Any) -> None:
    """Nothing is kept of it."""


class Log(NamedTuple):
    """Where the figures of a run go.

    begin: (begun) as the run begins or resumes; what was told of later steps is forgotten.
    write: (steps, figures) of steps that were done: their numbers, (n,), and by name what each measured, (n,).
    look:  (step, train_state) after each epoch.
    close: () as the run ends, also by an error; begin opens again.
    """

    begin: Callable[[Begun], None] = _ignore
    write: Callable[[np.ndarray, Mapping[str, np.ndarray]], None] = _ignore
    look: Callable[[int, TrainState], None] = _ignore
    close: Callable[[], None] = _ignore

    @property
    def looks(self) -> bool:
        """Whether it makes anything of a train state."""
        return self.look is not _ignore


def as_log(where: str, value: Any) -> Log:
    """The log that was meant: one, a function (step, figures), several of these in a list, or None for no log.

    ConfigError for anything else.
    """
    if value is None:
        return Log()
    if isinstance(value, Log):
        return value
    if isinstance(value, list | tuple):
        return _all_of([as_log(f"{where}[{place}]", one) for place, one in enumerate(value)])
    if not callable(value):
        advice = 'make one, as by lab.jsonl_log("run.jsonl")'
        raise ConfigError(where, "a log, or a function (step, figures)", repr(value), advice)

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        for step, own in each(steps, figures):
            value(step, own)

    return Log(write=write)


def _all_of(logs: Sequence[Log]) -> Log:
    def begin(begun: Begun) -> None:
        with ExitStack() as undo:  # if one cannot begin, those that have are closed
            for log in logs:
                log.begin(begun)
                undo.callback(log.close)
            undo.pop_all()

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        for log in logs:
            log.write(steps, figures)

    looking = [log for log in logs if log.looks]

    def look(step: int, train_state: TrainState) -> None:
        for log in looking:
            log.look(step, train_state)

    def close() -> None:
        with ExitStack() as each:  # all are closed, even where one fails
            for log in logs:
                each.callback(log.close)

    return Log(begin, write, look if looking else _ignore, close)


def each(
    steps: np.ndarray, figures: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Step by step what was told of several."""
    columns = [column(name, values, steps).tolist() for name, values in figures.items()]
    for step, *values in zip(steps.tolist(), *columns, strict=True):
        yield step, dict(zip(figures, map(float, values), strict=True))


def not_begun(where: str, steps: np.ndarray) -> ConfigError:
    """The error of figures that no run has announced."""
    return ConfigError(
        where, "a run that has begun", f"figures of step {steps[0]} before", "call its begin first"
    )
