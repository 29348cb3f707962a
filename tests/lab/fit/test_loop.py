"""A run that is stopped, by whatever, and gone on with from the disk: it is the run that was never stopped."""

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
from fnn.errors import ConfigError, NonFiniteError
from fnn.lab.fit import loop
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.checkpoint_policy import RunStore
from fnn.lab.fit.loop import SECONDS_PER_CHUNK, _next_size
from fnn.objective import accuracy

digits = data.digits()
few, some = ((images[:160], labels[:160]) for images, labels in digits)
network = nn.chain(
    nn.conv(4), nn.batch_norm(), nn.relu(), nn.max_pool(), nn.flatten(), nn.dropout(0.2), nn.dense(10)
)  # fmt: skip
policy = augment.chain(augment.random_crop(padding=1), augment.flip_lr())
schedule = optim.cosine(1e-2, steps=20, warmup_steps=3)
optimizer = optim.ema(optim.clip_by_global_norm(optim.adam(schedule), 1.0), 0.9)
recipe = train.recipe(network, optimizer, augment=policy)
options = {"epochs": 4, "batch_size": 32, "valid": some}  # 5 steps an epoch
fit = partial(lab.fit, jax.random.key(3), recipe, few, show=False, **options)


def digest(tree):
    """One number for every bit of a tree."""
    whole = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        whole.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def whole():
    """The run that nothing stops."""
    return digest(fit())


def stop_at(step, act):
    """A log that acts when so many steps are done."""
    return lambda now, figures: act() if now == step else None


def send(number):
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("stops", [[1], [7], [10], [19], [3, 4, 11]])
def test_stopped_at_any_step_and_resumed_it_is_the_run(stops, asynchronous, whole, tmp_path):
    saving = lab.checkpoint_policy(tmp_path / "run", asynchronous=asynchronous)
    for step in stops:
        part = fit(checkpoints=saving, resume=True, max_steps=step)
        assert part.train_state.step == step and part.history.loss.size == step
    assert digest(fit(checkpoints=saving, resume=True)) == whole


def in_a_step(number, monkeypatch):
    return fit, {"log": stop_at(7, send(number))}


def in_validation(number, monkeypatch):
    return fit, {"callback": lambda step, figures: send(number)() if step == 10 else None}


def in_compilation(number, monkeypatch):
    compile = ArraySource.compile

    def act(course, train_state):
        send(number)()
        return compile(course, train_state)

    monkeypatch.setattr(ArraySource, "compile", act)
    return fit, {}


def in_a_save(number, monkeypatch):
    sync, asked = os.fsync, []

    def act(descriptor):
        if not asked:
            asked.append(send(number)())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", act)
    return fit, {}


def test_killed_before_its_first_epoch_is_over_it_goes_on_with_its_log(
    whole, tmp_path, monkeypatch
):
    """What is on the disk then: the beginning, and a log of steps that are to be done again."""
    kept = {"checkpoints": tmp_path / "run", "resume": True}
    cut = lab.jsonl_log(tmp_path / "log")
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(
            RunStore,
            "is_due",
            lambda *_: signal.raise_signal(signal.SIGINT) or signal.raise_signal(signal.SIGINT),
        )
        fit(log=cut, chunk=2, **kept)
    assert lab.read(tmp_path / "run").step == 0 and lab.read_log(tmp_path / "log")["step"].size == 2
    assert digest(fit(log=cut, **kept)) == whole
    fit(log=lab.jsonl_log(tmp_path / "other"))
    assert (tmp_path / "log").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", [in_a_step, in_validation, in_a_save, in_compilation])
def test_a_signal_ends_the_program_once_the_run_is_kept(
    moment, number, code, whole, tmp_path, monkeypatch
):
    run, how = moment(number, monkeypatch)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as exit:
        run(checkpoints=tmp_path / "run", **how)
    assert exit.value.code == code and signal.getsignal(number) is before
    monkeypatch.undo()
    assert digest(run(checkpoints=tmp_path / "run", resume=True)) == whole


def test_sigterm_without_checkpoints_ends_the_program_too():
    with pytest.raises(SystemExit) as exit:
        fit(log=stop_at(7, send(signal.SIGTERM)))
    assert exit.value.code == 143


def test_a_crash_in_between_loses_nothing(whole, tmp_path):
    def fail():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck") as caught:
        fit(checkpoints=tmp_path / "run", log=stop_at(13, fail), chunk=1)
    assert caught.value.__notes__ == [
        "The run is kept as it was at step 13; resume=True goes on from there."
    ]
    assert digest(fit(checkpoints=tmp_path / "run", resume=True)) == whole


