"""Sources of data: a stream gives the steps of its batches, and times and failures are exact."""

import itertools
import signal
import time
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import DTypeError, LabelError, NonFiniteError
from fnn.lab.fit import signals
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.clock import Stopwatch
from fnn.train.step import start_on_data

digits = data.digits()
valid_data = (digits.test[0][:70], digits.test[1][:70])
network = nn.chain(
    nn.flatten(), nn.dense(16), nn.batch_norm(), nn.relu(), nn.dropout(0.2), nn.dense(10)
)
optimizer = optim.adam(optim.cosine(1e-2, steps=12))
policy = augment.random_crop(padding=1)
loader = [(digits.train[0][i : i + 32], digits.train[1][i : i + 32]) for i in range(0, 128, 32)]
recipe = train.recipe(network, optimizer, augment=policy)
fit = partial(lab.fit, recipe=recipe, epochs=3, show=False)


def bits(tree):
    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return jax.tree.map(raw, tree)


class Unsized:
    """The batches, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


over_sources = pytest.mark.parametrize(
    "source", [loader, Unsized(loader)], ids=["with a length", "without"]
)


@over_sources
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_a_stream_gives_the_bits_of_a_loop_of_steps(source, chunk, key):
    train_state = train.start(key, recipe, (8, 8, 1))
    measured = []
    validated = []
    for _ in range(3):
        for batch in loader:
            train_state, figures = train.step(recipe, train_state, batch)
            measured.append(figures)
        validated.append(train.evaluate(recipe, train_state, valid_data, batch_size=32))
    result = fit(key, data=source, valid=valid_data, chunk=chunk)
    chex.assert_trees_all_equal(bits(result.train_state), bits(train_state))
    for name in ("loss", "accuracy", "rate", "finite"):
        expected = [figures[name] for figures in measured]
        np.testing.assert_array_equal(result.history[name], expected)
    for name in ("loss", "accuracy"):
        expected = [figures[name] for figures in validated]
        np.testing.assert_array_equal(result.history[f"valid_{name}"], expected)


@over_sources
@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_resumed_run_of_a_stream_gives_the_bits_of_the_whole_run(source, step, key, tmp_path):
    run = partial(fit, key, data=source, valid=valid_data)
    whole = run()
    part = run(checkpoints=tmp_path / "run", max_steps=step)
    assert part.history.loss.size == step
    resumed = run(checkpoints=tmp_path / "run", resume=True)
    chex.assert_trees_all_equal(bits(resumed), bits(whole))
    from_state = run(resume=part.train_state)
    chex.assert_trees_all_equal(bits(from_state.train_state), bits(whole.train_state))


class Seeking:
    """The batches over and over, from an iterator that returns and sets its position."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return loader[(self.at - 1) % len(loader)]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_the_position_of_a_loader_is_restored(step, key, tmp_path, capsys):
    options = {"valid": valid_data, "steps_per_epoch": 4}
    whole = fit(key, data=Seeking(), **options)
    options["checkpoints"] = tmp_path / "run"
    fit(key, data=Seeking(), max_steps=step, **options)
    source = Seeking()
    resumed = fit(key, data=source, resume=True, show=True, **options)
    chex.assert_trees_all_equal(bits(resumed), bits(whole))
    assert source.at == 12
    assert "read again" not in capsys.readouterr().err


