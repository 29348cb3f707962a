"""Stopping and resuming: however a run stops, the resumed run equals the uninterrupted one."""

import hashlib
import io
import os
import signal
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poisoning import poison, poisoned

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    ConfigError,
    NonFiniteError,
)
from fnn.lab.fit import loop
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.checkpoint_policy import RunStore
from fnn.objective import accuracy

digits = data.digits()
train_data, valid_data = ((images[:160], labels[:160]) for images, labels in digits)
network = nn.chain(
    nn.conv(4),
    nn.batch_norm(),
    nn.relu(),
    nn.max_pool(),
    nn.flatten(),
    nn.dropout(0.2),
    nn.dense(10),
)
policy = augment.chain(augment.random_crop(padding=1), augment.flip_lr())
schedule = optim.cosine(1e-2, steps=20, warmup_steps=3)
optimizer = optim.ema(optim.clip_by_global_norm(optim.adam(schedule), 1.0), 0.9)
recipe = train.recipe(network, optimizer, augment=policy)
options = {"epochs": 4, "batch_size": 32, "valid": valid_data}  # 5 steps an epoch
fit = partial(lab.fit, jax.random.key(3), recipe, train_data, show=False, **options)


def digest(tree):
    """A hash of all bits of a tree."""
    result = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = jax.random.key_data(leaf) if is_key else leaf
        result.update(np.asarray(array).tobytes())
    return result.hexdigest()


@pytest.fixture(scope="module")
def whole():
    """The digest of the uninterrupted run."""
    return digest(fit())


def at_step(step, act):
    """A log that acts when a number of steps is done."""

    def log(now, figures):
        if now == step:
            act()

    return log


def send(number):
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stops", [[1], [7], [10], [19], [3, 4, 11]])
def test_a_run_stopped_at_any_step_and_resumed_equals_the_whole_run(
    stops, asynchronous, whole, tmp_path
):
    checkpoints = lab.checkpoint_policy(tmp_path / "run", asynchronous=asynchronous)
    for step in stops:
        part = fit(checkpoints=checkpoints, resume=True, max_steps=step)
        assert part.train_state.step == step
        assert part.history.loss.size == step
    assert digest(fit(checkpoints=checkpoints, resume=True)) == whole


def in_a_step(number, monkeypatch):
    return {"log": at_step(7, send(number))}


def in_validation(number, monkeypatch):
    return {"callback": at_step(10, send(number))}


def in_compilation(number, monkeypatch):
    compile_source = ArraySource.compile

    def compile_and_send(source, train_state):
        signal.raise_signal(number)
        return compile_source(source, train_state)

    monkeypatch.setattr(ArraySource, "compile", compile_and_send)
    return {}


def in_a_save(number, monkeypatch):
    sync = os.fsync
    sent = []

    def send_and_sync(descriptor):
        if not sent:
            sent.append(number)
            signal.raise_signal(number)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", send_and_sync)
    return {}


def test_a_run_killed_in_its_first_epoch_resumes_with_its_log(whole, tmp_path, monkeypatch):
    """On the disk are then the first checkpoint, and a log of steps that will be done again."""
    options = {"checkpoints": tmp_path / "run", "resume": True}
    log = lab.jsonl_log(tmp_path / "log")

    def kill(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunStore, "is_due", kill)
        fit(log=log, chunk=2, **options)
    assert lab.read(tmp_path / "run").step == 0
    assert lab.read_log(tmp_path / "log")["step"].size == 2
    assert digest(fit(log=log, **options)) == whole
    fit(log=lab.jsonl_log(tmp_path / "other"))
    assert (tmp_path / "log").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", [in_a_step, in_validation, in_a_save, in_compilation])
def test_a_signal_ends_the_program_after_the_run_is_saved(
    moment, number, code, whole, tmp_path, monkeypatch
):
    changes = moment(number, monkeypatch)
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit:
        fit(checkpoints=tmp_path / "run", **changes)
    assert exit.value.code == code
    assert signal.getsignal(number) is handler
    monkeypatch.undo()
    assert digest(fit(checkpoints=tmp_path / "run", resume=True)) == whole


