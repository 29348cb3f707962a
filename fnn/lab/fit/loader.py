"""Batches from any iterable: a loader, a generator or a list."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fnn.errors import ConfigError
from fnn.train.arrays import validate_data
from fnn.types import Data

# Methods by which loaders return and set their position: Grain's iterators have the first pair,
# those of torchdata and datasets the second.
POSITION_METHODS = (
    ("get_state", "set_state"),
    ("state_dict", "load_state_dict"),
)

END = object()  # in place of a batch after the last one; a loader may return None by mistake


def is_stream(data: Any) -> bool:
    """Return whether data is an iterable of batches, and not a pair (inputs, targets) of arrays."""
    # A dict of arrays is a batch without its targets, or a wrong pair.
    if hasattr(data, "dtype") or isinstance(data, Mapping):
        return False
    is_pair = isinstance(data, tuple)
    if isinstance(data, list):
        is_pair = all(hasattr(part, "dtype") for part in data)
    return isinstance(data, Iterable) and not is_pair


class BatchStream:
    """The batches of an iterable, epoch after epoch.

    Batches are copied, because a loader may refill its buffers. If the loader can return and set
    its position, the position can be saved and restored. If not, the batches before it are read
    again.

    Args:
        source: The iterable. Where an epoch needs more than one pass, it is iterated over again.
        steps_per_epoch: Number of batches of an epoch, or None for one pass over the source.
        validate: (name of the batch, batch) -> arrays of JAX; raises an error for a wrong batch.

    Attributes:
        epoch_length: Number of batches of an epoch, or None where it is not known.
        epochs: Number of epochs that are over.
        taken: Number of batches taken from the current epoch.
    """

    def __init__(
        self,
        source: Iterable[Any],
        steps_per_epoch: int | None,
        validate: Callable[[str, Any], Data] = validate_data,
    ):
        self.epoch_length = steps_per_epoch
        if steps_per_epoch is None:
            self.epoch_length = _length(source)
        self.epochs = 0
        self.taken = 0
        self._source = source
        self._validate = validate
        self._iterator: Iterator[Any] = iter(source)
        # A batch that was read ahead, and the position before it.
        self._ahead: tuple[Data, dict[str, Any]] | None = None

    def peek(self) -> Data:
        """Return the next batch without taking it; at the end of a pass, the first of a new one."""
        self._read_ahead()
        if self._ahead is not None:
            return self._ahead[0]
        return self._convert(_first(iter(self._source)))

    def take(self) -> Data:
        """Take the next batch of the epoch, if need be from a new pass over the source."""
        self._read_ahead()
        if self._ahead is not None:
            batch = self._ahead[0]
            self._ahead = None
        else:
            self._iterator = iter(self._source)
            batch = self._convert(_first(self._iterator))
        self.taken += 1
        return batch

    def end_epoch(self) -> bool:
        """Return whether the epoch is over; if so, the next one begins."""
        if self.epoch_length is not None:
            is_over = self.taken == self.epoch_length
        else:
            self._read_ahead()
            is_over = self._ahead is None
        if is_over:
            self.epochs += 1
            self.taken = 0
        return is_over

    def position(self) -> dict[str, Any]:
        """Return the position for JSON: epochs, batches of the current one, and the loader's."""
        # The batch that was read ahead is not taken yet.
        if self._ahead is not None:
            return self._ahead[1]
        counts = {"epochs": self.epochs, "taken": self.taken}
        return counts | self._loader_position()

    def seek(self, position: dict[str, Any], steps: int) -> bool:
        """Go to a position by setting that of the loader, else by reading all batches before it.

        Args:
            position: From `position`.
            steps: Number of batches that were taken before it.

        Returns:
            True if the position of the loader was set. False if batches were read again, which
            gives the same ones only if the loader does so.
        """
        if "state" not in position:
            # The loader has no position. It is read from its beginning.
            for _ in range(steps):
                self.take()
                self.end_epoch()
            return False
        # A batch that was read ahead is of the old position.
        self._ahead = None
        set_position = position["put"]
        state = _from_json(position["state"])
        # Either the iterator has the position, or the source that makes iterators.
        if hasattr(self._iterator, set_position):
            getattr(self._iterator, set_position)(state)
        else:
            getattr(self._source, set_position)(state)
            self._iterator = iter(self._source)
        self.epochs = position["epochs"]
        self.taken = position["taken"]
        return True

    def _read_ahead(self) -> None:
        """Read the next batch of this pass, if there is one and it was not read yet."""
        if self._ahead is not None:
            return
        position = self.position()
        batch = next(self._iterator, END)
        if batch is not END:
            self._ahead = (self._convert(batch), position)

    def _convert(self, batch: Any) -> Data:
        # A wrong batch of a long stream is found by its index in the epoch.
        where = f"data batch {self.taken}" if self.taken else "data batch"
        return self._validate(where, batch)

    def _loader_position(self) -> dict[str, Any]:
        """Return the loader's position and the method to set it; {} if it has none for JSON."""
        for holder in (self._iterator, self._source):
            for get, put in POSITION_METHODS:
                if hasattr(holder, get) and hasattr(holder, put):
                    state = _to_json(getattr(holder, get)())
                    return {} if state is None else {"put": put, "state": state}
        return {}


def _first(iterator: Iterator[Any]) -> Any:
    batch = next(iterator, END)
    if batch is END:
        raise ConfigError(
            "data",
            "batches for every epoch",
            "an iterable that is used up",
            "give a loader or a list, which can be iterated over again, "
            "or an endless generator with steps_per_epoch=",
        )
    return batch


def _length(source: Any) -> int | None:
    """Return the number of batches of a pass, or None where the source has no length."""
    try:
        # A length of 0 is taken for unknown: reading the first batch then raises the error.
        return len(source) or None
    except TypeError:
        return None


def _to_json(state: Any) -> Any:
    """Encode a state for JSON, or return None if JSON cannot hold it."""
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode()}
    # After a round trip the state equals the one that is read from a checkpoint.
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return {"json": json.loads(text)}


def _from_json(state: dict[str, Any]) -> Any:
    if "base64" in state:
        return base64.b64decode(state["base64"])
    return state["json"]
