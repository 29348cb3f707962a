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

    def begin(
        self,
        search: Mapping[str, Any],
        total: int,
        unit: str,
    ) -> Saved | None:
        """Return the saved results, or None.

        Args:
            search: Description of the search by JSON values. Saved results of another one raise.
            total: Number of units of work.
            unit: Name of a unit of work, such as trial.
        """

    def allowance(self) -> int:
        """Return the number of epochs to train before the next question.

        0 ends the search now, without the work that is not reported yet.
        """

    def report(self, report: Report) -> None:
        """Receive the results after some units of work."""