def test_a_step_that_is_not_finite_is_never_kept_and_the_one_before_is(tmp_path):
    hurt = (poisoned(few[0]), few[1])
    small = nn.chain(nn.flatten(), nn.dense(8), nn.tanh(), nn.dense(10))
    poisonous = train.recipe(small, optim.momentum(0.1), prepare=poison)
    run = partial(lab.fit, jax.random.key(0), poisonous, hurt, epochs=3, batch_size=32, show=False)
    with pytest.raises(NonFiniteError) as caught:
        run(checkpoints=tmp_path / "run")
    met = caught.value.step
    kept = lab.read(tmp_path / "run")
    assert kept.step == met and str(met) in caught.value.__notes__[0]
    clean = run(max_steps=met) if met else None
    if clean is not None:
        wanted = digest(clean.train_state)
        assert digest(lab.restore(kept, clean.train_state, prefix="train_state")) == wanted
    assert kept.leaves["history/loss"].shape == (met,)


def test_a_directory_with_a_run_is_not_written_over(tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    before = lab.read(tmp_path / "run").sha256
    with pytest.raises(
        ConfigError,
        match=r"checkpoints: expected a directory without .*, got one at step 5; give res",
    ):
        fit(checkpoints=tmp_path / "run")
    assert lab.read(tmp_path / "run").sha256 == before


def test_a_run_of_another_key_is_not_gone_on_with(tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    with pytest.raises(
        ConfigError,
        match="resume: expected a train state of a run with this key, got one of another",
    ):
        lab.fit(
            jax.random.key(4),
            recipe,
            few,
            checkpoints=tmp_path / "run",
            resume=True,
            show=False,
            **options,
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 16}, "the run that was kept, of examples 160 and batch_size 32, got .* batch_size 16"),
        ({"valid": None}, "a run that measures .*valid_loss.*, got loss, accuracy, rate, finite; give"),
    ],
)  # fmt: skip
def test_a_run_that_was_changed_is_not_gone_on_with(change, told, tmp_path):
    fit(checkpoints=tmp_path / "run", max_steps=5)
    with pytest.raises(ConfigError, match=f"resume: expected {told}"):
        fit(checkpoints=tmp_path / "run", resume=True, **change)


def test_checkpoints_are_as_often_as_told_and_the_best_stays(tmp_path):
    result = fit(checkpoints=lab.checkpoint_policy(tmp_path / "run", epochs=2, keep=1))
    losses = np.asarray(result.history.valid_loss)
    with lab.checkpoint_store(tmp_path / "run") as store:
        steps = store.steps()
    best = 10 if losses[1] < losses[3] else 20
    assert steps == sorted({best, 20})
    assert lab.read(tmp_path / "run", step="best").step == best


@pytest.mark.parametrize(
    ("often", "steps"),
    [
        ({"epochs": 9, "seconds": 4}, [0, 4, 8, 12, 16, 20]),
        (
            {"epochs": 1, "seconds": 4},
            [0, 4, 5, 9, 10, 14, 15, 19, 20],
        ),  # from the last one on, whatever it was for
        ({"epochs": 3}, [0, 15, 20]),
    ],
)
def test_checkpoints_within_an_epoch_are_as_many_seconds_apart_as_told(
    often, steps, tmp_path, monkeypatch
):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    seconds = lab.Log(write=lambda steps, figures: clock.append(float(steps[-1])))  # one a step
    fit(checkpoints=lab.checkpoint_policy(tmp_path / "run", keep=99, **often), log=seconds, chunk=1)
    with lab.checkpoint_store(tmp_path / "run") as store:
        assert store.steps() == steps


def test_the_best_that_stays_is_the_one_that_early_stopping_goes_by(tmp_path):
    """Here the most wrong, which the least valid_loss is not."""
    judged = recipe.replace(
        optimizer=optim.adam(1e-2),
        metrics={"error": lambda outputs, labels: 1 - accuracy(outputs, labels)},
        early_stopping=train.early_stopping(4, by="valid_error", mode="max"),
    )
    saving = lab.checkpoint_policy(tmp_path / "run", keep=1)
    history = lab.fit(
        jax.random.key(3), judged, few, checkpoints=saving, show=False, **options
    ).history
    best = int(history.valid_error.argmax())
    assert best < min(3, int(history.valid_loss.argmin()))
    assert lab.read(tmp_path / "run", step="best").step == 5 * (best + 1)


def test_the_best_epoch_that_is_told_may_have_been_before_the_run_was_gone_on_with(
    tmp_path, capsys
):
    worse = optim.clip_by_global_norm(optim.sgd(optim.piecewise([0.1, 10.0], boundaries=[10])), 1.0)
    run = partial(lab.fit, jax.random.key(3), recipe.replace(optimizer=worse), few, **options)
    run(checkpoints=tmp_path / "run", max_steps=10)
    capsys.readouterr()
    losses = run(checkpoints=tmp_path / "run", resume=True).history.valid_loss
    assert losses.argmin() == 1
    (best,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("best"))
    assert best.startswith("best       epoch 2: ") and best.endswith(f"valid_loss {losses[1]:.4f}")


