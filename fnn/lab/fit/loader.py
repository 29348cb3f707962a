"""Batches from anything that can be iterated over: a loader, a generator, a list."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from fnn.errors import ConfigError
from fnn.train.inputs import own_batch
from fnn.types import Data

# How loaders tell where they stand and are put there: Grain's iterators, and those of torchdata and datasets.
PROTOCOLS = (("get_state", "set_state"), ("state_dict", "load_state_dict"))


def is_stream(data: Any) -> bool:
    """Whether these are batches one after another, and not a pair (inputs, targets) of whole arrays."""
    is_pair = isinstance(data, tuple) or (
        isinstance(data, list) and all(hasattr(part, "dtype") for part in data)
    )
    return isinstance(data, Iterable) and not is_pair and not hasattr(data, "dtype")


class Stream:
    """The batches of an iterable, epoch after epoch; an epoch is so many batches, or one pass where nobody tells.

    What is given out is the stream's own: a loader may refill its buffers. Where the loader can tell its place, the
    place can be kept and gone back to; where not, the batches before it are read again.
    """

    def __init__(self, source: Iterable[Any], steps_per_epoch: int | None):
        self.source = source
        self.length = steps_per_epoch if steps_per_epoch is not None else _length(source)
        self.iterator: Iterator[Any] = iter(source)
        self.epochs = 0  # that are over
        self.taken = 0  # batches of the epoch that is not
        self.ahead: list[
            tuple[Data, dict[str, Any]]
        ] = []  # a batch that was looked at, and the place before it

    def peek(self) -> Data:
        """The next batch, which the next `pull` gives again; at the end of a pass, the first of another one."""
        return self.ahead[0][0] if self._looks_ahead() else _own(_first(iter(self.source)))

    def pull(self) -> Data:
        """The next batch of the epoch; of an epoch of so many batches also from the iterable begun anew."""
        if not self._looks_ahead():
            self.iterator = iter(self.source)
            batch = _own(_first(self.iterator))
        else:
            batch = self.ahead.pop()[0]
        self.taken += 1
        return batch

    def ends(self) -> bool:
        """Whether the epoch is over; if so, the next one begins."""
        is_over = self.taken == self.length if self.length is not None else not self._looks_ahead()
        if is_over:
            self.epochs, self.taken = self.epochs + 1, 0
        return is_over

    def _looks_ahead(self) -> bool:
        """Have the next batch at hand, if this pass has one."""
        if not self.ahead:
            place, batch = self.place(), next(self.iterator, None)
            if batch is not None:
                self.ahead.append((_own(batch), place))
        return bool(self.ahead)

    def place(self) -> dict[str, Any]:
        """Where the stream stands, for JSON: epochs, batches of this one and, if the loader tells it, its own place."""
        return (
            self.ahead[0][1]
            if self.ahead
            else {"epochs": self.epochs, "taken": self.taken, **self._loaders_place()}
        )

    def _loaders_place(self) -> dict[str, Any]:
        for holder in (self.iterator, self.source):
            for tell, put in PROTOCOLS:
                if hasattr(holder, tell) and hasattr(holder, put):
                    state = _to_json(getattr(holder, tell)())
                    return {} if state is None else {"put": put, "state": state}
        return {}

    def go_to(self, place: dict[str, Any], steps: int) -> bool:
        """Stand where so many steps were done: by the loader's own place if it was kept, else by reading anew.

        True if the loader was put there; False if its batches were read again, which gives the same ones only if the
        loader gives the same ones each time.
        """
        if "state" not in place:
            for _ in range(steps):
                self.pull()
                self.ends()
            return False
        self.ahead.clear()
        put, state = place["put"], _from_json(place["state"])
        if hasattr(self.iterator, put):
            getattr(self.iterator, put)(state)
        else:
            getattr(self.source, put)(state)
            self.iterator = iter(self.source)
        self.epochs, self.taken = place["epochs"], place["taken"]
        return True


def _first(iterator: Iterator[Any]) -> Any:
    batch = next(iterator, None)
    if batch is None:
        advice = "give a loader or a list, which begin anew, or an endless generator with steps_per_epoch="
        raise ConfigError("data", "batches for every epoch", "an iterable that is used up", advice)
    return batch


def _own(batch: Any) -> Data:
    return own_batch("data batch", batch)


def _length(source: Any) -> int | None:
    try:
        return len(source) or None
    except TypeError:
        return None


def _to_json(state: Any) -> Any:
    """The state for JSON; None if it is of more than JSON can hold, and so is not kept."""
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    try:
        return {"json": json.loads(json.dumps(state, allow_nan=False))}
    except (TypeError, ValueError):
        return None


def _from_json(state: dict[str, Any]) -> Any:
    return base64.b64decode(state["base64"]) if "base64" in state else state["json"]
