"""Examinations of real runs: healthy ones, faulty ones, and misuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, diagnose, nn, optim, train
from fnn.diagnose.run_checks import find_batch_size
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.types import History, Result

KEY = jax.random.key(0)
INPUTS, LABELS = data.synthetic.blobs(jax.random.key(1), 160, classes=3, features=6, spread=0.8)
TRAIN = jnp.asarray(INPUTS[:120]), jnp.asarray(LABELS[:120])
VALID = jnp.asarray(INPUTS[120:]), jnp.asarray(LABELS[120:])
EPOCHS, BATCH = 12, 20


def recipe(rate=0.1):
    network = nn.chain(nn.dense(8), nn.relu(), nn.dense(3))
    return train.recipe(network, optim.sgd(rate), on_nonfinite="ignore")


def run(rate, shown=TRAIN):
    return train.run(KEY, recipe(rate), shown, epochs=EPOCHS, batch_size=BATCH, valid=VALID)


def examine(rate, shown=TRAIN, **options):
    return diagnose.examine(recipe(rate), run(rate, shown), shown, valid=VALID, **options)


@pytest.mark.slow
def test_a_healthy_run_has_no_error_and_no_warning():
    findings = examine(0.1)
    assert not findings.errors and not findings.warnings


@pytest.mark.slow
def test_a_high_rate_a_low_rate_and_shuffled_labels_are_named_first():
    # One program: the faults are numbers and data.
    assert examine(300.0)[0].id in ("T04", "T01")
    assert examine(1e-5)[0].id == "T05"
    shuffled = TRAIN[0], jnp.asarray(np.random.default_rng(0).permutation(TRAIN[1]))
    assert examine(0.1, shuffled)[0].id == "P14"


def test_the_batch_size_follows_from_steps_and_epochs():
    history = {"loss": np.zeros(72), "valid_loss": np.zeros(12)}
    assert find_batch_size(history, TRAIN, None, None) == BATCH
    assert find_batch_size(history, TRAIN, 17, None) == 17
    # 1,280 examples in 20 steps: 61 to 64 examples each, of which 64 is a power of 2.
    many = np.zeros((1280, 1)), np.zeros(1280)
    assert find_batch_size({"loss": np.zeros(40)}, many, None, 2) == 64
    with pytest.raises(ConfigError, match="examine batch_size: expected the batch size"):
        find_batch_size({"loss": np.zeros(72)}, TRAIN, None, None)
    with pytest.raises(ConfigError, match="examine epochs: expected a divisor of the 72 steps"):
        find_batch_size(history, TRAIN, None, 7)


def lanes(array):
    return np.stack([array, array])


MISTAKES = {
    "examine result: expected a Result, or a NonFiniteError": lambda result: result.history,
    "examine result: expected the result of one run, got 2 lanes": lambda result: jax.tree.map(
        lanes, result._replace(train_state=())
    ),
    "examine result: expected a run of at least one step": lambda result: Result(
        result.train_state, History({"loss": np.zeros(0)})
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named(message):
    result = MISTAKES[message](run(0.1))
    with pytest.raises(ConfigError, match=message):
        diagnose.examine(recipe(), result, TRAIN, valid=VALID, batch_size=BATCH)
    with pytest.raises(ConfigError, match="examine thresholds: expected"):
        diagnose.examine(recipe(), run(0.1), TRAIN, thresholds={"gap_level": 1.0})


def test_a_result_of_another_optimizer_and_another_batch_size_are_refused():
    result = run(0.1)
    other = recipe().replace(optimizer=optim.adam(0.1))
    message = r"examine result opt_state: expected the state of optim\.adam\(0\.1\)"
    with pytest.raises(TreeMismatchError, match=message):
        diagnose.examine(other, result, TRAIN, valid=VALID, batch_size=BATCH)
    message = "confirm result opt_state: expected the state of optim"
    with pytest.raises(TreeMismatchError, match=message):
        diagnose.confirm(diagnose.Findings(), other, result, TRAIN, batch_size=BATCH)
    message = f"examine batch_size: expected that of a run of 72 steps in {EPOCHS} epochs, got"
    for size in (BATCH // 2, 2 * BATCH):
        with pytest.raises(ConfigError, match=message):
            diagnose.examine(recipe(), result, TRAIN, valid=VALID, batch_size=size)


@pytest.mark.parametrize("value", ["a", -1.0, float("nan"), None])
def test_a_threshold_is_a_number(value):
    with pytest.raises(ConfigError, match="Thresholds gap_level: expected"):
        diagnose.Thresholds(gap_level=value)


@pytest.mark.slow
def test_a_step_that_was_skipped_is_a_warning_and_the_rest_is_examined():
    result = run(0.1)
    finite = np.ones(72, bool)
    finite[3] = False
    loss = np.where(finite, result.history.loss, np.nan)
    marked = Result(
        result.train_state, History(dict(result.history) | {"loss": loss, "finite": finite})
    )
    skipping = recipe().replace(on_nonfinite="skip")
    (found,) = diagnose.examine(skipping, marked, TRAIN, valid=VALID).warnings
    assert found.id == "T01"
    assert found.steps == (3, 3)


def test_traced_results_are_refused():
    recipe = train.recipe(nn.dense(2), optim.sgd(0.1))
    examples = jnp.zeros((8, 3)), jnp.zeros(8, jnp.int32)

    def run(key):
        result = train.run(key, recipe, examples, epochs=1, batch_size=4)
        return diagnose.examine(recipe, result, examples, batch_size=4)

    with pytest.raises(DTypeError, match="examine: expected known values, got a traced array"):
        jax.jit(run)(jax.random.key(0))
