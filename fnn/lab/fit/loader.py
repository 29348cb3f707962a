"""Batches from any iterable: a loader, a generator or a list."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fnn.errors import CheckpointCorruptError, ConfigError
from fnn.train.arrays import validate_data
from fnn.types import Data

# Methods by which loaders return and set their position: Grain's iterators have the first pair,
# those of torchdata and datasets the second.
POSITION_METHODS = (
    ("get_state", "set_state"),
    ("state_dict", "load_state_dict"),
)
END = object()  # in place of a batch after the last one; None would be a wrong batch


def is_stream(data: Any) -> bool:
    """Return whether data is an iterable of batches, and not a pair (inputs, targets) of arrays."""
    # A dict of arrays is a batch without its targets, or a wrong pair.
    if hasattr(data, "dtype") or isinstance(data, Mapping):
        return False
    is_pair = isinstance(data, tuple)
    if isinstance(data, list):
        is_pair = all(hasattr(part, "dtype") for part in data)
    return isinstance(data, Iterable) and not is_pair


class PositionMethods(NamedTuple):
    """An object with a position, and its methods to return and to set it."""

    holder: Any
    get: Callable[[], Any]
    put: Callable[[Any], Any]


class BatchStream:
    """The batches of an iterable, epoch after epoch.

    Batches are copied, because a loader may refill its buffers. If the loader can return and set
    its position, the position can be saved and restored. If not, the batches before it are read
    again.

    Args:
        source: The iterable. Where an epoch needs more than one pass, it is iterated over again.
        steps_per_epoch: Number of batches of an epoch, or None for one pass over the source.
        validate: (name of the batch, batch) -> arrays of JAX; raises an error for a wrong batch.
        join: (name of the batch, fetch) -> the batch whose part fetch() returns, None at the end of
            a pass; None where fetch() returns whole batches.

    Attributes:
        epoch_length: Number of batches of an epoch, or None where it is not known.
        epochs: Number of epochs that are over.
        taken: Number of batches taken from the current epoch.
        position_before: The position before the batch that was taken last.
    """

    def __init__(
        self,
        source: Iterable[Any],
        steps_per_epoch: int | None,
        validate: Callable[[str, Any], Data] = validate_data,
        join: Callable[[str, Callable[[], Data | None]], Data | None] | None = None,
    ):
        self.epoch_length = steps_per_epoch
        if steps_per_epoch is None:
            self.epoch_length = _length(source)
        self.epochs = 0
        self.taken = 0
        self.position_before: dict[str, Any] = {}
        self._source = source
        self._validate = validate
        self._join = join
        self._iterator: Iterator[Any] = iter(source)
        # A batch that was read ahead, and the position before it.
        self._ahead: tuple[Data, dict[str, Any]] | None = None
        self._failed_at: dict[str, Any] | None = None
        # The iterator of the next pass, its first batch, and the loader's position before it.
        self._next_pass: tuple[Iterator[Any], Data, dict[str, Any]] | None = None

    def peek(self) -> Data:
        """Return the next batch without taking it; at the end of a pass, the first of a new one."""
        self._read_ahead()
        if self._ahead is not None:
            return self._ahead[0]
        if self._next_pass is None:
            position = self._loader_position()
            iterator = iter(self._source)
            # Some loaders keep the position of all their iterators: the batch is not read again.
            self._next_pass = iterator, self._first(iterator), position
        return self._next_pass[1]

    def take(self) -> Data:
        """Take the next batch of the epoch, if need be from a new pass over the source."""
        self._read_ahead()
        self.position_before = self.position()
        if self._ahead is not None:
            batch = self._ahead[0]
            self._ahead = None
        elif self._next_pass is not None:
            self._iterator, batch, _ = self._next_pass
            self._next_pass = None
        else:
            self._iterator = iter(self._source)
            batch = self._first(self._iterator)
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
        if self._failed_at is not None:
            return self._failed_at
        counts = {"epochs": self.epochs, "taken": self.taken}
        if self._next_pass is not None:
            return counts | self._next_pass[2]
        return counts | self._loader_position()

    def seek(self, position: dict[str, Any], steps: int) -> bool:
        """Go to a position by setting that of the loader, else by reading all batches before it.

        Args:
            position: From `position`; {} if it was not saved.
            steps: Number of batches that were taken before it.

        Returns:
            True if the position of the loader was set. False if batches were read again, which
            gives the same ones only if the loader does so.

        Raises:
            CheckpointCorruptError: The position is not one that `position` returns.
            ConfigError: The position is that of a loader, and this loader cannot set it; or it is
                that of a run on arrays.
        """
        if position:
            _expect_position(position)
        if "state" not in position:
            # The loader has no position. It is read from its beginning.
            for _ in range(steps):
                self.take()
                self.end_epoch()
            return False
        # The methods are those of this loader: a checkpoint holds data, never a name to call.
        found = self._position_methods()
        if found is None:
            methods = " or ".join(put for _, put in POSITION_METHODS)
            raise ConfigError(
                "data",
                f"a loader with {methods}, as in the saved run",
                type(self._source).__name__,
                "give the loader of the saved run",
            )
        # A batch that was read ahead is of the old position.
        self._ahead = None
        self._next_pass = None
        holder, _, set_position = found
        set_position(_from_json(position["state"]))
        if holder is self._source:
            self._iterator = iter(self._source)
        self.epochs = position["epochs"]
        self.taken = position["taken"]
        return True

    def _read_ahead(self) -> None:
        """Read the next batch of this pass, if there is one and it was not read yet."""
        if self._ahead is not None:
            return
        position = self.position()
        try:
            batch = self._fetch(self._iterator)
            if batch is not None:
                self._ahead = (batch, position)
        except Exception:
            # The run resumes at the batch that failed, also if the loader has gone past it.
            self._failed_at = position
            raise

    def _fetch(self, iterator: Iterator[Any]) -> Data | None:
        """Return the next batch of a pass as arrays of JAX, or None at its end."""
        # A wrong batch of a long stream is found by its index in the epoch.
        where = f"data batch {self.taken}" if self.taken else "data batch"

        def fetch() -> Data | None:
            batch = next(iterator, END)
            return None if batch is END else self._validate(where, batch)

        return fetch() if self._join is None else self._join(where, fetch)

    def _first(self, iterator: Iterator[Any]) -> Data:
        """Return the first batch of a pass."""
        batch = self._fetch(iterator)
        if batch is None:
            raise ConfigError(
                "data",
                "batches for every epoch",
                "an iterable that is used up",
                "give a loader or a list, which can be iterated over again, "
                "or an endless generator with steps_per_epoch=",
            )
        return batch

    def _position_methods(self) -> PositionMethods | None:
        """Return the object that has a position, and its methods; None if there is none."""
        # Either the iterator has the position, or the source that makes iterators.
        for holder in (self._iterator, self._source):
            for get, put in POSITION_METHODS:
                if hasattr(holder, get) and hasattr(holder, put):
                    return PositionMethods(holder, getattr(holder, get), getattr(holder, put))
        return None

    def _loader_position(self) -> dict[str, Any]:
        """Return the loader's position; {} if it has none that JSON can hold."""
        found = self._position_methods()
        state = None if found is None else _to_json(found.get())
        return {} if state is None else {"state": state}


