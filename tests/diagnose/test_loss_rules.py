"""Rules on the loss and the outputs of an untrained network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.diagnose.heads import heads
from fnn.diagnose.loss_rules import check_first_loss, function_findings, output_findings

draw = np.random.default_rng(0)
LABELS = draw.integers(0, 10, 400).astype(np.int32)
LOGITS = draw.normal(size=(400, 10)).astype(np.float32)
BITS = draw.integers(0, 2, (400, 3)).astype(np.float32)
TARGETS = draw.normal(size=(400, 2)).astype(np.float32)
SHARES = np.asarray(jax.nn.softmax(LOGITS))


def found(outputs, targets, loss, last=None):
    network = nn.chain(nn.dense(10), *([] if last is None else [last]))
    recipe = train.recipe(network, optim.sgd(0.1), loss=loss)
    all_heads = heads(recipe, outputs, targets)
    everything = [*output_findings(recipe, all_heads), *function_findings(recipe, all_heads[0])]
    return [(one.name, one.severity) for one in everything]


def own_cross_entropy(outputs, labels):
    return objective.cross_entropy(outputs, labels)


def negative(outputs, labels):
    return -objective.cross_entropy(outputs, labels)


def over_the_batch(outputs, labels):
    log_probabilities = jax.nn.log_softmax(outputs, axis=0)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], 1)[:, 0]


def summed(outputs, labels):
    total = objective.cross_entropy(outputs, labels).sum()
    return jnp.broadcast_to(total, labels.shape)


def own_squared_error(outputs, targets):
    return jnp.square(outputs - targets).mean(-1)


def negative_squared_error(outputs, targets):
    return -jnp.square(outputs - targets).mean(-1)


smooth = objective.cross_entropy(label_smoothing=0.1)
HEALTHY = {
    "logits": (LOGITS, LABELS, smooth, None),
    "zeros": (0 * LOGITS, LABELS, objective.cross_entropy, None),
    "positive logits": (LOGITS + 9, LABELS, objective.cross_entropy, None),
    "text": (LOGITS.reshape(40, 10, 10), LABELS.reshape(40, 10), objective.cross_entropy, None),
    "bits": (LOGITS[:, :3], BITS, objective.binary_cross_entropy, None),
    "log-probabilities": (np.log(SHARES), LABELS, objective.nll, nn.log_softmax()),
    "regression": (LOGITS[:, :2], TARGETS, objective.squared_error, None),
    "bounded regression": (SHARES[:, :3], BITS, objective.squared_error, nn.sigmoid()),
    "own loss": (LOGITS, LABELS, own_cross_entropy, None),
    "own regression": (LOGITS[:, :2], TARGETS, own_squared_error, None),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_outputs_have_no_finding(name):
    assert found(*HEALTHY[name]) == []


FAULTS = {
    "large logits": (9 * LOGITS, LABELS, smooth, None, "loss_at_init", "warning"),
    "softmax twice": (SHARES, LABELS, smooth, None, "last_activation", "error"),
    "relu": (abs(LOGITS), LABELS, smooth, nn.relu(), "last_activation", "warning"),
    "tanh": (
        np.tanh(LOGITS),
        LABELS,
        objective.cross_entropy,
        nn.tanh(),
        "last_activation",
        "warning",
    ),
    "sigmoid twice": (
        SHARES[:, :3],
        BITS,
        objective.binary_cross_entropy,
        nn.sigmoid(),
        "last_activation",
        "error",
    ),
    "no log_softmax": (LOGITS, LABELS, objective.nll, None, "last_activation", "error"),
    "targets below 0": (
        abs(LOGITS[:, :2]),
        TARGETS,
        objective.squared_error,
        nn.relu(),
        "last_activation",
        "error",
    ),
    "flipped sign": (LOGITS, LABELS, negative, None, "loss_sign", "error"),
    "flipped error": (
        LOGITS[:, :2],
        TARGETS,
        negative_squared_error,
        None,
        "loss_sign",
        "error",
    ),
    "wrong axis": (LOGITS, LABELS, over_the_batch, None, "loss_mixes_examples", "warning"),
    "sum": (LOGITS, LABELS, summed, None, "loss_reduction", "warning"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name):
    *parts, expected, severity = FAULTS[name]
    assert found(*parts) == [(expected, severity)]


def test_outputs_that_know_the_labels_are_a_note():
    known = LOGITS + 4 * np.eye(10, dtype=np.float32)[LABELS]
    assert found(known, LABELS, objective.cross_entropy) == [("loss_at_init", "info")]


def test_chance_is_the_loss_of_permuted_labels():
    recipe = train.recipe(nn.dense(10), optim.sgd(0.1))
    scaled = 5 * LOGITS
    (finding,) = output_findings(recipe, heads(recipe, scaled, LABELS))
    permuted = [objective.cross_entropy(scaled, draw.permutation(LABELS)).mean() for _ in range(30)]
    assert finding.measured["loss"] == pytest.approx(np.mean(permuted), rel=0.02)


def test_heads_are_judged_one_by_one():
    loss = objective.multi_task({"digit": smooth, "size": objective.squared_error})
    recipe = train.recipe(nn.dense(10), optim.sgd(0.1), loss=loss)
    targets = {"digit": LABELS, "size": TARGETS}
    for digit, expected in ((LOGITS, []), (SHARES, ["digit"])):
        outputs = {"digit": digit, "size": LOGITS[:, :2]}
        layers = [one.layer for one in output_findings(recipe, heads(recipe, outputs, targets))]
        assert layers == expected


def test_the_first_loss_is_compared_with_that_of_equal_odds():
    check = check_first_loss(2.4, 10)
    assert check.facts == "loss before training 2.40 (log 10 = 2.30)"
    assert check.findings == ()
    (finding,) = check_first_loss(5.0, 10).findings
    assert finding.name == "loss_at_init"