def test_sigterm_ends_the_program_without_checkpoints_too():
    with pytest.raises(SystemExit) as exit:
        fit(log=at_step(7, send(signal.SIGTERM)))
    assert exit.value.code == 143


def test_after_an_error_the_run_is_saved_at_its_last_step(whole, tmp_path):
    def fail():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck") as caught:
        fit(checkpoints=tmp_path / "run", log=at_step(13, fail), chunk=1)
    note = "The run was saved at step 13; resume=True continues there."
    assert caught.value.__notes__ == [note]
    assert digest(fit(checkpoints=tmp_path / "run", resume=True)) == whole


def test_after_a_nonfinite_step_the_state_before_it_is_saved(tmp_path):
    images, labels = train_data
    small = nn.chain(nn.flatten(), nn.dense(8), nn.tanh(), nn.dense(10))
    run = partial(
        lab.fit,
        jax.random.key(0),
        train.recipe(small, optim.momentum(0.1), prepare=poison),
        (poisoned(images), labels),
        epochs=3,
        batch_size=32,
        show=False,
    )
    with pytest.raises(NonFiniteError) as caught:
        run(checkpoints=tmp_path / "run")
    step = caught.value.step
    checkpoint = lab.read(tmp_path / "run")
    assert checkpoint.step == step
    assert str(step) in caught.value.__notes__[0]
    if step:
        before = run(max_steps=step).train_state
        restored = lab.restore(checkpoint, before, prefix="train_state")
        assert digest(restored) == digest(before)
    assert checkpoint.leaves["history/loss"].shape == (step,)


