"""Losses match the values and gradients of optax; losses.py compares those of torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import objective

pytestmark = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 20
TOLERANCE = 1e-12
LABELS = np.array([0, 4, 2, 2, 1, 3])
PAIRED = np.array([0, 1, 2, 0, 1, 2])
LENGTHS = np.array([3, 2, 1, 3, 2, 0])
WORDS = np.array([[1, 2, 3], [2, 2, 1], [4, 1, 1], [1, 3, 1], [4, 4, 4], [1, 1, 1]])


def smoothed(logits, target, smoothing):
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(target, smoothing))


def smoothed_binary(logits, smoothing):
    targets = (1 - smoothing) * jnp.eye(5)[LABELS] + smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(1)


def ctc_of_words(logits, number):
    is_padding = jnp.array(np.arange(3)[None] >= LENGTHS[:, None], float)
    no_padding = jnp.zeros(logits.shape[:2])
    return optax.ctc_loss(logits, no_padding, WORDS, is_padding, log_epsilon=-1e30)


# For each case: the shape of the outputs, and the losses of fnn and optax as functions of the
# outputs and a number in (0, 1).
CASES = {
    "cross_entropy": (
        (6, 5),
        lambda x, s: objective.cross_entropy(x, jnp.array(LABELS), label_smoothing=s),
        lambda x, s: smoothed(x, jnp.eye(5)[LABELS], s),
    ),
    "cross_entropy of probabilities": (
        (6, 5),
        lambda x, s: objective.cross_entropy(x, jnp.eye(5)[LABELS] / 2 + 0.1, label_smoothing=s),
        lambda x, s: smoothed(x, jnp.eye(5)[LABELS] / 2 + 0.1, s),
    ),
    "binary_cross_entropy": (
        (6, 5),
        lambda x, s: objective.binary_cross_entropy(x, jnp.eye(5)[LABELS], label_smoothing=s),
        smoothed_binary,
    ),
    "hinge": (
        (6, 5),
        lambda x, s: objective.hinge(x, jnp.array(LABELS), margin=s).sum(),
        lambda x, s: jnp.sum(jnp.maximum(0, x - x[np.arange(6), LABELS][:, None] + s)) - 6 * s,
    ),
    "huber": (
        (6, 5),
        lambda x, s: objective.huber(x, jnp.ones((6, 5)), delta=s),
        lambda x, s: optax.huber_loss(x, jnp.ones((6, 5)), delta=s).mean(1),
    ),
    "log_cosh": (
        (6, 5),
        lambda x, s: objective.log_cosh(x, jnp.ones((6, 5))),
        lambda x, s: optax.log_cosh(x, jnp.ones((6, 5))).mean(1),
    ),
    "cosine": (
        (6, 5),
        lambda x, s: objective.cosine(x, jnp.cos(jnp.arange(30.0).reshape(6, 5))),
        lambda x, s: optax.cosine_distance(x, jnp.cos(jnp.arange(30.0).reshape(6, 5))),
    ),
    "kl_divergence": (
        (6, 5),
        lambda x, s: objective.kl_divergence(x, jnp.eye(5)[LABELS] / 2 + 0.1),
        lambda x, s: optax.kl_divergence(jax.nn.log_softmax(x), jnp.eye(5)[LABELS] / 2 + 0.1),
    ),
    "nt_xent": (
        (6, 5),
        lambda x, s: objective.nt_xent(x, jnp.array(PAIRED), temperature=0.1 + s).mean(),
        lambda x, s: optax.ntxent(x, jnp.array(PAIRED), temperature=0.1 + s),
    ),
    "ctc": (
        (6, 7, 5),
        lambda x, s: objective.ctc(x, (jnp.array(WORDS), jnp.array(LENGTHS))),
        ctc_of_words,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_matches_optax(name, peer):
    shape, ours, theirs = CASES[name]
    ours, theirs = (jax.jit(partial(differentiated, loss)) for loss in (ours, theirs))
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        outputs = jnp.array(10 ** draw.uniform(-1, 1) * draw.normal(size=shape))
        number, weight = jnp.array(draw.uniform(0.01, 1)), jnp.array(draw.normal(size=6))
        got = ours(outputs, number, weight)
        with peer():
            wanted = theirs(outputs, number, weight)
        for one, other in zip(got, wanted, strict=True):
            atol = TOLERANCE * max(1, np.abs(other).max())
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def differentiated(loss, outputs, number, weight):
    values, pull = jax.vjp(lambda outputs: loss(outputs, number), outputs)
    return values, *pull(weight[: values.size].reshape(values.shape))
