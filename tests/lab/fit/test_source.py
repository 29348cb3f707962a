"""Over a stream: each batch is a step, and a run ends at the step that loses it."""

import time
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import DTypeError, LabelError, NonFiniteError
from fnn.lab.fit.array_source import ArraySource
from fnn.lab.fit.clock import ValidationTimer
from fnn.train.step import start_on

digits = data.digits()
some = (digits.test[0][:70], digits.test[1][:70])
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
        return (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )

    return jax.tree.map(raw, tree)


class Anew:
    """The batches, without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


@pytest.mark.parametrize("source", [loader, Anew(loader)], ids=["with a length", "without"])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_it_is_the_loop_of_steps_to_the_last_bit(source, chunk, key):
    train_state = train.start(key, recipe, (8, 8, 1))
    measured, validated = [], []
    for _ in range(3):
        for batch in loader:
            train_state, figures = train.step(recipe, train_state, batch)
            measured.append(figures)
        validated.append(train.evaluate(recipe, train_state, some, batch_size=32))
    result = fit(key, data=source, valid=some, chunk=chunk)
    chex.assert_trees_all_equal(bits(result.train_state), bits(train_state))
    for name in ("loss", "accuracy", "rate", "finite"):
        np.testing.assert_array_equal(result.history[name], [one[name] for one in measured])
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(
            result.history[f"valid_{name}"], [one[name] for one in validated]
        )


@pytest.mark.parametrize("source", [loader, Anew(loader)], ids=["with a length", "without"])
@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_stopped_and_resumed_it_is_the_run(source, step, key, tmp_path):
    whole = fit(key, data=source, valid=some)
    part = fit(key, data=source, valid=some, checkpoints=tmp_path / "run", max_steps=step)
    assert part.history.loss.size == step
    resumed = fit(key, data=source, valid=some, checkpoints=tmp_path / "run", resume=True)
    chex.assert_trees_all_equal(bits(resumed), bits(whole))
    again = fit(key, data=source, valid=some, resume=part.train_state)
    chex.assert_trees_all_equal(bits(again.train_state), bits(whole.train_state))


class Telling:
    """The batches over and over, from an iterator that tells its place."""

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
def test_a_source_that_tells_its_place_is_put_there(step, key, tmp_path, capsys):
    options = {"valid": some, "steps_per_epoch": 4}
    whole = fit(key, data=Telling(), **options)
    fit(key, data=Telling(), checkpoints=tmp_path / "run", max_steps=step, **options)
    source = Telling()
    resumed = fit(
        key, data=source, checkpoints=tmp_path / "run", resume=True, **options | {"show": True}
    )
    chex.assert_trees_all_equal(bits(resumed), bits(whole))
    assert source.at == 12 and "read again" not in capsys.readouterr().err


def test_that_its_batches_were_read_again_is_told(key, tmp_path, capsys):
    options = {"checkpoints": tmp_path / "run", "show": True}
    fit(key, data=loader, max_steps=6, **options)
    assert "read again" not in capsys.readouterr().err
    fit(key, data=loader, resume=True, **options)
    assert (
        "!!         the data cannot tell its place: its first 6 batches were read again"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("length", [4, None])
def test_the_time_without_a_batch_is_told_as_that_of_the_data(length, key, monkeypatch, capsys):
    """On a clock that stands still but while a batch is fetched."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Slow:
        def __iter__(self):
            for batch in loader:
                clock[0] += 10
                yield batch

    fit(key, data=Slow(), steps_per_epoch=length, chunk=1, show=True)
    # Twelve steps, of whose batches the first has been looked at when the run begins.
    assert "took       110.0 s: data 110.0" in capsys.readouterr().err.splitlines()


def test_what_comes_before_the_first_step_is_no_measure_of_one(key, monkeypatch, capsys):
    """On a clock of its own: a step takes 1 s, validation 7, and to begin the log 50."""
    clock, arrive = [0.0], ValidationTimer.arrive
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def later(pace, figures, steps, ends):
        def waited():
            clock[0] += steps + 7 * ends
            return figures()

        return arrive(pace, waited, steps, ends)

    def begin(begun):
        clock[0] += 50

    monkeypatch.setattr(ValidationTimer, "arrive", later)
    fit(
        key,
        data=digits.train,
        valid=some,
        batch_size=64,
        chunk=5,
        log=lab.Log(begin=begin),
        show=True,
    )
    # Of 3 epochs of 22 steps the first stretch is not known since when, but the ends of all epochs are.
    assert (
        "took       137.0 s: steps 66.0, rest 50.0, validation 21.0"
        in capsys.readouterr().err.splitlines()
    )


def test_what_is_brought_holds_on_to_nothing_else(key):
    plain = recipe.replace(augment=None)
    course = ArraySource(plain, digits.train, some, 64)
    (part,), _ = course.go(start_on(plain, key, digits.train), 0, 3).parts()
    assert all(values.base is None and len(values) == 3 for values in part.measured.values())


def poisoned(at):
    """The loader, whose batch of that number holds a NaN."""
    batches = [(data.to_float(images), labels) for images, labels in loader]
    images = np.array(batches[at][0])
    images[5, 0, 0] = np.nan
    return [*batches[:at], (images, batches[at][1]), *batches[at + 1 :]]


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_a_batch_that_is_not_finite_is_named_with_its_step(chunk, key, tmp_path):
    plain = recipe.replace(augment=None)
    with pytest.raises(NonFiniteError, match="step 2: expected finite loss") as caught:
        fit(key, recipe=plain, data=poisoned(2), chunk=chunk, checkpoints=tmp_path / "run")
    assert caught.value.step == 2
    assert lab.read(tmp_path / "run").step == 2
    skipped = fit(key, recipe=plain.replace(on_nonfinite="skip"), data=poisoned(2), chunk=chunk)
    assert (~skipped.history.finite).sum() == 3  # once an epoch
    chex.assert_tree_all_finite(skipped.train_state.params)


def test_a_wrong_first_batch_is_told_before_anything_compiles(key):
    with pytest.raises(LabelError, match="labels: expected 0 <= label < 10, got 10"):
        fit(key, data=[(loader[0][0], np.full(32, 10))])
    with pytest.raises(DTypeError, match="inputs: expected an array of numbers, got dtype <U1"):
        fit(key, data=[(np.full((32, 8), "a"), loader[0][1])])