def test_a_warning_says_that_batches_were_read_again(key, tmp_path, capsys):
    options = {"checkpoints": tmp_path / "run", "show": True}
    fit(key, data=loader, max_steps=6, **options)
    assert "read again" not in capsys.readouterr().err
    fit(key, data=loader, resume=True, **options)
    warning = "!!         the data has no saved position: its first 6 batches were read again"
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize("epoch_length", [4, None])
def test_the_time_without_a_batch_is_counted_for_the_data(epoch_length, key, monkeypatch, capsys):
    """On a clock that advances only while a batch is fetched."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Slow:
        def __iter__(self):
            for batch in loader:
                clock[0] += 10
                yield batch

    fit(key, data=Slow(), steps_per_epoch=epoch_length, chunk=1, show=True)
    # Twelve steps. The first batch was fetched before the run begins, to check it.
    assert "took       110.0 s: data 110.0" in capsys.readouterr().err.splitlines()


@pytest.mark.slow
def test_the_time_before_the_first_step_is_not_counted_for_steps(key, monkeypatch, capsys):
    """On a clock by which a step takes 1 s, validation 7 s, and the beginning of the log 50 s."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    block = ArraySource._block

    def slow_block(source, segment):
        steps = segment.stop - segment.first_step
        validations = segment.stop // 22 - segment.first_step // 22
        clock[0] += steps + 7 * validations
        return block(source, segment)

    def slow_begin(info):
        clock[0] += 50

    monkeypatch.setattr(ArraySource, "_block", slow_block)
    log = lab.Log(begin=slow_begin)
    options = {"batch_size": 64, "chunk": 5, "show": True}
    fit(key, data=digits.train, valid=valid_data, log=log, **options)
    # Three epochs of 22 steps. The start of the first segment is not known, but those of all
    # segments with validation are.
    expected = "took       137.0 s: steps 66.0, rest 50.0, validation 21.0"
    assert expected in capsys.readouterr().err.splitlines()


@pytest.mark.slow
def test_the_figures_of_a_segment_keep_no_larger_array_in_memory(key):
    plain = recipe.replace(augment=None)
    source = ArraySource(plain, digits.train, valid_data, 64, Stopwatch())
    segment = source.launch(start_on_data(plain, key, digits.train), 0, 3)
    (part,) = source.wait(segment)
    for values in part.measured.values():
        assert values.base is None
        assert len(values) == 3


def poisoned_loader(index, value):
    """The loader with another value in one batch."""
    batches = [(data.to_float(images), labels) for images, labels in loader]
    images, labels = batches[index]
    images = np.array(images)
    images[5, 0, 0] = value
    batches[index] = (images, labels)
    return batches


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_a_nonfinite_batch_raises_with_its_step(chunk, key, tmp_path):
    plain = recipe.replace(augment=None)
    # The number is finite, but not what the network makes of it.
    batches = poisoned_loader(2, 3e38)
    with pytest.raises(NonFiniteError, match="step 2: expected finite loss") as caught:
        fit(key, recipe=plain, data=batches, chunk=chunk, checkpoints=tmp_path / "run")
    assert caught.value.step == 2
    assert lab.read(tmp_path / "run").step == 2
    skipping = plain.replace(on_nonfinite="skip")
    result = fit(key, recipe=skipping, data=batches, chunk=chunk)
    assert (~result.history.finite).sum() == 3  # once per epoch
    chex.assert_tree_all_finite(result.train_state.params)


class Failing(Seeking):
    """A loader with a position that fails once, at a batch."""

    def __init__(self, fails_at):
        super().__init__()
        self.fails_at = fails_at
        self.given = []

    def __next__(self):
        if self.at == self.fails_at:
            self.fails_at = None
            raise OSError("the network is down")
        self.given.append(self.at)
        return super().__next__()


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("fails_at", [2, 4, 7, 11])
def test_after_an_error_of_the_loader_no_batch_is_lost(fails_at, chunk, key, tmp_path):
    options = {"steps_per_epoch": 6, "epochs": 2, "chunk": chunk}
    whole = fit(key, data=Seeking(), **options)
    options["checkpoints"] = tmp_path / "run"
    with pytest.raises(OSError, match="the network is down"):
        fit(key, data=Failing(fails_at), **options)
    source = Failing(None)
    resumed = fit(key, data=source, resume=True, **options)
    chex.assert_trees_all_equal(bits(resumed), bits(whole))
    # The first batch of any loader is read once more, to check it.
    assert source.given[1:] == list(range(12 - len(source.given) + 1, 12))


