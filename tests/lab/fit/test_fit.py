"""A run with doors: the same numbers as the run, told on the way, stopped and resumed."""

import os
import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import ConfigError

digits = data.digits()
networks = {
    "softmax regression": nn.chain(nn.flatten(), nn.dense(10)),
    "perceptron": nn.chain(
        nn.flatten(), nn.dense(16), nn.batch_norm(), nn.relu(), nn.dropout(0.2), nn.dense(10)
    ),
    "convolutional": nn.chain(
        nn.conv(4, stride=2), nn.gelu(), nn.avg_pool(), nn.flatten(), nn.dense(10)
    ),
}
optimizer = optim.adam(optim.cosine(1e-2, steps=20, warmup_steps=3))
recipes = {name: train.recipe(network, optimizer) for name, network in networks.items()}


def bits(tree):
    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(raw, tree)


@pytest.mark.parametrize("network", networks.values(), ids=networks)
@pytest.mark.parametrize(
    ("examples", "epochs", "valid"), [(64, 1, True), (64, 3, False), (150, 2, True)]
)
def test_fit_is_the_run_to_the_last_bit(network, examples, epochs, valid, key):
    few = (digits.train[0][:examples], digits.train[1][:examples])
    some = (digits.test[0][:70], digits.test[1][:70])
    recipe = train.recipe(network, optimizer, augment=augment.flip_lr())
    options = {"epochs": epochs, "batch_size": 64, "valid": some if valid else None}
    wanted = bits(train.run(key, recipe, few, **options))
    for chunk in (1, None):
        chex.assert_trees_all_equal(
            bits(lab.fit(key, recipe, few, chunk=chunk, show=False, **options)), wanted
        )


def test_more_steps_than_one_call_has_room_for(key):
    """1,200 steps, all of which a chunk may have; an epoch has two, for a loop of one step XLA takes apart."""
    few, some = ((images[:32], labels[:32]) for images, labels in digits)
    options = {"epochs": 600, "batch_size": 16, "valid": some}
    wanted = bits(train.run(key, recipes["softmax regression"], few, **options))
    got = lab.fit(key, recipes["softmax regression"], few, chunk=5000, show=False, **options)
    chex.assert_trees_all_equal(bits(got), wanted)


def test_a_second_fit_compiles_nothing(key):
    touch = chex.assert_max_traces(
        lambda x: x + 0, n=3
    )  # once for init and check, once for steps, once for validation
    network = nn.chain(nn.flatten(), nn.elementwise(touch), nn.dense(10))
    for _ in range(2):
        few = (digits.train[0][:64], digits.train[1][:64])
        lab.fit(
            key,
            train.recipe(network, optimizer),
            few,
            epochs=1,
            batch_size=32,
            valid=few,
            show=False,
        )


def test_it_tells_what_goes_on_in_plain_lines(key, capsys):
    few = (digits.train[0][:256], digits.train[1][:256])
    recipe = train.recipe(
        networks["perceptron"], optim.adam(optim.cosine(1e-2, steps=8, warmup_steps=3))
    )
    lab.fit(key, recipe, few, epochs=2, batch_size=64, valid=few)
    lines = capsys.readouterr().err.splitlines()
    labels = [line.split()[0] for line in lines]
    top = ["network", "optimizer", "data", "run", "on", "compiled", "ok", "ok", "ok"]
    assert labels == [*top, "epoch", "1", "2", "ended", "best", "took"]
    columns = [
        "epoch",
        "loss",
        "accuracy",
        "rate",
        "valid_accuracy",
        "valid_loss",
        "seconds",
        "best",
    ]
    assert lines[labels.index("epoch")].split() == columns
    assert "2 epochs of 4 steps on 64 examples each: 8 steps; seed 0" in lines[3]


