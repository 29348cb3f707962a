"""The launcher of several processes, with scripts that do not use JAX."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fnn.lab import launch

SHOW = """
import os, sys
print("line of", os.environ["JAX_PROCESS_ID"], "of", os.environ["JAX_NUM_PROCESSES"], *sys.argv[1:])
"""
WAIT = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    """Spare the time in which processes may end with messages of their own."""
    monkeypatch.setattr(launch, "OWN_END_SECONDS", 0.1)


@pytest.fixture
def script(tmp_path):
    """Write a script, and return its path."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def run(*arguments):
    """Run the command, and return its exit code, output and errors."""
    # The handlers of signals belong to the process of the command.
    run = launch.Run(2)
    run.start([sys.executable, *arguments], 1)
    return run.wait()


def only_in(process, action, other=WAIT):
    """A script that acts in one of the processes."""
    return f"""
import os, signal, sys, time
if os.environ["JAX_PROCESS_ID"] == "{process}":
    {action}
else:
    {other}
"""


def test_each_process_knows_its_number_and_its_devices(script, capfd):
    code = launch.main(["-n", "2", "--cpu-devices", "3", script(SHOW), "--lr", "0.1"])
    out = capfd.readouterr().out
    assert code == 0
    assert "line of 0 of 2 --lr 0.1\n" in out
    assert "[1] line of 1 of 2 --lr 0.1\n" in out


@pytest.mark.parametrize(
    ("action", "text", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL", 137),
        ("sys.exit(3)", "ended with code 3", 3),
        ("raise ValueError('wrong')", "ended with code 1", 1),
    ],
    ids=["killed", "exit", "error"],
)
def test_the_end_of_one_process_ends_the_others(script, capfd, action, text, code):
    began = time.monotonic()
    assert run(script(only_in(1, action))) == code
    err = capfd.readouterr().err
    assert "launch: process 1 (pid " in err and f"{text}; ending process 0" in err
    assert time.monotonic() - began < 15


def test_a_stopped_process_ends_the_others(script, capfd, monkeypatch):
    monkeypatch.setattr(launch, "STOPPED_SECONDS", 0.3)
    assert run(script(only_in(0, "os.kill(os.getpid(), signal.SIGSTOP)"))) == 1
    err = capfd.readouterr().err
    assert "launch: process 0 (pid " in err
    assert "was stopped by a signal, as by SIGSTOP; ending process 1" in err


def test_a_stopped_process_is_the_cause_of_aborts_of_others(script, capfd):
    """JAX aborts a process that has no sign of life from another one."""
    abort = "time.sleep(0.5); os.abort()"
    run(script(only_in(0, abort, "os.kill(os.getpid(), signal.SIGSTOP)")))
    err = capfd.readouterr().err
    assert "launch: process 1 (pid " in err and "was stopped by a signal" in err


def test_a_killed_process_is_the_cause_of_errors_of_others(script, capfd):
    """Both are found at the same time."""
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    started = launch.Run(2)
    started.start([sys.executable, script(only_in(1, kill, "sys.exit(1)"))], 1)
    for worker in started._workers:
        os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)
    assert started.wait() == 137
    assert "process 1 " in capfd.readouterr().err


def test_signals_are_passed_on(script, capfd):
    text = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(60)
"""
    started = launch.Run(2)
    started.start([sys.executable, script(text)], 1)
    # As after Ctrl-C, when each process has its handler.
    timer = threading.Timer(1.0, started.pass_on, (signal.SIGINT, None))
    timer.start()
    assert started.wait() == 0
    timer.join()


@pytest.mark.slow
def test_the_processes_end_with_a_launcher_that_is_killed(script, tmp_path):
    """`connect` watches a pipe that the launcher holds."""
    text = f"""
import os, time
from pathlib import Path
from fnn import lab
lab.connect()
Path({str(tmp_path)!r}, os.environ["JAX_PROCESS_ID"]).write_text(str(os.getpid()))
time.sleep(60)
"""
    command = [sys.executable, "-m", "fnn.lab.launch", "-n", "1", "--cpu-devices", "1"]
    started = subprocess.Popen([*command, script(text)], stderr=subprocess.DEVNULL)
    noted = tmp_path / "0"
    while not (noted.exists() and noted.read_text()):
        time.sleep(0.1)
    started.kill()
    started.wait()
    pid = int(noted.read_text())
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError("the process is still there")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_wrong_number_of_processes_raises(number, capsys):
    with pytest.raises(SystemExit):
        launch.main(["-n", number, "script.py"])
    assert "argument -n/--processes" in capsys.readouterr().err