def test_a_new_run_does_not_overwrite_the_checkpoints_of_another(tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    before = lab.read(tmp_path / "run").sha256
    message = r"checkpoints: expected a directory without .*, got one at step 5; give res"
    with pytest.raises(ConfigError, match=message):
        fit(checkpoints=tmp_path / "run")
    assert lab.read(tmp_path / "run").sha256 == before


def test_resuming_with_another_key_raises(tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    resume = {"checkpoints": tmp_path / "run", "resume": True, "show": False}
    message = "resume: expected a train state of a run with this key, got one of another"
    with pytest.raises(ConfigError, match=message):
        lab.fit(jax.random.key(4), recipe, train_data, **resume, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 16},
            r"data as in the saved run, examples 160 and batch_size 32 and digest \w{8}, "
            "got .* batch_size 16",
        ),
        (
            {"valid": None},
            "a run that measures .*valid_loss.*, got loss, accuracy, rate, finite; give",
        ),
    ],
)
def test_resuming_with_other_data_or_figures_raises(change, message, tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    with pytest.raises(ConfigError, match=f"resume: expected {message}"):
        fit(checkpoints=tmp_path / "run", resume=True, **change)


def test_checkpoints_follow_the_policy_and_the_best_is_kept(tmp_path):
    result = fit(checkpoints=lab.checkpoint_policy(tmp_path / "run", epochs=2, keep=1))
    losses = np.asarray(result.history.valid_loss)
    with lab.checkpoint_store(tmp_path / "run") as store:
        steps = store.steps()
    best = 10 if losses[1] < losses[3] else 20
    assert steps == sorted({best, 20})
    assert lab.read(tmp_path / "run", step="best").step == best


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        ({"epochs": 9, "seconds": 4}, [0, 4, 8, 12, 16, 20]),
        # The seconds count from the last checkpoint, whatever the reason for it was.
        ({"epochs": 1, "seconds": 4}, [0, 4, 5, 9, 10, 14, 15, 19, 20]),
        ({"epochs": 3}, [0, 15, 20]),
    ],
)
def test_checkpoints_within_an_epoch_have_the_given_interval_in_seconds(
    interval, steps, tmp_path, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    one_second_per_step = lab.Log(write=lambda steps, figures: clock.append(float(steps[-1])))
    checkpoints = lab.checkpoint_policy(tmp_path / "run", keep=99, **interval)
    fit(checkpoints=checkpoints, log=one_second_per_step, chunk=1)
    with lab.checkpoint_store(tmp_path / "run") as store:
        assert store.steps() == steps


@pytest.mark.slow
def test_the_best_checkpoint_is_the_best_by_the_figure_of_early_stopping(tmp_path):
    """Here the highest error, which differs from the lowest valid_loss."""
    by_error = recipe.replace(
        optimizer=optim.adam(1e-2),
        metrics={"error": lambda outputs, labels: 1 - accuracy(outputs, labels)},
        early_stopping=train.early_stopping(4, by="valid_error", mode="max"),
    )
    checkpoints = lab.checkpoint_policy(tmp_path / "run", keep=1)
    run = partial(lab.fit, jax.random.key(3), by_error, train_data, show=False, **options)
    history = run(checkpoints=checkpoints).history
    best = int(history.valid_error.argmax())
    assert best < min(3, int(history.valid_loss.argmin()))
    assert lab.read(tmp_path / "run", step="best").step == 5 * (best + 1)


@pytest.mark.slow
def test_the_best_epoch_of_the_summary_may_be_before_the_run_was_resumed(tmp_path, capsys):
    diverging = optim.sgd(optim.piecewise([0.1, 10.0], boundaries=[10]))
    worse = recipe.replace(optimizer=optim.clip_by_global_norm(diverging, 1.0))
    run = partial(lab.fit, jax.random.key(3), worse, train_data, **options)
    run(checkpoints=tmp_path / "run", max_steps=10)
    capsys.readouterr()
    losses = run(checkpoints=tmp_path / "run", resume=True).history.valid_loss
    assert losses.argmin() == 1
    lines = capsys.readouterr().err.splitlines()
    (best,) = (line for line in lines if line.startswith("best"))
    assert best.startswith("best       epoch 2: ")
    assert best.endswith(f"valid_loss {losses[1]:.4f}")


# Whether the states between epochs are needed, and the options of each case.
LISTENERS = {
    "nothing": (False, {}),
    "a log of figures": (False, {"log": [lab.Log(), lambda step, figures: None]}),
    "a callback": (True, {"callback": lambda step, figures: None}),
    "a log of states": (
        True,
        {"log": [lab.Log(), lab.Log(on_state=lambda step, train_state: None)]},
    ),
    "checkpoints": (True, {}),
}


@pytest.mark.parametrize("size", [7, 1000])
@pytest.mark.parametrize("listener", LISTENERS)
def test_a_segment_has_several_epochs_unless_the_states_between_are_needed(
    listener, size, whole, tmp_path, monkeypatch
):
    stops = []
    launch = ArraySource.launch

    def recorded_launch(source, train_state, step, max_steps):
        segment = launch(source, train_state, step, max_steps)
        stops.append(segment.stop)
        return segment

    monkeypatch.setattr(ArraySource, "launch", recorded_launch)
    monkeypatch.setattr(loop, "next_chunk", lambda steps, seconds: size)
    needs_states, changes = LISTENERS[listener]
    if listener == "checkpoints":
        changes = {"checkpoints": tmp_path / "run"}
    assert digest(fit(**changes)) == whole
    # The last step of the first epoch always begins a segment, to measure the time of steps.
    without_states = {7: [1, 2, 4, 11, 18, 20], 1000: [1, 2, 4, 20]}
    assert stops == ([1, 2, 4, 5, 10, 15, 20] if needs_states else without_states[size])


def test_rows_are_printed_before_the_callback_prints_and_before_an_error(monkeypatch, capsys):
    monkeypatch.setattr(loop, "next_chunk", lambda steps, seconds: 20)

    def callback(step, figures):
        print(f"callback at {step}", file=sys.stderr)
        if step == 15:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(show=True, callback=callback)
    lines = capsys.readouterr().err.splitlines()
    heads = [index for index, line in enumerate(lines) if line.startswith("epoch ")]
    first_words = [line.split()[0] for line in lines[heads[0] + 1 :]]
    assert first_words == ["1", "callback", "2", "callback", "3", "callback"]


def test_if_the_terminal_fails_the_run_is_saved(tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            if "epoch " in text:
                raise BrokenPipeError("closed")

    monkeypatch.setattr(loop, "next_chunk", lambda steps, seconds: 7)
    monkeypatch.setattr(sys, "stderr", Closed())
    with pytest.raises(BrokenPipeError, match="closed") as caught:
        fit(checkpoints=lab.checkpoint_policy(tmp_path / "run", epochs=9), show=True)
    step = lab.read(tmp_path / "run").step
    assert step >= 5
    assert f"saved at step {step}" in caught.value.__notes__[0]


def test_max_seconds_ends_a_run_before_its_first_step():
    assert fit(max_seconds=0).train_state.step == 0


@pytest.mark.slow
def test_a_run_ended_by_its_callback_resumes_from_its_train_state(whole):
    received = []

    def callback(step, figures):
        received.append(figures)
        return len(received) == 2

    part = fit(callback=callback)
    assert part.train_state.step == 10
    second = received[1]
    assert list(second) == ["loss", "accuracy", "rate", "valid_accuracy", "valid_loss"]
    np.testing.assert_allclose(second["loss"], part.history.loss[5:].mean(), rtol=1e-6)
    assert second["valid_loss"] == float(part.history.valid_loss[1])
    rest = fit(resume=part.train_state)
    result = train.run(jax.random.key(3), recipe, train_data, **options)
    assert digest((rest.train_state, result.history)) == whole
    joined = {}
    for name in rest.history:
        joined[name] = np.concatenate([part.history[name], rest.history[name]])
    assert digest(list(joined.values())) == digest(list(fit().history.values()))


@pytest.mark.parametrize(
    ("value", "step"),
    [(True, 5), (np.True_, 5), (jnp.array(True), 5), (1, 20), ("stop", 20), (np.array([True]), 20)],
)
def test_only_true_of_python_numpy_or_jax_ends_the_run(value, step):
    assert fit(callback=lambda step, figures: value).train_state.step == step


def test_the_log_is_the_same_for_every_chunk_and_for_a_resumed_run(tmp_path):
    def records(**changes):
        found = []
        fit(
            log=lambda step, figures: found.append((step, *figures.items())),
            log_every=2,
            **changes,
        )
        return found

    expected = records(chunk=1)
    assert [step for step, *_ in expected] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    names = ["loss", "accuracy", "rate", "valid_accuracy", "valid_loss"]
    assert [name for name, _ in expected[2][1:]] == names
    assert records() == expected
    assert records(chunk=3) == expected
    first = records(checkpoints=tmp_path / "run", max_steps=7)
    assert first + records(checkpoints=tmp_path / "run", resume=True) == expected


logs = pytest.mark.parametrize("make", [lab.jsonl_log, lab.csv_log])


@pytest.fixture(scope="module")
def whole_log(tmp_path_factory):
    """Returns the bytes that the uninterrupted run logs."""
    folder = tmp_path_factory.mktemp("logs")
    fit(log=[lab.jsonl_log(folder / "a.jsonl"), lab.csv_log(folder / "a.csv")], log_every=2)
    texts = {
        lab.jsonl_log: (folder / "a.jsonl").read_bytes(),
        lab.csv_log: (folder / "a.csv").read_bytes(),
    }
    return texts.__getitem__


@logs
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_a_log_has_no_gap_after_another_log_failed(make, chunk, whole_log, tmp_path):
    def fail():
        raise RuntimeError("no connection")

    path = tmp_path / "log"
    options = {"checkpoints": tmp_path / "run", "log_every": 2, "chunk": chunk}
    with pytest.raises(RuntimeError):
        fit(log=[at_step(8, fail), make(path)], **options)
    fit(log=make(path), resume=True, **options)
    assert path.read_bytes() == whole_log(make)


@logs
@pytest.mark.parametrize("lost", [1, 3, 1000])
def test_lines_that_the_disk_lost_are_written_again(make, lost, whole_log, tmp_path):
    path = tmp_path / "log"
    options = {"checkpoints": tmp_path / "run", "log": make(path), "log_every": 2}
    fit(max_steps=13, **options)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-lost]))
    fit(resume=True, **options)
    assert path.read_bytes() == whole_log(make)


