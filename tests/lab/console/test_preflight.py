"""The header and the checks before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.lab.console.preflight import header, preflight
from fnn.objective import squared_error

digits = data.digits()
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10), nn.batch_norm()), optim.adam(1e-3))


def check(inputs, targets, out_shape=(10,), first_loss=None, **changes):
    """Label and text of each check."""
    lines = preflight(recipe.replace(**changes), (inputs, targets), out_shape, first_loss)
    return [line.split(maxsplit=1) for line in lines]


def test_the_header_describes_the_run(key):
    train_state = train.start(key, recipe, (8, 8, 1))
    header_lines = header(train_state, digits.train, digits.test, "3 epochs")
    lines = dict(line.split(maxsplit=1) for line in header_lines)
    assert list(lines) == ["network", "optimizer", "data", "run", "on"]
    # 670 = 64 * 10 + 10 + 10 + 10
    assert lines["network"] == "670 parameters in 4 arrays, 20 numbers of state"
    assert lines["optimizer"] == "1,342 numbers of state"  # two a parameter, a count and a rate
    assert lines["data"] == "1,433 inputs uint8[8,8,1]; 364 for validation"
    assert lines["run"] == "3 epochs; seed 0"
    assert "float32" in lines["on"]
    assert jax.__version__ in lines["on"]


@pytest.mark.parametrize(("seed", "text"), [(7, "seed 7"), (2**32 - 1, "seed 4294967295")])
def test_the_header_shows_the_seed_of_a_key_that_has_one(seed, text, key):
    train_state = train.start(jax.random.key(seed), recipe, (8, 8, 1))
    assert text in list(header(train_state, digits.train, None, "a run"))[3]
    folded = train_state._replace(key=jax.random.fold_in(key, 1))
    assert "; key " in list(header(folded, digits.train, None, "a run"))[3]


def test_a_good_start_has_no_warnings():
    images, labels = (jnp.asarray(part) for part in digits.train)
    (loss, inputs, balance) = check(images, labels, first_loss=2.4)
    assert loss == ["ok", "loss before training 2.40 (log 10 = 2.30)"]
    x = data.to_float(images[:1024])
    assert inputs == ["ok", f"inputs in [0, 1], mean {x.mean():.2g}, deviation {x.std():.2g}"]
    counts = np.bincount(labels)
    text = f"labels of 10 classes, {counts.min()} to {counts.max()} examples each"
    assert balance == ["ok", text]


def test_large_loss_unscaled_inputs_and_rare_classes_have_warnings():
    images, labels = (jnp.asarray(part) for part in digits.train)
    unbalanced = jnp.where(jnp.arange(len(labels)) < 1000, 0, labels)
    (loss, inputs, balance) = check(
        images,
        unbalanced,
        first_loss=4.0,
        prepare=lambda x: x.astype(float),
    )
    assert [loss[0], inputs[0], balance[0]] == ["!!"] * 3
    assert "smaller last layer" in loss[1]
    assert "data.standardize" in inputs[1]
    assert "class_weighted" in balance[1]


def test_the_targets_of_a_language_model_have_no_check_of_balance():
    text = jnp.asarray(data.characters("aab").encode("aab" * 99 + "aaaa"))
    inputs, targets = data.windows(text, 4)
    network = nn.chain(nn.embed(2, 4), nn.dense(2))
    (loss,) = check(inputs, targets, (4, 2), 0.7, network=network, prepare=lambda x: x)
    assert loss[0] == "ok"


def test_regression_and_integer_inputs_have_no_checks_of_classes_and_range():
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    y = x[:, :1]
    labels = [label for label, _ in check(x, y, (1,), 3.0, loss=squared_error)]
    assert labels == ["ok"]
    assert check((x, x), y, (1,), None, loss=squared_error) == []
    tokens = jnp.zeros((100, 7), jnp.int32)
    assert check(tokens, y, (1,), None, loss=squared_error, prepare=lambda x: x) == []


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (optim.swa(optim.sgd(0.1), start=120), 120),
        (optim.ema(optim.swag(optim.sgd(0.1), start=110.5)), 111),
        (optim.lawa(optim.sgd(0.1), every=200), 200),
        (optim.swa(optim.sgd(0.1), start=110), None),
        (optim.swa(optim.sgd(0.1), every=110), None),
    ],
)
def test_an_average_without_a_snapshot_in_the_run_has_a_warning(optimizer, first):
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    averaged = train.recipe(nn.dense(1), optimizer, loss=squared_error)
    lines = preflight(averaged, (x, x[:, :1]), (1,), None, 110)
    found = [line for line in lines if "snapshot" in line]
    assert len(found) == (first is not None)
    if first:
        message = f"the run ends at step 110 before the first snapshot at step {first}: lower start"
        assert found[0].startswith("!!") and message in found[0]


SCHEDULES = [
    (
        optim.one_cycle(1e-2, steps=10),
        110,
        "the schedule's rate is 0 from step 10 of 110 on: give it steps=110",
    ),
    (
        optim.warmup(optim.cosine(1e-2, steps=90), warmup_steps=10),
        220,
        "is 0 from step 100 of 220 on",
    ),
    (optim.linear(1e-2, steps=440), 110, "the run ends at step 110 of a schedule of 440 steps"),
    (optim.table(jnp.linspace(1, 0, 51)), 110, "is 0 from step 50 of 110 on"),
    (optim.cosine(1e-2, steps=110), 110, None),
    (optim.cosine(1e-2, steps=50, floor=1e-3), 110, None),
    (optim.piecewise([1e-1, 1e-2], boundaries=[50]), 110, None),
    (optim.cosine_restarts(1e-2, steps=10), 110, None),
    (1e-2, 110, None),
    (lambda step: 1e-2 / (1 + step), 110, None),
]


def nested(rate):
    """The schedule deep inside of an optimizer."""
    return optim.ema(optim.partition({"*bias": optim.sgd(rate)}, None), 0.9)


@pytest.mark.parametrize(("rate", "steps", "warning"), SCHEDULES)
@pytest.mark.parametrize("make_optimizer", [optim.sgd, nested])
def test_a_schedule_whose_length_differs_from_the_run_has_a_warning(
    rate, steps, warning, make_optimizer
):
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    scheduled = train.recipe(nn.dense(1), make_optimizer(rate), loss=squared_error)
    lines = preflight(scheduled, (x, x[:, :1]), (1,), None, steps)
    found = [line for line in lines if "schedule" in line]
    assert len(found) == (warning is not None)
    if warning:
        assert found[0].startswith("!!")
        assert warning in found[0]
