"""Findings of a run under way: each once, within a share of the time of the run."""

import jax
import numpy as np
import pytest
from hand_made import curve

from fnn import data, diagnose, lab, nn, optim, train
from fnn.lab.fit import fault_watch
from fnn.lab.fit.fault_watch import FaultWatch
from fnn.lab.fit.history import HistoryBuffer
from fnn.lab.fit.input_clock import InputClock

CHANCE = float(np.log(10))
STEPS = 200
EPOCH = 10
digits = data.digits()
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.sgd(1e-9))


class Clock:
    """Seconds that advance as the test says."""

    now = 0.0

    def __call__(self):
        return self.now


def watch_of(clock, planned_steps=STEPS):
    params = train.start(jax.random.key(0), recipe, (8, 8, 1)).params
    return FaultWatch(
        recipe,
        params,
        digits.train,
        (10,),
        EPOCH,
        planned_steps,
        InputClock(clock),
        clock,
    )


def empty_history():
    shapes = {"loss": np.zeros(0), "finite": np.zeros(0, bool)}, {"valid_loss": np.array(0.0)}
    return HistoryBuffer(shapes, {}, [], 0, 0)


def add_epoch(history, losses):
    history.add_steps({"loss": losses, "finite": np.isfinite(losses)})
    history.end_epoch({"valid_loss": losses[-1]})


def reports(losses, seconds_per_epoch, watch_at=watch_of):
    """The findings that each epoch reports."""
    clock = Clock()
    watch = watch_at(clock)
    history = empty_history()
    found = []
    for part in np.split(losses, len(losses) // EPOCH):
        add_epoch(history, part)
        clock.now += seconds_per_epoch
        found.append(watch.update(history).ids)
    return found, watch.finish(history).ids


LEVEL = np.full(STEPS, CHANCE)
HEALTHY = curve(CHANCE, 0.05, STEPS)


def test_a_run_without_progress_is_reported_once_after_a_fifth_of_its_steps():
    found, at_end = reports(LEVEL, 60.0)
    assert found[:4] == [(), (), (), ("T13",)]
    assert not any(found[4:])
    assert at_end == ("T13",)


def test_a_healthy_run_and_one_without_planned_steps_report_nothing():
    assert not any(reports(HEALTHY, 60.0)[0])
    found, at_end = reports(LEVEL, 60.0, lambda clock: watch_of(clock, None))
    assert not any(found)
    assert at_end == ("T13",)


def test_examinations_take_at_most_a_hundredth_of_the_time():
    class Busy(Clock):
        """The time between two readings is 0.5 s, also that of an examination."""

        def __call__(self):
            self.now += 0.5
            return self.now

    clock = Busy()
    watch = watch_of(clock)
    history = empty_history()
    examined = []
    watch._examine = lambda history, planned: examined.append(clock.now) or diagnose.Findings()
    for part in np.split(LEVEL, STEPS // EPOCH):
        add_epoch(history, part)
        clock.now += 40.0
        watch.update(history)
    # 20 epochs, of which the number of steps grows 9 times by a quarter.
    assert 3 <= len(examined) <= 10
    assert 0.5 * len(examined) <= fault_watch.COST_SHARE * clock.now + 0.5


def test_an_epoch_of_a_millisecond_is_not_examined():
    found, at_end = reports(LEVEL, 1e-3)
    assert not any(found)
    assert at_end == ("T13",)


def test_a_resumed_run_does_not_report_again():
    clock = Clock()
    history = empty_history()
    add_epoch(history, LEVEL[:100])
    watch, other = watch_of(clock), watch_of(clock)
    watch.restore(history)
    clock.now = 100.0
    add_epoch(history, LEVEL[100:110])
    assert not watch.update(history)
    assert other.update(history)


@pytest.mark.slow
def test_fit_prints_and_logs_a_finding_once_and_returns_it(capsys, monkeypatch):
    monkeypatch.setattr(fault_watch, "COST_SHARE", 1e9)
    logged = []
    log = lab.Log(on_findings=lambda step, findings: logged.append((step, findings)))
    images, labels = (array[:256] for array in digits.train)
    options = {"epochs": 6, "batch_size": 64, "chunk": 4}
    key = jax.random.key(0)
    result = lab.fit(key, recipe, (images, labels), log=[log, lab.Log()], **options)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("!!")]
    inline, footer = lines
    assert "error T13" in footer
    assert "by step" not in footer
    ((step, findings),) = logged
    assert 4 <= step < 24
    assert f"by step {step}: error T13" in inline
    assert findings.ids == result.findings.ids == ("T13",)
    # The same run in one call has no findings, and the same figures.
    alone = train.run(key, recipe, (images, labels), epochs=6, batch_size=64)
    assert len(alone.findings) == 0
    np.testing.assert_array_equal(alone.history.loss, result.history.loss)
