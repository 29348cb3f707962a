"""`fit` gives the bits of `train.run`, prints, stops early, and checks its arguments."""

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


def first_examples(count):
    """The first examples for training and for validation."""
    train_data, valid_data = ((images[:count], labels[:count]) for images, labels in digits)
    return train_data, valid_data


def bits(tree):
    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(raw, tree)


@pytest.mark.slow
@pytest.mark.parametrize("network", networks.values(), ids=networks)
@pytest.mark.parametrize(
    ("examples", "epochs", "has_valid"), [(64, 1, True), (64, 3, False), (150, 2, True)]
)
def test_fit_gives_the_bits_of_run(network, examples, epochs, has_valid, key):
    train_data, _ = first_examples(examples)
    _, valid_data = first_examples(70)
    recipe = train.recipe(network, optimizer, augment=augment.flip_lr())
    valid = valid_data if has_valid else None
    options = {"epochs": epochs, "batch_size": 64, "valid": valid}
    expected = bits(train.run(key, recipe, train_data, **options))
    for chunk in (1, None):
        result = lab.fit(key, recipe, train_data, chunk=chunk, show=False, **options)
        chex.assert_trees_all_equal(bits(result), expected)


@pytest.mark.slow
def test_a_chunk_may_exceed_the_capacity_of_a_segment(key):
    """1,200 steps in epochs of two, because XLA unrolls a loop of one step."""
    train_data, valid_data = first_examples(32)
    recipe = recipes["softmax regression"]
    options = {"epochs": 600, "batch_size": 16, "valid": valid_data}
    expected = bits(train.run(key, recipe, train_data, **options))
    result = lab.fit(key, recipe, train_data, chunk=5000, show=False, **options)
    chex.assert_trees_all_equal(bits(result), expected)


@pytest.mark.slow
def test_a_second_fit_compiles_nothing(key):
    # Once for init and the checks, once for steps, once for validation.
    counted = chex.assert_max_traces(lambda x: x + 0, n=3)
    network = nn.chain(nn.flatten(), nn.elementwise(counted), nn.dense(10))
    for _ in range(2):
        train_data, _ = first_examples(64)
        recipe = train.recipe(network, optimizer)
        options = {"epochs": 1, "batch_size": 32, "valid": train_data, "show": False}
        lab.fit(key, recipe, train_data, **options)


@pytest.mark.slow
def test_the_output_has_a_header_checks_a_table_and_a_summary(key, capsys):
    train_data, _ = first_examples(256)
    schedule = optim.cosine(1e-2, steps=8, warmup_steps=3)
    recipe = train.recipe(networks["perceptron"], optim.adam(schedule))
    lab.fit(key, recipe, train_data, epochs=2, batch_size=64, valid=train_data)
    lines = capsys.readouterr().err.splitlines()
    labels = [line.split()[0] for line in lines]
    header = ["network", "optimizer", "data", "run", "on"]
    checks = ["compiled", "ok", "ok", "ok"]
    assert labels == [*header, *checks, "epoch", "1", "2", "ended", "best", "took"]
    figures = ["loss", "accuracy", "rate", "valid_accuracy", "valid_loss"]
    assert lines[labels.index("epoch")].split() == ["epoch", *figures, "seconds", "best"]
    assert "2 epochs of 4 steps on 64 examples each: 8 steps; seed 0" in lines[3]


@pytest.mark.slow
def test_a_run_without_progress_ends_with_the_finding(key, capsys):
    train_data, _ = first_examples(256)
    recipe = train.recipe(networks["perceptron"], optim.adam(optim.cosine(1e-9, steps=20)))
    lab.fit(key, recipe, train_data, epochs=5, batch_size=64)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("!!")]
    assert "T13 no_progress" in line