@pytest.mark.parametrize("chunk", [1, 100])
def test_after_a_wrong_batch_the_position_is_that_of_the_batch(chunk, key, tmp_path):
    class Wrong(Seeking):
        def __next__(self):
            images, labels = super().__next__()
            return images, labels + 10 * (self.at == 6)

    options = {"steps_per_epoch": 4, "checkpoints": tmp_path / "run", "chunk": chunk}
    with pytest.raises(LabelError, match="data batch 1 labels: expected 0 <= label < 10"):
        fit(key, data=Wrong(), **options)
    checkpoint = lab.read(tmp_path / "run")
    assert checkpoint.step == 5
    assert checkpoint.notes["place"]["state"]["json"]["at"] == 5


@pytest.mark.parametrize("bad", [1, 5, 10])
def test_after_a_nonfinite_step_the_position_is_that_before_its_batch(bad, key, tmp_path):
    class Poisoned(Seeking):
        def __next__(self):
            images, labels = super().__next__()
            images = np.asarray(data.to_float(images))
            # Finite, but its square is not.
            scale = 3e38 if self.at - 1 == bad else 1.0
            return images * np.float32(scale), labels

    plain = recipe.replace(augment=None)
    checkpoints = lab.checkpoint_policy(tmp_path / "run", epochs=100)
    options = {"recipe": plain, "steps_per_epoch": 6, "checkpoints": checkpoints, "chunk": 4}
    with pytest.raises(NonFiniteError, match=f"step {bad}: expected finite"):
        fit(key, data=Poisoned(), **options)
    checkpoint = lab.read(tmp_path / "run")
    assert checkpoint.step == bad
    assert checkpoint.notes["place"]["state"]["json"]["at"] == bad


class Blocking:
    """A loader that hangs at a batch, as on a network drive."""

    def __init__(self, at):
        self.at = at

    def __iter__(self):
        for number in itertools.count():
            if number == self.at:
                signal.raise_signal(signal.SIGTERM)
                time.sleep(60)
            yield loader[number % len(loader)]


def test_a_signal_ends_the_run_though_the_loader_hangs(key, tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "GRACE_SECONDS", 0.05)
    options = {"steps_per_epoch": 4, "checkpoints": tmp_path / "run", "chunk": 1}
    with pytest.raises(SystemExit) as exit:
        fit(key, data=Blocking(6), **options)
    assert exit.value.code == 143
    assert lab.read(tmp_path / "run").step == 6


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_a_wrong_later_batch_raises_after_the_steps_before_it(chunk, key, tmp_path):
    plain = recipe.replace(augment=None)
    batches = poisoned_loader(2, np.nan)
    message = r"data batch 2 inputs: expected finite numbers, got nan at index \(5, 0, 0, 0\)"
    for source in (batches, Endless(batches)):
        folder = tmp_path / type(source).__name__
        with pytest.raises(NonFiniteError, match=message):
            fit(key, recipe=plain, data=source, chunk=chunk, checkpoints=folder)
        assert lab.read(folder).step == 2
    # The recipe's on_nonfinite applies to inputs too.
    skipping = plain.replace(on_nonfinite="skip")
    history = fit(key, recipe=skipping, data=batches, chunk=chunk).history
    assert (~history.finite).sum() == 3


class Endless:
    """Batches in a loader without a length, so that it is read one batch ahead."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_a_wrong_first_batch_raises_before_anything_compiles(key):
    inputs, targets = loader[0]
    with pytest.raises(LabelError, match="labels: expected 0 <= label < 10, got 10"):
        fit(key, data=[(inputs, np.full(32, 10))])
    with pytest.raises(DTypeError, match="inputs: expected an array of numbers, got dtype <U1"):
        fit(key, data=[(np.full((32, 8), "a"), targets)])
