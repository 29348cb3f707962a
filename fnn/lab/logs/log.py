"""The interface of logs: six functions that a run calls."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from fnn.diagnose import Findings
from fnn.errors import ConfigError
from fnn.lab.logs.formats import as_column
from fnn.types import TrainState


class RunInfo(NamedTuple):
    """Facts about a run, given to a log when the run begins or resumes.

    Attributes:
        step: Number of steps done before: 0, or the step at which the run resumes.
        names: Names of all figures that will be logged, in order.
        settings: Hyperparameters and facts of the run by name.
        images: Returns the next batch as the network gets it, (n, height, width, channels), or
            None where the inputs are not images.
        resumes: Whether the run continues one that was saved, possibly from step 0.
        past: `(step) -> records`: the (steps, figures) that were logged after `step` and before
            this session, in the form of `Log.write`. A log that lost them writes them again.
        columns: Names of the layers or parameters along the columns of each array of the recipe's
            instruments, by its name.
    """

    step: int
    names: tuple[str, ...]
    settings: Mapping[str, str | int | float]
    images: Callable[[], np.ndarray | None] = lambda: None
    resumes: bool = False
    past: Callable[[int], Iterable[tuple[np.ndarray, Mapping[str, np.ndarray]]]] = lambda step: ()
    columns: Mapping[str, tuple[str, ...]] = {}

    @property
    def is_new(self) -> bool:
        """Whether nothing can have been logged of this run before."""
        return self.step == 0 and not self.resumes


def _do_nothing(*_: Any) -> None:
    """Default of each function of a log."""


class Log(NamedTuple):
    """A receiver of the figures of a run.

    Attributes:
        begin: `(info)` when the run begins or resumes, with a `RunInfo`. A log then discards the
            figures of later steps.
        write: `(steps, figures)` after steps, with their numbers, (n,), and an array (n,) per
            figure.
        on_state: `(step, train_state)` after each epoch.
        close: `()` when the run ends, also by an error. `begin` opens the log again.
        write_arrays: `(steps, arrays)` after steps that instruments measured, with their numbers,
            (n,), and their arrays, (n, columns, ...), by name.
        on_findings: `(step, findings)` after a step by which errors or warnings were found, each
            once in a session. When they are found depends on the speed of the run.
    """

    begin: Callable[[RunInfo], None] = _do_nothing
    write: Callable[[np.ndarray, Mapping[str, np.ndarray]], None] = _do_nothing
    on_state: Callable[[int, TrainState], None] = _do_nothing
    close: Callable[[], None] = _do_nothing
    write_arrays: Callable[[np.ndarray, Mapping[str, np.ndarray]], None] = _do_nothing
    on_findings: Callable[[int, Findings], None] = _do_nothing

    @property
    def uses_states(self) -> bool:
        """Whether `on_state` does anything."""
        return self.on_state is not _do_nothing

    @property
    def uses_findings(self) -> bool:
        """Whether `on_findings` does anything."""
        return self.on_findings is not _do_nothing


def as_log(where: str, value: Any) -> Log:
    """Convert an argument to a log.

    Args:
        where: Name of the argument, for error messages.
        value: A `Log`, a function `(step, figures)`, a list of these, or None for a log that does
            nothing.

    Raises:
        ConfigError: `value` is anything else.
    """
    if value is None:
        return Log()
    if isinstance(value, Log):
        return value
    if isinstance(value, list | tuple):
        logs = [as_log(f"{where}[{index}]", item) for index, item in enumerate(value)]
        return _combine(logs)
    if not callable(value):
        raise ConfigError(
            where,
            "a log, or a function (step, figures)",
            repr(value),
            'make one, as by lab.jsonl_log("run.jsonl")',
        )

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        for step, row in iterate_steps(steps, figures):
            value(step, row)

    return Log(write=write)


def _combine(logs: Sequence[Log]) -> Log:
    """Make one log of several."""

    def begin(info: RunInfo) -> None:
        # If one log fails to begin, those that have begun are closed.
        with ExitStack() as on_error:
            for log in logs:
                log.begin(info)
                on_error.callback(log.close)
            on_error.pop_all()  # all have begun: none is closed here

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        # The stack calls every log, even where one of them fails; the last callback comes first.
        with ExitStack() as stack:
            for log in reversed(logs):
                stack.callback(log.write, steps, figures)

    state_logs = [log for log in logs if log.uses_states]
    finding_logs = [log for log in logs if log.uses_findings]

    def on_state(step: int, train_state: TrainState) -> None:
        with ExitStack() as stack:
            for log in reversed(state_logs):
                stack.callback(log.on_state, step, train_state)

    def write_arrays(steps: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        with ExitStack() as stack:
            for log in reversed(logs):
                stack.callback(log.write_arrays, steps, arrays)

    def on_findings(step: int, findings: Findings) -> None:
        with ExitStack() as stack:
            for log in reversed(finding_logs):
                stack.callback(log.on_findings, step, findings)

    def close() -> None:
        # The stack closes every log, even where closing one of them fails.
        with ExitStack() as stack:
            for log in logs:
                stack.callback(log.close)

    # A run whose log uses no states may do several epochs in one call: see `Log.uses_states`.
    return Log(
        begin,
        write,
        on_state if state_logs else _do_nothing,
        close,
        write_arrays,
        on_findings if finding_logs else _do_nothing,
    )


def iterate_steps(
    steps: np.ndarray, figures: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (step, figures) for each of several steps, with the figures as floats.

    Args:
        steps: Step numbers, (n,).
        figures: An array (n,) per figure.

    Raises:
        ShapeError: A figure has another shape than `steps`.
    """
    # Conversion of whole columns is faster than of single numbers.
    columns = []
    for name, values in figures.items():
        column = as_column(name, values, steps)
        columns.append(column.tolist())
    for step, *numbers in zip(steps.tolist(), *columns, strict=True):
        row = dict(zip(figures, map(float, numbers), strict=True))
        yield step, row


def not_begun_error(where: str, steps: np.ndarray) -> ConfigError:
    """Make the error for figures that are logged before `begin`."""
    return ConfigError(
        where,
        "a call of begin before figures",
        f"figures of step {steps[0]}",
        "call its begin first",
    )