@pytest.mark.slow
def test_show_false_prints_nothing(key, capsys):
    train_data, _ = first_examples(64)
    lab.fit(key, recipes["perceptron"], train_data, epochs=1, batch_size=32, show=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.slow
def test_ctrl_c_returns_the_result_so_far_and_the_handler_is_restored(key):
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    options = {"epochs": 10**6, "batch_size": 64, "show": False}
    result = lab.fit(key, recipes["softmax regression"], digits.train, **options)
    timer.join()
    step = int(result.train_state.step)
    assert 0 <= step < 22 * 10**6
    assert result.history.loss.shape == (step,)
    chex.assert_tree_all_finite(result.train_state.params)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_complete_run_that_is_resumed_does_no_step(key):
    train_data, _ = first_examples(64)
    recipe = recipes["perceptron"]
    options = {"batch_size": 32, "show": False}
    whole = lab.fit(key, recipe, train_data, epochs=2, **options)
    options["resume"] = whole.train_state
    again = lab.fit(key, recipe, train_data, epochs=2, **options)
    chex.assert_trees_all_equal(bits(again.train_state), bits(whole.train_state))
    assert again.history.loss.shape == (0,)
    message = "resume: expected a train state within the 2 steps, got step 4"
    with pytest.raises(ConfigError, match=message):
        lab.fit(key, recipe, train_data, epochs=1, **options)


@pytest.mark.slow
def test_early_stopping_gives_the_bits_of_run(key):
    train_data, valid_data = first_examples(128)
    stopping = train.early_stopping(2)
    recipe = train.recipe(networks["perceptron"], optim.adam(3e-2), early_stopping=stopping)
    options = {"epochs": 40, "batch_size": 32, "valid": valid_data}
    expected = bits(train.run(key, recipe, train_data, **options))
    result = lab.fit(key, recipe, train_data, show=False, **options)
    chex.assert_trees_all_equal(bits(result), expected)
    assert 2 < result.history.valid_loss.size < 40


@pytest.mark.slow
def test_with_early_stopping_a_run_resumes_from_its_last_state(key):
    """The result holds the best train state, not the last."""
    train_data, valid_data = first_examples(128)
    stopping = train.early_stopping(3)
    recipe = train.recipe(networks["perceptron"], optim.adam(3e-2), early_stopping=stopping)
    options = {"batch_size": 32, "valid": valid_data, "show": False}
    whole = lab.fit(key, recipe, train_data, epochs=12, **options)
    for epochs in (2, 5, 12):
        first = lab.fit(key, recipe, train_data, epochs=epochs, **options)
        rest = lab.fit(key, recipe, train_data, epochs=12, resume=first.train_state, **options)
        chex.assert_trees_all_equal(bits(rest.train_state), bits(whole.train_state))
        joined = np.concatenate([first.history.valid_loss, rest.history.valid_loss])
        np.testing.assert_array_equal(joined, whole.history.valid_loss)


@pytest.mark.slow
def test_early_stopping_may_begin_when_a_run_without_it_is_resumed(key):
    train_data, valid_data = first_examples(128)
    plain = train.recipe(networks["perceptron"], optim.adam(3e-2))
    options = {"batch_size": 32, "valid": valid_data}
    before = train.run(key, plain, train_data, epochs=3, **options).train_state
    options["resume"] = before
    recipe = plain.replace(early_stopping=train.early_stopping(2))
    expected = train.run(key, recipe, train_data, epochs=37, **options)
    result = lab.fit(key, recipe, train_data, epochs=40, show=False, **options)
    chex.assert_trees_all_equal(bits(result), bits(expected))
    assert 2 < result.history.valid_loss.size < 37


CHECKPOINTS = r"checkpoints: expected a directory, or the value of lab.checkpoint_policy\(...\), "
STORE = (
    r"got lab.checkpoint_store\(...\), a store for use without lab.fit; "
    r"give the directory, or lab.checkpoint_policy\(directory\)"
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resume": True}, "resume: expected checkpoints to resume from, got None"),
        ({"resume": 7}, "resume: expected True, False or a train state, got 7"),
        (
            {"steps_per_epoch": 3},
            "steps_per_epoch: expected an iterable of batches as data, got arrays",
        ),
        ({"batch_size": None}, "batch_size: expected a whole number, got None"),
        ({"max_steps": 1.5}, "max_steps: expected a whole number, got 1.5"),
        ({"max_seconds": -1}, "max_seconds: expected a number in"),
        ({"checkpoints": 3}, CHECKPOINTS + "got 3"),
        ({"checkpoints": lab.checkpoint_store("run")}, CHECKPOINTS + STORE),
        ({"callback": 3}, "callback: expected a function of"),
        ({"log_every": 0}, "log_every: expected >= 1, got 0"),
        ({"log": 3}, "log: expected a log, or a function"),
        ({"show": "yes"}, "show: expected True or False, got 'yes'"),
    ],
)
def test_wrong_arguments_raise_before_anything_is_printed(key, change, message, capsys):
    train_data, _ = first_examples(64)
    options = {"epochs": 1, "batch_size": 32} | change
    with pytest.raises(ConfigError, match=message):
        lab.fit(key, recipes["perceptron"], train_data, **options)
    assert capsys.readouterr().err == ""


def test_an_open_store_as_checkpoints_raises(key, tmp_path):
    train_data, _ = first_examples(64)
    options = {"epochs": 1, "batch_size": 32}
    with lab.checkpoint_store(tmp_path) as store, pytest.raises(ConfigError, match=STORE):
        lab.fit(key, recipes["perceptron"], train_data, checkpoints=store, **options)
