"""The header and the checks before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.lab.console.preflight import header, preflight
from fnn.objective import squared_error
from fnn.types import TrainState

digits = data.digits()
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10), nn.batch_norm()), optim.adam(1e-3))

# The checks read the shapes of the parameters alone.
STATE = TrainState({}, {}, (), 0, jax.random.key(0))


def check(inputs, targets, out_shape=(10,), first_loss=None, **changes):
    """Label and text of each check."""
    changed = recipe.replace(**changes)
    lines = preflight(changed, STATE, (inputs, targets), out_shape, first_loss)
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
        first_loss=5.0,
        prepare=lambda x: x.astype(float),
    )
    assert [loss[0], inputs[0], balance[0]] == ["!!"] * 3
    assert "smaller last layer" in loss[1]
    assert "divide by the deviation [" in inputs[1]
    assert "class_weighted" in balance[1]


def test_the_targets_of_a_language_model_have_no_check_of_balance():
    text = jnp.asarray(data.characters("aab").encode("aab" * 99 + "aaaa"))
    inputs, targets = data.windows(text, 4)
    network = nn.chain(nn.embed(2, 4), nn.dense(2))
    (loss,) = check(inputs, targets, (4, 2), 0.7, network=network, prepare=lambda x: x)
    assert loss[0] == "ok"


def test_regression_has_no_checks_of_classes_and_integers_none_of_range():
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    y = x[:, :1]
    labels = [label for label, _ in check(x, y, (1,), 3.0, loss=squared_error)]
    assert labels == ["ok"]
    labels = [label for label, _ in check((x, x), y, (1,), None, loss=squared_error)]
    assert labels == ["ok", "ok"]
    tokens = jnp.zeros((100, 7), jnp.int32)
    assert check(tokens, y, (1,), None, loss=squared_error, prepare=lambda x: x) == []


def test_the_lines_are_those_of_the_rules():
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    network = nn.chain(nn.dense(8), nn.dense(8), nn.relu(), nn.dense(1))
    scheduled = recipe.replace(
        network=network, optimizer=optim.sgd(optim.linear(1e-2, steps=440)), loss=squared_error
    )
    train_state = train.start(jax.random.key(0), scheduled, (4,))
    lines = list(preflight(scheduled, train_state, (x, x[:, :1]), (1,), None, 110))
    assert [line.split(maxsplit=1)[0] for line in lines] == ["ok", "!!", "!!"]
    assert lines[1].endswith("of 440 steps: give it steps=110, or train longer [P19]")
    assert "dense_0 and dense_1 have no nonlinearity between them" in lines[2]
