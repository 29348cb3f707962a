"""Arguments that are accepted as a log, and several logs combined into one."""

import numpy as np
import pytest
from log_calls import write_step

from fnn import lab
from fnn.diagnose import Findings
from fnn.errors import ConfigError
from fnn.lab.logs import as_log

INFO = lab.RunInfo(0, ("loss",), {})


def recording(name, calls, fails=False):
    """A log that appends each call to a list."""

    def begin(info):
        calls.append((name, "begin"))
        if fails:
            raise OSError("full")

    return lab.Log(
        begin,
        lambda steps, figures: calls.append((name, *steps, *figures["loss"])),
        lambda step, train_state: calls.append((name, "on_state", step)),
        lambda: calls.append((name, "close")),
    )


def test_a_function_gets_the_figures_and_no_other_call():
    calls = []
    log = as_log("log", lambda step, figures: calls.append((step, figures)))
    log.begin(INFO)
    write_step(log, 3, {"loss": 0.5})
    log.on_state(3, None)
    log.close()
    assert calls == [(3, {"loss": 0.5})]


def test_a_function_is_called_once_for_each_step_of_a_write():
    calls = []
    log = as_log("log", lambda step, figures: calls.append((step, figures)))
    figures = {"loss": np.array([0.5, 0.25], np.float32), "count": np.array([1, 2])}
    log.write(np.array([3, 4]), figures)
    assert calls == [(3, {"loss": 0.5, "count": 1}), (4, {"loss": 0.25, "count": 2})]
    types = {type(value) for _, row in calls for value in row.values()}
    assert types == {float}


def test_a_log_is_returned_unchanged_and_none_does_nothing():
    log = recording("a", [])
    assert as_log("log", log) is log
    as_log("log", None).begin(INFO)


def test_findings_reach_the_logs_that_use_them():
    found = []
    log = lab.Log(on_findings=lambda step, findings: found.append((step, findings)))
    both = as_log("log", [lab.Log(), log])
    assert both.uses_findings
    assert not as_log("log", [lab.Log(), lab.Log()]).uses_findings
    both.on_findings(7, Findings())
    assert found == [(7, Findings())]


def test_several_logs_are_one():
    calls = []
    log = as_log("log", [recording("a", calls), recording("b", calls)])
    log.begin(INFO)
    write_step(log, 1, {"loss": 2.0})
    log.on_state(1, None)
    log.close()
    in_order = ("begin",), (1, 2.0), ("on_state", 1)
    expected = [(name, *call) for call in in_order for name in "ab"]
    assert calls == [*expected, ("b", "close"), ("a", "close")]


def test_if_one_log_fails_to_begin_the_others_are_closed():
    calls = []
    logs = [recording("a", calls), recording("b", calls, fails=True), recording("c", calls)]
    log = as_log("log", logs)
    with pytest.raises(OSError, match="full"):
        log.begin(INFO)
    assert calls == [("a", "begin"), ("b", "begin"), ("a", "close")]


@pytest.mark.parametrize(
    ("value", "where"),
    [("run.jsonl", "log"), (3, "log"), ([print, 3], r"log\[1\]")],
)
def test_another_value_raises(value, where):
    expected = where + r": expected a log, or a function \(step, figures\), got .*jsonl_log"
    with pytest.raises(ConfigError, match=expected):
        as_log("log", value)
