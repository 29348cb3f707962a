"""The time of waiting for a loader, on a clock that the test moves, and in a real run."""

import time

import jax
import numpy as np
import pytest

from fnn import data, lab, nn, optim, train
from fnn.lab.fit.input_clock import InputClock

digits = data.digits()
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.sgd(0.1))


def timed(batch, step, count=200):
    """The findings of steps of these seconds, of which the longer one determines the pace."""
    now = [0.0]
    clock = InputClock(lambda: now[0])
    for _ in range(count):
        is_probe = clock.is_probe
        now[0] += batch + step if is_probe else max(batch, step)
        clock.add_step(batch, step if is_probe else None)
    return clock.findings()


@pytest.mark.parametrize(
    ("batch", "step", "share"),
    [(0.1, 0.01, 0.9), (0.1, 0.04, 0.6), (0.1, 0.06, None), (0.01, 0.1, None), (0.1, 0.1, None)],
)
def test_the_device_waits_for_the_part_of_a_batch_that_is_longer_than_a_step(batch, step, share):
    found = timed(batch, step)
    if share is None:
        assert not found
        return
    (finding,) = found
    assert finding.id == "T20"
    assert finding.measured["share"] == pytest.approx(share)
    assert finding.measured["seconds per batch"] == pytest.approx(batch)
    assert finding.measured["seconds per step"] == pytest.approx(step)


def test_a_run_of_a_second_has_no_finding():
    assert not timed(1e-3, 1e-5)


def test_few_steps_are_computed_alone():
    clock = InputClock(lambda: 0.0)
    probed = []
    for step in range(1, 1001):
        if clock.is_probe:
            probed.append(step)
        clock.add_step(0.0, 0.0 if clock.is_probe else None)
    assert probed == [4, 8, 16, 32, 64, 128, 256, 512]


class Loader:
    """Batches of digits, each after a pause."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 20

    def __iter__(self):
        for begin in range(0, 1280, 64):
            time.sleep(self.seconds)
            yield tuple(np.asarray(array[begin : begin + 64]) for array in digits.train)


@pytest.mark.slow
def test_a_run_on_a_slow_loader_is_found_and_has_the_figures_of_a_fast_one():
    key = jax.random.key(0)
    slow = lab.fit(key, recipe, Loader(0.05), epochs=3, show=False)
    fast = lab.fit(key, recipe, Loader(0.0), epochs=3, show=False)
    assert "T20" in slow.findings.ids
    assert "T20" not in fast.findings.ids
    (finding,) = [one for one in slow.findings if one.id == "T20"]
    assert 0.5 < finding.measured["share"] <= 1
    np.testing.assert_array_equal(slow.history.loss, fast.history.loss)
