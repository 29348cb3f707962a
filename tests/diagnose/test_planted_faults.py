"""Real runs with planted faults: the rule that names the fault comes first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, diagnose, nn, objective, optim, train
from fnn.types import Layer, Number
from fnn.values import maker

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
EPOCHS, BATCH = 20, 64
DIGITS = data.digits()


def arrays(part):
    inputs, labels = part
    return jnp.asarray(inputs / np.float32(255)), jnp.asarray(labels)


TRAIN, VALID = arrays(DIGITS.train), arrays(DIGITS.test)
STEPS = len(TRAIN[1]) // BATCH * EPOCHS


@maker
def shift(by: Number = 0.0) -> Layer:
    """Add a number."""

    def apply(params, state, x, *, key=None, train=False):
        return x + by, state

    return Layer(lambda key, shape: ({}, {}, shape), apply)


@maker
def stop() -> Layer:
    """Stop the gradient."""
    return nn.elementwise(jax.lax.stop_gradient)


def network(scale=1.0, head_scale=1.0, bias=0.0, activation=None, middle=None):
    between = nn.relu() if activation is None else activation
    layers = []
    for index in range(3):
        layers.append(nn.dense(32, kernel_init=nn.variance_scaling(scale)))
        layers.append(middle if middle is not None and index == 1 else shift(bias))
        layers.append(between)
    head = nn.dense(10, kernel_init=nn.variance_scaling(head_scale))
    return nn.chain(nn.flatten(), *layers, head)


def schedule(peak=3e-3, shape=lambda share: 1 - share):
    share = np.arange(STEPS) / STEPS
    return optim.table(jnp.asarray(peak * shape(share), jnp.float32))


def recipe(built=None, rate=None, penalty=0.0, **options):
    built = network() if built is None else built
    rate = schedule() if rate is None else rate
    return train.recipe(
        built,
        optim.adam(rate),
        regularizer=objective.l2(penalty),
        on_nonfinite="ignore",
        **options,
    )


def examined(built, shown=TRAIN, valid=VALID, epochs=EPOCHS, **options):
    result = train.run(KEY, built, shown, epochs=epochs, batch_size=BATCH, valid=valid)
    # The rules of the preflight have tests of their own.
    given = {"valid": valid, "batch_size": BATCH, "preflight": False} | options
    return diagnose.examine(built, result, shown, **given)


def permuted(labels, share=1.0):
    draws = np.random.default_rng(0)
    chosen = draws.random(len(labels)) < share
    return jnp.asarray(np.where(chosen, draws.permutation(labels), labels))


def cut(share):
    return np.where(share < 0.1, 1.0, 0.01)


def burst(share):
    return np.where((share > 0.1) & (share < 0.12), 300.0, 1 - share)


# Faults that are numbers or data: one program of the run, and one of the examination.
NUMBERS = {
    "T04": lambda: examined(recipe(rate=schedule(1.0))),
    "T05": lambda: examined(recipe(rate=schedule(1e-5))),
    "T06": lambda: examined(recipe(network(bias=-12.0))),
    "T12": lambda: examined(recipe(rate=schedule(1e-3, cut))),
    "T15": lambda: examined(recipe(penalty=1.0)),
    "T03": lambda: examined(recipe(network(scale=1e-4, head_scale=1e-4))),
    "T11": lambda: examined(recipe(network(head_scale=1e4))),
    "P14": lambda: examined(recipe(), (TRAIN[0], permuted(TRAIN[1]))),
    "E07": lambda: examined(recipe(), (TRAIN[0], permuted(TRAIN[1], 0.3))),
}


@pytest.mark.parametrize("id", NUMBERS)
def test_a_fault_of_numbers_or_data_is_named_first(id):
    findings = NUMBERS[id]()
    assert findings[0].id == id, findings


def few(part, count):
    return tuple(array[:count] for array in part)


SIGMOIDS = nn.chain(
    nn.flatten(), *[nn.chain(nn.dense(32), nn.sigmoid()) for _ in range(8)], nn.dense(10)
)
STRUCTURES = {
    "T07": lambda: examined(recipe(network(1e3, activation=nn.tanh()))),
    "T03": lambda: examined(recipe(SIGMOIDS, schedule(1e-3))),
    "P09": lambda: examined(recipe(network(middle=stop()))),
    "T16": lambda: examined(recipe(network(middle=nn.batch_norm(momentum=0.9995)))),
    "E01": lambda: examined(recipe(), few(TRAIN, 128), epochs=100),
    "E02": lambda: examined(recipe(nn.chain(nn.flatten(), nn.dense(1), nn.tanh(), nn.dense(10)))),
}


@pytest.mark.parametrize("id", STRUCTURES)
def test_a_fault_of_the_structure_is_named_first(id):
    findings = STRUCTURES[id]()
    assert findings[0].id == id, findings


def test_the_rules_of_the_preflight_name_the_cause_of_what_a_run_shows():
    findings = examined(recipe(network(bias=-12.0)), preflight=True)
    assert (findings[0].id, findings[0].layer) == ("T06", "relu_3")
    raw, raw_valid = [(inputs * 255, labels) for inputs, labels in (TRAIN, VALID)]
    findings = examined(recipe(), raw, raw_valid, preflight=True)
    assert findings[0].id == "P02"
    assert not findings.errors


def test_healthy_runs_have_no_error_and_no_warning():
    for peak in (1e-3, 3e-3, 1e-2):
        for shape in (np.ones_like, lambda share: 1 - share, lambda s: 0.1 ** np.floor(3 * s)):
            findings = examined(recipe(rate=schedule(peak, shape)))
            assert not findings.errors and not findings.warnings, (peak, findings)
