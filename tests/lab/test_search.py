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


@pytest.mark.slow
def test_the_trials_are_those_of_the_search():
    same(run(), search.random(KEY, SPACE, DATA, **RUN))


class Crash(Exception):
    pass


def crash_after(count, monkeypatch):
    """Save after each report, and raise Crash at the next one after `count` of them."""
    reports = []

    def report(self, *arguments):
        if len(reports) == count:
            raise Crash
        reports.append(1)
        original(self, *arguments)

    module = sys.modules["fnn.lab.search"]
    original = module._Monitor.report
    monkeypatch.setattr(module, "SAVE_SHARE", np.inf)
    monkeypatch.setattr(module._Monitor, "report", report)


@pytest.mark.slow
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


OTHERS = {
    # 9 trials by 1 epoch, 3 by 2, 1 by 6, as 3 + 1 + 1 batches; one is trained of the first stage.
    "halving": (search.halving, {"epochs": 9, "trials": 9, "lanes": 3, "seeds": 2}, 1, 3),
    # The last batch of the first stage, after which trials stop.
    "halving, end of a stage": (search.halving, {"epochs": 9, "trials": 9, "lanes": 3}, 3, 9),
    "halving, second stage": (search.halving, {"epochs": 9, "trials": 9, "lanes": 2}, 6, 13),
    "halving, early stopping": (search.halving, {"epochs": 9, "trials": 9, "lanes": 2}, 6, 11),
    "hyperband": (search.hyperband, {"epochs": 9, "lanes": 4}, 7, 33),
    "population": (
        search.population, {"epochs": 4, "interval": 1, "members": 4, "lanes": 4}, 2, 2
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_searches_that_crashed_are_resumed_to_the_last_bit(name, tmp_path, monkeypatch):
    function, options, reports, step = OTHERS[name]
    options = {"batch_size": 10, "valid": RUN["valid"], "keep": 2, **options}
    space = SPACE
    if "early" in name:
        # Of two structures, and with the weights of the best epoch in the train state.
        network = nn.chain(nn.dense(search.choice(2, 3)), nn.tanh(), nn.dense(2))
        space = SPACE.replace(network=network, early_stopping=train.early_stopping(1))
    whole = function(KEY, space, DATA, **options)
    log = lab.jsonl_log(tmp_path / "log.jsonl")
    saved = {"checkpoints": tmp_path / "saved", "resume": True, "log": log, "show": False}
    with monkeypatch.context() as patch:
        crash_after(reports, patch)
        with pytest.raises(Crash):
            lab.search(function, KEY, space, DATA, **options, **saved)
    assert lab.read(tmp_path / "saved").step == step
    # A crash can lose lines.
    lines = (tmp_path / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:-1]))
    resumed = lab.search(function, KEY, space, DATA, **options, **saved)
    same(resumed, whole)
    np.testing.assert_array_equal(resumed.epochs, whole.epochs)
    if name == "population":
        np.testing.assert_array_equal(resumed.parents, whole.parents)
        assert_log_of_members(lab.read_log(tmp_path / "log.jsonl"), whole)
    else:
        assert_log_of_parts(lab.read_log(tmp_path / "log.jsonl"), whole)
    with monkeypatch.context() as patch:
        crash_after(0, patch)
        same(lab.search(function, KEY, space, DATA, **options, **saved), whole)


def assert_log_of_members(rows, whole):
    np.testing.assert_array_equal(rows["round"], np.repeat(np.arange(1, 5), 4))
    np.testing.assert_allclose(rows["valid_loss"], whole.round_scores.ravel())
    np.testing.assert_array_equal(rows["parent"], whole.parents.ravel())


def assert_log_of_parts(rows, whole):
    # Each trial once at each rung that it has reached.
    assert len(rows["trial"]) == sum((whole.epochs >= level).sum() for level in (1, 3, 9))
    last = dict(zip(rows["trial"], rows["valid_loss"], strict=True))
    np.testing.assert_allclose([last[trial] for trial in range(len(whole))], whole.mean_scores)


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
    with pytest.raises(ConfigError, match=r"search trials: .* got 4"):
        run(checkpoints=tmp_path, resume=True, trials=4)
    with pytest.raises(ConfigError, match=r"search function: .*'random', got 'halving'"):
        options = {**RUN, "epochs": 3, "checkpoints": tmp_path, "resume": True}
        lab.search(search.halving, KEY, SPACE, DATA, **options)
    with pytest.raises(ConfigError, match=r"give resume=True"):
        run(checkpoints=tmp_path)


