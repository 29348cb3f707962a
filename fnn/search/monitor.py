"""The monitor of a search: it shows and saves the results so far, and can stop the search."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from fnn.search.score import Score


class Saved(NamedTuple):
    """The saved results of a search that was interrupted.

    Attributes:
        notes: The JSON values of `Report.notes`.
        read: From a tree of arrays of the same shapes to the saved arrays of `Report.tree`.
    """

    notes: dict[str, Any]
    read: Callable[[Any], Any]


class Report(NamedTuple):
    """The results of a search so far.

    Attributes:
        score: The figure by which trials are compared.
        done: Number of units of work that are done.
        means: Mean scores over seeds of the trials that compete now, (n,).
        rows: The figures of the new results by name, (k,), for a log.
        notes: JSON values to save.
        tree: `()` returns the arrays to save. Valid until the search continues.
    """

    score: Score
    done: int
    means: np.ndarray
    rows: dict[str, np.ndarray]
    notes: dict[str, Any]
    tree: Callable[[], Any]


class Monitor(Protocol):
    """A receiver of the results of a search so far, which can save them and stop the search."""

    def begin(self, search: Mapping[str, Any], total: int, unit: str) -> Saved | None:
        """Return the saved results, or None.

        Args:
            search: Description of the search by JSON values. Saved results of another one raise.
            total: Number of units of work.
            unit: Name of a unit of work, such as trial.
        """

    def is_stopped(self) -> bool:
        """Return whether the search must end now, without the work that is not reported yet."""

    def report(self, report: Report) -> None:
        """Receive the results after some units of work."""


class NoMonitor:
    """The monitor of a search that is called without one."""

    def begin(self, search: Mapping[str, Any], total: int, unit: str) -> Saved | None:
        """Return None: nothing is saved."""
        return None

    def is_stopped(self) -> bool:
        """Return False."""
        return False

    def report(self, report: Report) -> None:
        """Do nothing."""
