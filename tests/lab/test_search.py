"""lab.search: the trials of the search, saved, resumed to the last bit, logged and interrupted."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from fnn import lab, nn, optim, search, train
from fnn.errors import ArgumentError, ConfigError
from fnn.search import execution

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
DATA = (X[:40], Y[:40])
KEY = jax.random.key(0)
RUN = {"epochs": 2, "batch_size": 10, "valid": (X[40:], Y[40:]), "trials": 8, "lanes": 4, "keep": 2}
SPACE = train.recipe(
    nn.chain(nn.dense(3), nn.tanh(), nn.dense(2)), optim.momentum(search.log_uniform(1e-3, 1))
)


def run(**changes):
    return lab.search(search.random, KEY, SPACE, DATA, **{**RUN, "show": False, **changes})


def same(one, other):
    """Whether two results are equal to the last bit."""
    assert one.recipes == other.recipes
    np.testing.assert_array_equal(one.scores, other.scores)
    for name, rows in one.histories.items():
        np.testing.assert_array_equal(rows, other.histories[name])
    assert one.kept.keys() == other.kept.keys()
    for index, states in one.kept.items():
        for a, b in zip(jax.tree.leaves(states), jax.tree.leaves(other.kept[index]), strict=True):
            assert (a == b).all()


def test_the_trials_are_those_of_the_search():
    same(run(), search.random(KEY, SPACE, DATA, **RUN))


class Crash(Exception):
    pass


def crash_after(batches, monkeypatch):
    """Raise Crash after a number of batches were saved."""
    count = []

    def collect(*arguments):
        if len(count) == batches:
            raise Crash
        count.append(1)
        return original(*arguments)

    original = execution._collect
    monkeypatch.setattr(execution, "_collect", collect)


def test_a_search_that_crashed_is_resumed_to_the_last_bit(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        crash_after(1, patch)
        with pytest.raises(Crash):
            run(checkpoints=tmp_path)
    assert lab.read(tmp_path).step == 4
    same(run(checkpoints=tmp_path, resume=True), run())
    # A finished search is read, and trains nothing.
    whole = run()
    with monkeypatch.context() as patch:
        crash_after(0, patch)
        same(run(checkpoints=tmp_path, resume=True), whole)


def test_resume_begins_where_nothing_is_saved(tmp_path):
    same(run(checkpoints=tmp_path, resume=True), run())


def test_another_search_is_refused(tmp_path):
    run(checkpoints=tmp_path)
    space = SPACE.replace(optimizer=optim.momentum(search.log_uniform(1e-3, 2)))
    with pytest.raises(ConfigError, match=r"search space: .*0\.001, 1\).* got .*0\.001, 2\)"):
        lab.search(
            search.random, KEY, space, DATA, **RUN, checkpoints=tmp_path, resume=True, show=False
        )
    with pytest.raises(ConfigError, match="search data"):
        other = (X[:40] + 1, Y[:40])
        lab.search(
            search.random, KEY, SPACE, other, **RUN, checkpoints=tmp_path, resume=True, show=False
        )
    with pytest.raises(ConfigError, match=r"search epochs: .* got 3"):
        run(checkpoints=tmp_path, resume=True, epochs=3)
    with pytest.raises(ConfigError, match=r"give resume=True"):
        run(checkpoints=tmp_path)


def test_each_trial_is_logged(tmp_path):
    trials = run(log=lab.jsonl_log(tmp_path / "log.jsonl"))
    rows = lab.read_log(tmp_path / "log.jsonl")
    np.testing.assert_array_equal(rows["trial"], np.arange(8))
    np.testing.assert_allclose(rows["valid_loss"], trials.mean_scores)
    rates = trials.hyperparameters["optimizer.rate"]
    np.testing.assert_allclose(rows["optimizer.rate"], rates)


def test_progress_names_best_and_median(capsys, monkeypatch):
    monkeypatch.setattr("fnn.lab.console.progress.SECONDS_PER_LINE", 0)
    trials = run(show=True)
    text = capsys.readouterr().err
    assert "8/8 trials" in text
    assert f"best {trials.best.score:.4g}" in text
    assert f"median {np.median(trials.mean_scores):.4g}" in text


def test_ctrl_c_returns_the_trials_that_are_done(monkeypatch):
    def collect(*arguments):
        original(*arguments)
        signal.raise_signal(signal.SIGINT)

    original = execution._collect
    with monkeypatch.context() as patch:
        patch.setattr(execution, "_collect", collect)
        trials = run()
    assert len(trials) == 4
    whole = search.random(KEY, SPACE, DATA, **(RUN | {"trials": 4}))
    np.testing.assert_array_equal(trials.scores, whole.scores)


def test_wrong_arguments_raise_an_error():
    with pytest.raises(ConfigError, match="checkpoints to resume from"):
        run(resume=True)
    with pytest.raises(ArgumentError, match="trial"):
        run(trial=3)
    with pytest.raises(ConfigError, match=r"takes search\.random and search\.grid"):
        lab.search(search.halving, KEY, SPACE, DATA, **RUN | {"epochs": 3}, show=False)
    with pytest.raises(ConfigError, match="show"):
        run(show="yes")


PROGRAM = """
import sys
sys.path.insert(0, {here})
from test_search import DATA, KEY, RUN, SPACE
from fnn import lab, search
lab.search(search.random, KEY, SPACE, DATA, **RUN | {{"trials": 400, "epochs": 20}},
           checkpoints=sys.argv[1], resume=True, show=False)
"""


@pytest.mark.slow
def test_a_killed_search_is_resumed_to_the_last_bit(tmp_path):
    program = PROGRAM.format(here=repr(str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while not list(tmp_path.glob("step_*/COMMIT")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    arguments = RUN | {"trials": 400, "epochs": 20}
    assert lab.read(tmp_path).step < 400
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    saved = lab.read(tmp_path)
    whole = search.random(KEY, SPACE, DATA, **arguments)
    np.testing.assert_allclose(saved.leaves["scores"], whole.scores, rtol=1e-4)
