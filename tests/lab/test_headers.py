"""What is told before the first step: the facts, and what looks wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train
from fnn.lab.headers import header, preflight
from fnn.objective import cross_entropy, squared_error
from fnn.train.task import make_task

digits = data.digits()
network = nn.chain(nn.flatten(), nn.dense(10), nn.batch_norm())


def task(targets, loss=cross_entropy, prepare=data.to_float):
    return make_task(network, targets, optim.adam(1e-3), loss, None, prepare=prepare)


def ticks(inputs, targets, out_shape=(10,), first_loss=None, **options):
    return [
        line.split(maxsplit=1) for line in preflight(task(targets, **options), (inputs, targets), out_shape, first_loss)
    ]


def test_the_header_tells_the_facts(key):
    train_state = train.start(key, network, optim.adam(1e-3), (8, 8, 1))
    lines = dict(line.split(maxsplit=1) for line in header(train_state, digits.train, digits.test, "3 epochs"))
    assert list(lines) == ["network", "optimizer", "data", "run", "on"]
    assert lines["network"] == "670 parameters in 4 arrays, 20 numbers of state"  # 64 * 10 + 10 + 10 + 10
    assert lines["optimizer"] == "1,342 numbers of memory"  # two a parameter, a count and a rate
    assert lines["data"] == "1,433 inputs uint8[8,8,1]; 364 to validate by"
    assert lines["run"] == "3 epochs; seed 0"
    assert "float32" in lines["on"] and jax.__version__ in lines["on"]


@pytest.mark.parametrize(("seed", "told"), [(7, "seed 7"), (2**32 - 1, "seed 4294967295")])
def test_the_seed_is_the_number_that_was_given(seed, told, key):
    train_state = train.start(jax.random.key(seed), network, optim.sgd(0.1), (8, 8, 1))
    assert told in list(header(train_state, digits.train, None, "a run"))[3]
    folded = train_state._replace(key=jax.random.fold_in(key, 1))
    assert "; key " in list(header(folded, digits.train, None, "a run"))[3]


def test_a_run_that_begins_well_has_ticks():
    images, labels = (jnp.asarray(part) for part in digits.train)
    (loss, inputs, balance) = ticks(images, labels, first_loss=2.4)
    assert loss == ["ok", "loss before training 2.40 (log 10 = 2.30)"]
    x = data.to_float(images[:1024])
    assert inputs == ["ok", f"inputs in [0, 1], mean {x.mean():.2g}, deviation {x.std():.2g}"]
    counts = np.bincount(labels)
    assert balance == ["ok", f"labels of 10 classes, {counts.min()} to {counts.max()} examples each"]


def test_what_looks_wrong_is_told():
    images, labels = (jnp.asarray(part) for part in digits.train)
    rare = jnp.where(jnp.arange(len(labels)) < 1000, 0, labels)
    (loss, inputs, balance) = ticks(images, rare, first_loss=4.0, prepare=lambda x: x.astype(float))
    assert [loss[0], inputs[0], balance[0]] == ["!!"] * 3
    assert "smaller last layer" in loss[1] and "data.standardize" in inputs[1] and "class_weighted" in balance[1]


def test_what_is_no_classification_has_no_such_ticks():
    x = jnp.linspace(-2, 2, 400).reshape(100, 4)
    assert [label for label, _ in ticks(x, x[:, :1], (1,), 3.0, loss=squared_error)] == ["ok"]
    assert ticks((x, x), x[:, :1], (1,), None, loss=squared_error) == []
    tokens = jnp.zeros((100, 7), jnp.int32)
    assert ticks(tokens, x[:, :1], (1,), None, loss=squared_error, prepare=lambda x: x) == []