@logs
def test_a_log_that_begins_when_a_run_resumes_is_whole(make, whole_log, tmp_path):
    options = {"checkpoints": tmp_path / "run", "log_every": 2}
    fit(max_steps=13, **options)
    fit(resume=True, log=make(tmp_path / "log"), **options)
    assert (tmp_path / "log").read_bytes() == whole_log(make)


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_all_steps_before_a_nonfinite_one_are_logged(chunk, tmp_path):
    images, labels = train_data
    small = nn.chain(nn.flatten(), nn.dense(8), nn.tanh(), nn.dense(10))
    poisoned_recipe = train.recipe(small, optim.momentum(0.1), prepare=poison)
    steps = []
    with pytest.raises(NonFiniteError) as caught:
        lab.fit(
            jax.random.key(0),
            poisoned_recipe,
            (poisoned(images), labels),
            epochs=3,
            batch_size=32,
            show=False,
            chunk=chunk,
            log=lambda step, figures: steps.append(step),
        )
    assert steps == list(range(1, caught.value.step + 1))


@pytest.mark.parametrize("change", [{"step": 3}, {"loss": 5}, {"valid_loss": 1}, {"ends": [9, 2]}])
def test_a_history_that_does_not_fit_its_step_raises(change, tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=7)
    checkpoint = lab.read(tmp_path / "run")
    state = jax.eval_shape(lambda: train.start(jax.random.key(3), recipe, (8, 8, 1)))
    state = lab.restore(checkpoint, state, prefix="train_state")
    history = {
        path.removeprefix("history/"): leaf
        for path, leaf in checkpoint.leaves.items()
        if path.startswith("history/")
    }
    for name, count in change.items():
        if name in history:
            history[name] = history[name][:1].repeat(count + 1, 0)
    ends = np.array(change.get("ends", checkpoint.leaves["epoch_ends"]))
    tree = {"train_state": state, "history": history, "epoch_ends": ends}
    with lab.checkpoint_store(tmp_path / "other") as store:
        store.save(change.get("step", 7), tree, notes=checkpoint.notes)
    with pytest.raises(CheckpointCorruptError, match="checkpoint history: expected figures"):
        fit(checkpoints=tmp_path / "other", resume=True)