@pytest.mark.parametrize(
    ("steps", "seconds", "size"),
    [
        (10, SECONDS_PER_CHUNK, 10),
        (10, SECONDS_PER_CHUNK / 2, 20),
        (10, SECONDS_PER_CHUNK * 2, 5),
        (10, SECONDS_PER_CHUNK / 1000, 2560),
        (160, SECONDS_PER_CHUNK * 100, 10),
        (1, 1e3, 1),
    ],
)
def test_a_chunk_has_as_many_steps_as_take_so_long_or_256_times_more_or_16_times_fewer(
    steps, seconds, size
):
    assert _next_size(steps, seconds) == size


LOOKS = {
    "nobody": {},
    "a log of figures": {"log": [lab.Log(), lambda step, figures: None]},
    "a callback": {"callback": lambda step, figures: None},
    "a log of states": {"log": [lab.Log(), lab.Log(look=lambda step, train_state: None)]},
}


@pytest.mark.parametrize("size", [7, 1000])
@pytest.mark.parametrize("who", [*LOOKS, "checkpoints"])
def test_one_call_has_several_epochs_unless_somebody_looks_at_the_states_between(
    who, size, whole, tmp_path, monkeypatch
):
    stops, go = [], ArraySource.go

    def noted(course, train_state, step, count):
        stretch = go(course, train_state, step, count)
        stops.append(stretch.step)
        return stretch

    monkeypatch.setattr(ArraySource, "go", noted)
    monkeypatch.setattr(loop, "_next_size", lambda steps, seconds: size)
    assert digest(fit(**LOOKS.get(who, {"checkpoints": tmp_path / "run"}))) == whole
    nobody = {
        7: [1, 2, 4, 11, 18, 20],
        1000: [1, 2, 4, 20],
    }  # the end of the first epoch is always seen from before
    assert stops == (
        nobody[size] if who in ("nobody", "a log of figures") else [1, 2, 4, 5, 10, 15, 20]
    )


def test_what_was_done_is_shown_before_a_word_of_the_callback_and_before_an_error(
    monkeypatch, capsys
):
    monkeypatch.setattr(loop, "_next_size", lambda steps, seconds: 20)

    def say(step, figures):
        print(f"said at {step}", file=sys.stderr)
        if step == 15:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(show=True, callback=say)
    lines = capsys.readouterr().err.splitlines()
    told = [
        line.split()[0]
        for line in lines[lines.index(next(line for line in lines if "epoch " in line[:6])) + 1 :]
    ]
    assert told == ["1", "said", "2", "said", "3", "said"]


def test_where_the_terminal_fails_the_run_is_kept(tmp_path, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            if "epoch " in text:
                raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(loop, "_next_size", lambda steps, seconds: 7)
    monkeypatch.setattr(sys, "stderr", Closed())
    with pytest.raises(BrokenPipeError, match="nobody reads") as caught:
        fit(checkpoints=lab.checkpoint_policy(tmp_path / "run", epochs=9), show=True)
    kept = lab.read(tmp_path / "run").step
    assert kept >= 5 and f"kept as it was at step {kept}" in caught.value.__notes__[0]


def test_limits_end_it_and_a_train_state_goes_on(whole):
    assert fit(max_seconds=0).train_state.step == 0
    seen = []

    def enough(step, figures):
        seen.append(figures)
        return len(seen) == 2

    part = fit(callback=enough)
    assert part.train_state.step == 10
    assert list(seen[1]) == ["loss", "accuracy", "rate", "valid_accuracy", "valid_loss"]
    np.testing.assert_allclose(seen[1]["loss"], part.history.loss[5:].mean(), rtol=1e-6)
    assert seen[1]["valid_loss"] == float(part.history.valid_loss[1])
    rest = fit(resume=part.train_state)
    history = {
        name: np.concatenate([part.history[name], rest.history[name]]) for name in rest.history
    }
    assert (
        digest((rest.train_state, train.run(jax.random.key(3), recipe, few, **options).history))
        == whole
    )
    assert digest(list(history.values())) == digest(list(fit().history.values()))


@pytest.mark.parametrize(
    ("answer", "step"),
    [(True, 5), (np.True_, 5), (jnp.array(True), 5), (1, 20), ("stop", 20), (np.array([True]), 20)],
)
def test_true_alone_ends_it_be_it_of_python_numpy_or_jax(answer, step):
    assert fit(callback=lambda step, figures: answer).train_state.step == step


def test_what_is_logged_is_the_same_for_every_chunk_and_across_a_stop(tmp_path):
    def logged(**how):
        told = []
        fit(log=lambda step, figures: told.append((step, *figures.items())), log_every=2, **how)
        return told

    wanted = logged(chunk=1)
    assert [step for step, *_ in wanted] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert [name for name, _ in wanted[2][1:]] == [
        "loss",
        "accuracy",
        "rate",
        "valid_accuracy",
        "valid_loss",
    ]
    assert logged() == logged(chunk=3) == wanted
    first = logged(checkpoints=tmp_path / "run", max_steps=7)
    assert first + logged(checkpoints=tmp_path / "run", resume=True) == wanted
