"""Batches from loaders, generators and lists: their epochs, their position, and copies."""

import json

import numpy as np
import pytest

from fnn.errors import CheckpointCorruptError, ConfigError
from fnn.lab.fit.loader import BatchStream, is_stream


def batch(number):
    return np.full((2, 3), number, np.float32), np.array([number, number], np.int32)


def numbers(stream, count):
    """The numbers of the next batches, with None at the end of an epoch."""
    found = []
    for _ in range(count):
        _, targets = stream.take()
        found.append(int(targets[0]))
        if stream.end_epoch():
            found.append(None)
    return found


class Loader:
    """Batches 0, 1, 2, ..., the same in each pass, without a length."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (batch(number) for number in range(self.count))


class Seeking:
    """An iterator that returns and sets its position, as Grain's do."""

    def __init__(self, count):
        self.count = count
        self.at = 0
        self.read = 0  # batches in total

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == self.count:
            raise StopIteration
        self.at += 1
        self.read += 1
        return batch(self.at - 1)

    def get_state(self):
        return json.dumps({"at": self.at}).encode()

    def set_state(self, state):
        self.at = json.loads(state)["at"]


def endless():
    number = 0
    while True:
        yield batch(number)
        number += 1


def test_iterables_of_batches_are_streams_and_pairs_of_arrays_are_not():
    inputs, targets = batch(0)
    for arrays in ((inputs, targets), [inputs, targets], inputs):
        assert not is_stream(arrays)
    for stream in ([batch(0), batch(1)], endless(), Loader(1)):
        assert is_stream(stream)


@pytest.mark.parametrize(
    "source", [Loader(2), [batch(0), batch(1)]], ids=["without a length", "with one"]
)
def test_an_epoch_is_one_pass_by_default(source):
    assert numbers(BatchStream(source, None), 5) == [0, 1, None, 0, 1, None, 0]


def test_an_epoch_has_the_given_number_of_batches():
    assert numbers(BatchStream(endless(), 2), 4) == [0, 1, None, 2, 3, None]
    # Here the second epoch needs a new pass.
    assert numbers(BatchStream(Loader(3), 2), 4) == [0, 1, None, 2, 0, None]


def test_peek_takes_no_batch():
    stream = BatchStream(Loader(2), None)
    for _ in range(2):
        assert int(stream.peek()[1][0]) == 0
    assert numbers(stream, 2) == [0, 1, None]


def test_peek_loses_no_batch_of_a_loader_whose_iterators_share_a_position():
    class Shared:
        at = 0

        def __iter__(self):
            while self.at < 3:
                self.at += 1
                yield batch(self.at - 1)
            self.at = 0

    stream = BatchStream(Shared(), None)
    found = []
    for _ in range(7):
        stream.peek()
        found += numbers(stream, 1)
        stream.peek()
    assert found == [0, 1, 2, None, 0, 1, 2, None, 0]


@pytest.mark.parametrize("source", [iter([batch(0)]), []], ids=["iterator", "nothing"])
def test_a_source_that_is_used_up_raises(source):
    stream = BatchStream(source, None)
    message = "data: expected batches for every epoch, got an iterable that is used up"
    with pytest.raises(ConfigError, match=message):
        numbers(stream, 3)


def test_a_loader_may_refill_its_buffers():
    """On CPU, JAX may use the buffer of a NumPy array without a copy (jax issue 37830)."""
    inputs = np.zeros((64, 64), np.float32)
    targets = np.zeros(64, np.int32)

    def refilled():
        while True:
            inputs[:] += 1
            targets[:] += 1
            yield inputs, targets

    stream = BatchStream(refilled(), 3)
    taken = [stream.take() for _ in range(3)]
    assert [int(batch[0].max()) for batch in taken] == [1, 2, 3]
    assert [int(batch[1].min()) for batch in taken] == [1, 2, 3]


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("epoch_length", [3, None])
def test_the_position_of_a_loader_is_restored(steps, epoch_length):
    stream = BatchStream(Seeking(100), epoch_length)
    stream.peek()
    numbers(stream, steps)
    position = json.loads(json.dumps(stream.position()))
    expected = numbers(stream, 6)
    source = Seeking(100)
    restored = BatchStream(source, epoch_length)
    restored.peek()  # as fit does, to check the first batch
    assert restored.seek(position, steps)
    assert source.read == 1
    assert numbers(restored, 6) == expected


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_the_batches_of_a_loader_without_a_position_are_read_again(steps):
    stream = BatchStream(Loader(3), None)
    restored = BatchStream(Loader(3), None)
    numbers(stream, steps)
    position = json.loads(json.dumps(stream.position()))
    assert not restored.seek(position, steps)
    assert restored.epochs == stream.epochs
    assert numbers(restored, 5) == numbers(stream, 5)


def test_a_batch_that_is_not_a_pair_raises():
    stream = BatchStream([{"image": 0, "label": 1}], None)
    message = r"data batch: expected a pair .* got dict with image, label; give both"
    with pytest.raises(ConfigError, match=message):
        stream.peek()


class Recorder(Seeking):
    """A loader with a method that a checkpoint must not be able to call."""

    called = False

    def save_to_disk(self, state):
        self.called = True


@pytest.mark.parametrize("source", [Recorder(100), [batch(0), batch(1)]])
def test_a_position_cannot_name_a_method_to_call(source):
    stream = BatchStream(source, 3)
    state = {"json": {"json": "out"}}
    position = {"epochs": 1, "taken": 2, "put": "save_to_disk", "state": state}
    # Seeking's own state is bytes, and a list has no position.
    with pytest.raises((TypeError, ConfigError)):
        stream.seek(position, 5)
    assert not getattr(source, "called", False)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": -1},
        {"epochs": True},
        {"taken": "2"},
        {"taken": None},
        {"state": "text"},
        {"state": {"pickle": "gASV"}},
        {"state": {"json": {}, "base64": ""}},
    ],
    ids=str,
)
def test_a_wrong_position_raises(change):
    stream = BatchStream(Seeking(100), 3)
    position = stream.position() | change
    with pytest.raises(CheckpointCorruptError, match="expected the position of a stream"):
        stream.seek(position, 5)


def test_the_position_of_a_run_on_arrays_raises():
    stream = BatchStream(Seeking(100), 3)
    with pytest.raises(ConfigError, match="data: expected arrays, as in the saved run"):
        stream.seek({"examples": 100, "batch_size": 10}, 5)


@pytest.mark.parametrize("state", [{1: 2}, {"a": [{2: 3}]}, {"a": object()}, float("nan")])
def test_a_state_that_json_would_change_is_not_saved(state):
    source = Seeking(10)
    source.get_state = lambda: state
    assert BatchStream(source, 3).position() == {"epochs": 0, "taken": 0}


def test_none_is_a_wrong_batch_and_not_the_end():
    stream = BatchStream([batch(0), None, batch(1)], None)
    stream.take()
    with pytest.raises(ConfigError, match="data batch 1: expected"):
        stream.take()