def test_resuming_from_the_folder_of_a_saved_tree_raises(tmp_path):
    state = train.start(jax.random.key(3), recipe, (8, 8, 1))
    lab.save(tmp_path / "run", state, step=1)
    with pytest.raises(ConfigError, match=r"expected a directory that lab\.fit saved"):
        fit(checkpoints=tmp_path / "run", resume=True)


def test_resuming_with_other_data_of_the_same_size_raises(tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    images, labels = train_data
    for changed in [
        (images, labels[::-1]),
        (images ^ 1, labels),
        ((images / np.float32(255)), labels),
    ]:
        with pytest.raises(
            ConfigError, match=r"digest \w{8}, got .*; give the data and batch_size"
        ):
            lab.fit(
                jax.random.key(3),
                recipe,
                changed,
                checkpoints=tmp_path / "run",
                resume=True,
                show=False,
                **options,
            )


@pytest.mark.slow
def test_resuming_with_another_recipe_lists_the_changes(tmp_path, capsys):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    faster = recipe.replace(optimizer=optim.ema(optim.clip_by_global_norm(optim.adam(1.0), 1), 0.9))
    run = partial(lab.fit, jax.random.key(3), data=train_data, resume=True, **options)
    run(faster, checkpoints=tmp_path / "run", max_steps=6)
    printed = capsys.readouterr().err
    warning = "!!         the recipe differs from that of the saved run: "
    before = "optim.adam(optim.cosine(0.01, steps=20, warmup_steps=3))"
    before = f"optim.ema(optim.clip_by_global_norm({before}, 1), 0.9)"
    assert f"{warning}{before} -> optim.ema(" in printed
    run(faster, checkpoints=tmp_path / "run", max_steps=7)
    assert "the recipe differs" not in capsys.readouterr().err
    with pytest.warns(UserWarning, match="the recipe differs from that of the saved run"):
        run(recipe, checkpoints=tmp_path / "run", max_steps=8, show=False)
    wider = recipe.replace(network=nn.chain(nn.flatten(), nn.dense(10)))
    with pytest.raises(CheckpointMismatchError, match="give the network and optimizer") as caught:
        run(wider, checkpoints=tmp_path / "run", show=False)
    assert "The recipe differs from that of the saved run: nn.chain(" in caught.value.__notes__[0]
