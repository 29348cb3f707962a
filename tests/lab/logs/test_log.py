"""What may be given as a log, and several of them as one."""

import numpy as np
import pytest
from telling import tell

from fnn import lab
from fnn.errors import ConfigError
from fnn.lab.logs import as_log

BEGUN = lab.Begun(0, ("loss",), {})


def recording(name, told, fails=False):
    def begin(begun):
        told.append((name, "begin"))
        if fails:
            raise OSError("full")

    return lab.Log(
        begin,
        lambda steps, figures: told.append((name, *steps, *figures["loss"])),
        lambda step, train_state: told.append((name, "look", step)),
        lambda: told.append((name, "close")),
    )


def test_a_function_is_told_the_figures_and_nothing_else():
    told = []
    log = as_log("log", lambda step, figures: told.append((step, figures)))
    log.begin(BEGUN)
    tell(log, 3, {"loss": 0.5})
    log.look(3, None)
    log.close()
    assert told == [(3, {"loss": 0.5})]


def test_a_function_is_told_step_by_step_what_a_log_is_told_at_once():
    told = []
    log = as_log("log", lambda step, figures: told.append((step, figures)))
    log.write(
        np.array([3, 4]), {"loss": np.array([0.5, 0.25], np.float32), "count": np.array([1, 2])}
    )
    assert told == [(3, {"loss": 0.5, "count": 1}), (4, {"loss": 0.25, "count": 2})]
    assert {type(value) for _, figures in told for value in figures.values()} == {float}


def test_a_log_is_itself_and_none_is_silent():
    log = recording("a", [])
    assert as_log("log", log) is log
    as_log("log", None).begin(BEGUN)


def test_several_logs_are_one():
    told = []
    log = as_log("log", [recording("a", told), recording("b", told)])
    log.begin(BEGUN)
    tell(log, 1, {"loss": 2.0})
    log.look(1, None)
    log.close()
    calls = ("begin",), (1, 2.0), ("look", 1)
    assert told == [(name, *call) for call in calls for name in "ab"] + [
        ("b", "close"),
        ("a", "close"),
    ]


def test_where_one_cannot_begin_the_others_are_closed():
    told = []
    log = as_log(
        "log", [recording("a", told), recording("b", told, fails=True), recording("c", told)]
    )
    with pytest.raises(OSError, match="full"):
        log.begin(BEGUN)
    assert told == [("a", "begin"), ("b", "begin"), ("a", "close")]


@pytest.mark.parametrize(
    ("value", "where"), [("run.jsonl", "log"), (3, "log"), ([print, 3], r"log\[1\]")]
)
def test_what_is_no_log_is_told(value, where):
    with pytest.raises(
        ConfigError,
        match=where + r": expected a log, or a function \(step, figures\), got .*jsonl_log",
    ):
        as_log("log", value)
