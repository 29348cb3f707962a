"""Batches from loaders, generators and lists: their epochs, their place, and that nobody else's buffer is kept."""

import json

import numpy as np
import pytest

from fnn.errors import ConfigError
from fnn.lab.fit.loader import Stream, is_stream


def batch(number):
    return np.full((2, 3), number, np.float32), np.array([number, number], np.int32)


def numbers(stream, count):
    """The numbers of the next batches, with None at the end of an epoch."""
    found = []
    for _ in range(count):
        found.append(int(stream.pull()[1][0]))
        found += [None] * stream.ends()
    return found


class Loader:
    """Batches 0, 1, 2, ... of so many, each pass anew; without a length."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (batch(number) for number in range(self.count))


class Seeking:
    """An iterator that tells its place, as Grain's do."""

    def __init__(self, count):
        self.count, self.at, self.read = count, 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == self.count:
            raise StopIteration
        self.at, self.read = self.at + 1, self.read + 1
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


def test_what_a_stream_is():
    inputs, targets = batch(0)
    assert (
        not is_stream((inputs, targets))
        and not is_stream([inputs, targets])
        and not is_stream(inputs)
    )
    assert is_stream([batch(0), batch(1)]) and is_stream(endless()) and is_stream(Loader(1))


@pytest.mark.parametrize(
    "source", [Loader(2), [batch(0), batch(1)]], ids=["without a length", "with one"]
)
def test_an_epoch_is_one_pass(source):
    assert numbers(Stream(source, None), 5) == [0, 1, None, 0, 1, None, 0]


def test_an_epoch_is_so_many_batches_of_an_endless_source():
    assert numbers(Stream(endless(), 2), 4) == [0, 1, None, 2, 3, None]
    assert numbers(Stream(Loader(3), 2), 4) == [
        0,
        1,
        None,
        2,
        0,
        None,
    ]  # begun anew in the midst of an epoch


def test_a_look_ahead_takes_nothing():
    stream = Stream(Loader(2), None)
    assert int(stream.peek()[1][0]) == int(stream.peek()[1][0]) == 0
    assert numbers(stream, 2) == [0, 1, None]


@pytest.mark.parametrize("source", [iter([batch(0)]), []], ids=["iterator", "nothing"])
def test_a_source_that_is_used_up_is_told(source):
    stream = Stream(source, None)
    with pytest.raises(
        ConfigError, match="data: expected batches for every epoch, got an iterable that is used up"
    ):
        numbers(stream, 3)


def test_a_loader_may_refill_its_buffers():
    """On CPU, JAX may take a NumPy array's buffer for its own (jax issue 37830)."""
    inputs, targets = np.zeros((64, 64), np.float32), np.zeros(64, np.int32)

    def refilled():
        while True:
            inputs[:] += 1
            targets[:] += 1
            yield inputs, targets

    stream = Stream(refilled(), 3)
    kept = [stream.pull() for _ in range(3)]
    assert [int(one[0].max()) for one in kept] == [int(one[1].min()) for one in kept] == [1, 2, 3]


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("length", [3, None])
def test_the_place_of_a_source_that_tells_it_is_gone_back_to(steps, length):
    source = Seeking(100)
    stream = Stream(source, length)
    stream.peek()
    numbers(stream, steps)
    place = json.loads(json.dumps(stream.place()))
    wanted = numbers(stream, 6)
    again = Seeking(100)
    other = Stream(again, length)
    other.peek()  # as who wants to know what the batches are like
    assert other.go_to(place, steps) and again.read == 1
    assert numbers(other, 6) == wanted


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_the_batches_of_any_other_source_are_read_again(steps):
    stream, other = Stream(Loader(3), None), Stream(Loader(3), None)
    numbers(stream, steps)
    assert not other.go_to(json.loads(json.dumps(stream.place())), steps)
    assert other.epochs == stream.epochs
    assert numbers(other, 5) == numbers(stream, 5)


def test_a_batch_that_is_no_pair_is_told():
    with pytest.raises(
        ConfigError,
        match=r"data batch: expected a pair .* got a dict with image, label; make pairs",
    ):
        Stream([{"image": 0, "label": 1}], None).peek()