def test_it_is_silent_when_told_so(key, capsys):
    few = (digits.train[0][:64], digits.train[1][:64])
    lab.fit(key, recipes["perceptron"], few, epochs=1, batch_size=32, show=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_ctrl_c_returns_what_there_is_and_the_handler_is_put_back(key):
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    options = {"epochs": 10**6, "batch_size": 64, "show": False}
    result = lab.fit(key, recipes["softmax regression"], digits.train, **options)
    timer.join()
    done = int(result.train_state.step)
    assert 0 <= done < 22 * 10**6
    assert result.history.loss.shape == (done,)
    chex.assert_tree_all_finite(result.train_state.params)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_resumed_is_done(key):
    few = (digits.train[0][:64], digits.train[1][:64])
    options = {"epochs": 2, "batch_size": 32, "show": False}
    whole = lab.fit(key, recipes["perceptron"], few, **options)
    again = lab.fit(key, recipes["perceptron"], few, resume=whole.train_state, **options)
    chex.assert_trees_all_equal(bits(again.train_state), bits(whole.train_state))
    assert again.history.loss.shape == (0,)
    with pytest.raises(
        ConfigError, match="resume: expected a train state within the 2 steps, got step 4"
    ):
        lab.fit(
            key, recipes["perceptron"], few, resume=whole.train_state, **options | {"epochs": 1}
        )


def test_early_stopping_is_that_of_the_run(key):
    few, some = ((images[:128], labels[:128]) for images, labels in digits)
    recipe = train.recipe(
        networks["perceptron"], optim.adam(3e-2), early_stopping=train.early_stopping(2)
    )
    options = {"epochs": 40, "batch_size": 32, "valid": some}
    wanted = bits(train.run(key, recipe, few, **options))
    result = lab.fit(key, recipe, few, show=False, **options)
    chex.assert_trees_all_equal(bits(result), wanted)
    assert 2 < result.history.valid_loss.size < 40


def test_a_run_that_early_stopping_has_ended_or_might_end_is_resumed_where_it_stood(key):
    """Its train state is the best one, not the last."""
    few, some = ((images[:128], labels[:128]) for images, labels in digits)
    recipe = train.recipe(
        networks["perceptron"], optim.adam(3e-2), early_stopping=train.early_stopping(3)
    )
    options = {"batch_size": 32, "valid": some, "show": False}
    whole = lab.fit(key, recipe, few, epochs=12, **options)
    for epochs in (2, 5, 12):
        first = lab.fit(key, recipe, few, epochs=epochs, **options)
        rest = lab.fit(key, recipe, few, epochs=12, resume=first.train_state, **options)
        chex.assert_trees_all_equal(bits(rest.train_state), bits(whole.train_state))
        joined = np.concatenate([first.history.valid_loss, rest.history.valid_loss])
        np.testing.assert_array_equal(joined, whole.history.valid_loss)


def test_early_stopping_may_begin_where_a_run_without_it_is_gone_on_with(key):
    few, some = ((images[:128], labels[:128]) for images, labels in digits)
    plain = train.recipe(networks["perceptron"], optim.adam(3e-2))
    options = {"batch_size": 32, "valid": some}
    before = train.run(key, plain, few, epochs=3, **options).train_state
    recipe = plain.replace(early_stopping=train.early_stopping(2))
    wanted = train.run(key, recipe, few, epochs=37, resume=before, **options)
    result = lab.fit(key, recipe, few, epochs=40, resume=before, show=False, **options)
    chex.assert_trees_all_equal(bits(result), bits(wanted))
    assert 2 < result.history.valid_loss.size < 37


STORE = (
    r"checkpoints: expected a directory, or what lab.checkpoint_policy gives, got lab.checkpoints\(\.\.\.\), a store of its own; "
    r"give the directory, or lab.checkpoint_policy\(directory\)"
)


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ({"resume": True}, "resume: expected checkpoints to go on from, got None"),
        ({"resume": 7}, "resume: expected True, False or a train state, got 7"),
        (
            {"steps_per_epoch": 3},
            "steps_per_epoch: expected an iterable of batches as data, got arrays",
        ),
        ({"batch_size": None}, "batch_size: expected a whole number, got None"),
        ({"max_steps": 1.5}, "max_steps: expected a whole number, got 1.5"),
        ({"max_seconds": -1}, "max_seconds: expected a number in"),
        (
            {"checkpoints": 3},
            "checkpoints: expected a directory, or what lab.checkpoint_policy gives, got 3",
        ),
        ({"checkpoints": lab.checkpoint_store("run")}, STORE),
        ({"callback": 3}, "callback: expected a function of"),
        ({"log_every": 0}, "log_every: expected >= 1, got 0"),
        ({"log": 3}, "log: expected a log, or a function"),
        ({"show": "yes"}, "show: expected True or False, got 'yes'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_done(key, mistake, told, tmp_path, capsys):
    few = (digits.train[0][:64], digits.train[1][:64])
    options = {"epochs": 1, "batch_size": 32} | mistake
    with pytest.raises(ConfigError, match=told):
        lab.fit(key, recipes["perceptron"], few, **options)
    assert capsys.readouterr().err == ""


def test_a_store_that_is_open_is_no_place_to_keep_a_run_in(key, tmp_path):
    few = (digits.train[0][:64], digits.train[1][:64])
    with lab.checkpoint_store(tmp_path) as store, pytest.raises(ConfigError, match=STORE):
        lab.fit(key, recipes["perceptron"], few, epochs=1, batch_size=32, checkpoints=store)