def test_a_space_whose_function_has_changed_is_refused(tmp_path):
    def searched(units):
        network = nn.chain(nn.dense(units), nn.tanh(), nn.dense(2))
        space = search.space(
            lambda rate: train.recipe(network, optim.sgd(rate)), rate=search.uniform(0.1, 1)
        )
        options = RUN | {"checkpoints": tmp_path, "resume": True, "show": False}
        return lab.search(search.random, KEY, space, DATA, **options)

    searched(3)
    with pytest.raises(ConfigError, match=r"search recipe: expected that of the saved search"):
        searched(4)


def test_objects_of_other_processes_are_the_same_search(tmp_path):
    class Scale:
        def __call__(self, x):
            return 2 * x

    # Each has an address in its text.
    for prepare in (Scale(), Scale()):
        space = SPACE.replace(prepare=prepare)
        options = RUN | {"checkpoints": tmp_path, "resume": True, "show": False}
        lab.search(search.random, KEY, space, DATA, **options)


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


@pytest.fixture
def interrupted(monkeypatch):
    """A signal comes after the first report."""

    def report(*arguments):
        original(*arguments)
        signal.raise_signal(signal.SIGINT)

    monitor = sys.modules["fnn.lab.search"]._Monitor
    original = monitor.report
    monkeypatch.setattr(monitor, "report", report)


def test_ctrl_c_returns_the_trials_that_are_done(interrupted):
    trials = run()
    assert len(trials) == 4
    whole = search.random(KEY, SPACE, DATA, **(RUN | {"trials": 4}))
    np.testing.assert_array_equal(trials.scores, whole.scores)


@pytest.mark.parametrize("name", ["halving", "population"])
def test_ctrl_c_returns_the_parts_that_are_done(name, interrupted):
    function, options, *_ = OTHERS[name]
    options = {"batch_size": 10, "valid": RUN["valid"], "keep": 2, **options}
    trials = lab.search(function, KEY, SPACE, DATA, **options, show=False)
    assert trials.epochs.tolist() == [1] * len(trials)
    assert len(trials) == {"halving": 3, "population": 4}[name]
    assert len(trials.kept) == 2 and trials.best.train_states[0].step == 4
    assert trials.summary()


def test_wrong_arguments_raise_an_error():
    with pytest.raises(ConfigError, match="checkpoints to resume from"):
        run(resume=True)
    with pytest.raises(ArgumentError, match="trial"):
        run(trial=3)
    with pytest.raises(ConfigError, match=r"one of random, grid, .*, got cross_validate"):
        lab.search(search.cross_validate, KEY, SPACE, DATA, epochs=3, batch_size=10)
    with pytest.raises(ConfigError, match="search function: expected a search, got 'random'"):
        lab.search("random", KEY, SPACE, DATA)
    with pytest.raises(ConfigError, match=r"search monitor: .*leave it out"):
        run(monitor=None)
    with pytest.raises(ConfigError, match="show"):
        run(show="yes")


KILLED = {
    "random": RUN | {"trials": 400, "epochs": 20},
    "hyperband": {"epochs": 81, "batch_size": 10, "valid": RUN["valid"], "lanes": 4},
}
PROGRAM = """
import sys
sys.path.insert(0, {here})
from test_search import DATA, KEY, KILLED, SPACE
from fnn import lab, search
lab.search(getattr(search, {name!r}), KEY, SPACE, DATA, **KILLED[{name!r}],
           checkpoints=sys.argv[1], resume=True, show=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_search_is_resumed_to_the_last_bit(name, tmp_path):
    program = PROGRAM.format(here=repr(str(Path(__file__).parent)), name=name)
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while not list(tmp_path.glob("step_*/COMMIT")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = lab.read(tmp_path).step
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    saved = lab.read(tmp_path)
    assert saved.step > before
    whole = getattr(search, name)(KEY, SPACE, DATA, **KILLED[name])
    # Another process may compile another program.
    np.testing.assert_allclose(saved.leaves["results/scores"], whole.scores, rtol=1e-4)