def _expect_position(position: dict[str, Any]) -> None:
    """Raise an error unless a position has the form of `BatchStream.position`."""
    if "epochs" not in position:
        raise ConfigError(
            "data",
            "arrays, as in the saved run",
            "an iterable of batches",
            "give the data of the saved run",
        )
    counts = [position.get(name) for name in ("epochs", "taken")]
    is_valid = all(type(count) is int and count >= 0 for count in counts)
    state = position.get("state")
    if state is not None:
        is_valid &= isinstance(state, dict) and list(state) in (["base64"], ["json"])
    if not is_valid:
        raise CheckpointCorruptError(
            "checkpoint",
            "the position of a stream of batches",
            position,
            "resume with the data of the saved run, or from an earlier checkpoint",
        )


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
    # JSON turns other names into strings, and the loader would not find them.
    return {"json": json.loads(text)} if _has_names(state) else None


def _has_names(state: Any) -> bool:
    """Return whether the keys of all dicts in a state are strings."""
    if isinstance(state, dict):
        parts = list(state.values())
        return all(isinstance(name, str) for name in state) and all(map(_has_names, parts))
    return not isinstance(state, list | tuple) or all(map(_has_names, state))


def _from_json(state: dict[str, Any]) -> Any:
    if "base64" in state:
        return base64.b64decode(state["base64"])
    return state["json"]
