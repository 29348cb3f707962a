"""Losses, held against torch: the values, and the gradients of Σ value weight by the outputs."""

from functools import partial

import jax
import numpy as np
import torch
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import objective

BATCH, CLASSES = 6, 5


def drawn(draw, dtype, *shape):
    """Numbers of a size between 1/10 and 10."""
    return (10 ** draw.uniform(-1, 1) * draw.normal(size=shape)).astype(dtype)


def weights(draw, dtype):
    return draw.normal(size=BATCH).astype(dtype)


@partial(jax.jit, static_argnums=0)
def ours(loss, weight, targets, options, *outputs):
    """outputs are the one array, or the several, that the loss takes in."""

    def values(*outputs):
        return loss(outputs if len(outputs) > 1 else outputs[0], targets, **options)

    return differentiated(values)(weight, *outputs)


def both(loss, theirs, weight, targets, *outputs, **options):
    """fnn's and torch's answers; theirs takes in the outputs, as tensors that are differentiated by."""
    return ours(loss, weight, targets, options, *outputs), torch_differentiated(
        theirs, weight, *outputs
    )


def rows(values):
    return values.reshape(BATCH, -1).mean(1)


@family("torch")
def cross_entropy(draw: np.random.Generator, dtype: str):
    labels, probabilities = (
        draw.integers(0, CLASSES, BATCH),
        draw.dirichlet(np.ones(CLASSES), BATCH).astype(dtype),
    )
    targets, smoothing = (
        (labels, probabilities)[draw.integers(2)],
        draw.choice([0.0, draw.uniform(), 1.0]),
    )
    theirs = partial(
        F.cross_entropy,
        target=torch.tensor(targets),
        reduction="none",
        label_smoothing=float(smoothing),
    )
    logits = drawn(draw, dtype, BATCH, CLASSES)
    return both(
        objective.cross_entropy,
        theirs,
        weights(draw, dtype),
        targets,
        logits,
        label_smoothing=smoothing.astype(dtype),
    )


@family("torch")
def weighted_cross_entropy(draw: np.random.Generator, dtype: str):
    """Class weights and an ignored label, in torch's mean."""
    labels, own = draw.integers(0, CLASSES, BATCH), draw.uniform(0.1, 2, CLASSES).astype(dtype)
    labels[draw.random(BATCH) < 0.3] = -100
    labels[0] = 1
    theirs = partial(
        F.cross_entropy, target=torch.tensor(labels), weight=torch.tensor(own), ignore_index=-100
    )
    return both(
        _weighted_mean,
        theirs,
        np.ones((), dtype),
        (labels, own),
        drawn(draw, dtype, BATCH, CLASSES),
    )


def _weighted_mean(logits, targets):
    labels, own = targets
    values, counts = objective.ignoring(
        objective.class_weighted(objective.cross_entropy, own), -100
    )(logits, labels)
    return (values * counts).sum() / counts.sum()


@family("torch")
def nll(draw: np.random.Generator, dtype: str):
    labels = draw.integers(0, CLASSES, BATCH)
    log_p = np.log(draw.dirichlet(np.ones(CLASSES), BATCH)).astype(dtype)
    theirs = partial(F.nll_loss, target=torch.tensor(labels), reduction="none")
    return both(objective.nll, theirs, weights(draw, dtype), labels, log_p)


@family("torch")
def binary_cross_entropy(draw: np.random.Generator, dtype: str):
    targets = draw.integers(0, 2, (BATCH, 3)).astype(dtype)
    targets = (targets, draw.random((BATCH, 3)).astype(dtype))[draw.integers(2)]

    def theirs(logits):
        return rows(
            F.binary_cross_entropy_with_logits(logits, torch.tensor(targets), reduction="none")
        )

    return both(
        objective.binary_cross_entropy,
        theirs,
        weights(draw, dtype),
        targets,
        drawn(draw, dtype, BATCH, 3),
    )


@family("torch")
def focal(draw: np.random.Generator, dtype: str):
    """Written out, for torch has none; p is kept from 1, where the formula as it stands has no slope."""
    labels, gamma = draw.integers(0, CLASSES, BATCH), draw.uniform(0, 4)

    def theirs(logits):
        log_p = F.log_softmax(logits, -1)
        own = F.one_hot(torch.tensor(labels), CLASSES).bool()
        rest = torch.logsumexp(log_p.masked_fill(own, -torch.inf), -1)
        return -torch.exp(gamma * rest) * log_p[own]

    logits = draw.normal(size=(BATCH, CLASSES)).astype(dtype)
    return both(
        objective.focal,
        theirs,
        weights(draw, dtype),
        labels,
        logits,
        gamma=np.asarray(gamma, dtype),
    )


@family("torch")
def hinge(draw: np.random.Generator, dtype: str):
    """torch has the mean over the classes, the true one among them."""
    labels, margin = draw.integers(0, CLASSES, BATCH), draw.uniform(0, 2)

    def theirs(scores):
        return CLASSES * F.multi_margin_loss(
            scores, torch.tensor(labels), margin=margin, reduction="none"
        )

    scores = drawn(draw, dtype, BATCH, CLASSES)
    return both(
        objective.hinge,
        theirs,
        weights(draw, dtype),
        labels,
        scores,
        margin=np.asarray(margin, dtype),
    )


def regression(loss, theirs, draw, dtype, **options):
    """theirs takes in outputs and targets, and gives the loss of each number."""
    targets = drawn(draw, dtype, BATCH, 3, 2)
    outputs, weight = drawn(draw, dtype, BATCH, 3, 2), weights(draw, dtype)
    own = {name: np.asarray(value, dtype) for name, value in options.items()}
    return both(
        loss,
        lambda x: rows(theirs(x, torch.tensor(targets), reduction="none")),
        weight,
        targets,
        outputs,
        **own,
    )


@family("torch")
def squared_error(draw: np.random.Generator, dtype: str):
    return regression(objective.squared_error, F.mse_loss, draw, dtype)


@family("torch")
def absolute_error(draw: np.random.Generator, dtype: str):
    return regression(objective.absolute_error, F.l1_loss, draw, dtype)


@family("torch")
def huber(draw: np.random.Generator, dtype: str):
    delta = draw.uniform(0.1, 3)
    return regression(objective.huber, partial(F.huber_loss, delta=delta), draw, dtype, delta=delta)


@family("torch")
def gaussian_nll(draw: np.random.Generator, dtype: str):
    targets, mean = drawn(draw, dtype, BATCH, 3), drawn(draw, dtype, BATCH, 3)
    variance = draw.uniform(0.5, 3, (BATCH, 3)).astype(dtype)

    def theirs(mean, variance):
        return rows(F.gaussian_nll_loss(mean, torch.tensor(targets), variance, reduction="none"))

    return both(objective.gaussian_nll, theirs, weights(draw, dtype), targets, mean, variance)


@family("torch")
def poisson_nll(draw: np.random.Generator, dtype: str):
    counts, z = (
        draw.poisson(3, (BATCH, 3)).astype(dtype),
        draw.normal(size=(BATCH, 3)).astype(dtype),
    )

    def theirs(z):
        return rows(F.poisson_nll_loss(z, torch.tensor(counts), reduction="none"))

    return both(objective.poisson_nll, theirs, weights(draw, dtype), counts, z)


@family("torch")
def kl_divergence(draw: np.random.Generator, dtype: str):
    q = draw.dirichlet(np.ones(CLASSES), BATCH).astype(dtype)

    def theirs(logits):
        return F.kl_div(F.log_softmax(logits, -1), torch.tensor(q), reduction="none").sum(1)

    return both(
        objective.kl_divergence, theirs, weights(draw, dtype), q, drawn(draw, dtype, BATCH, CLASSES)
    )


@family("torch")
def cosine(draw: np.random.Generator, dtype: str):
    targets, outputs = (draw.normal(size=(BATCH, 4)).astype(dtype) for _ in range(2))

    def theirs(outputs):
        return 1 - F.cosine_similarity(outputs, torch.tensor(targets))

    return both(objective.cosine, theirs, weights(draw, dtype), targets, outputs)


@family("torch")
def triplet(draw: np.random.Generator, dtype: str):
    embeddings = [draw.normal(size=(BATCH, 4)).astype(dtype) for _ in range(3)]
    margin = draw.uniform(0, 3)
    theirs = partial(F.triplet_margin_loss, margin=margin, eps=0, reduction="none")
    targets, own = np.zeros(BATCH, np.int32), np.asarray(margin, dtype)
    return both(objective.triplet, theirs, weights(draw, dtype), targets, *embeddings, margin=own)


@family("torch", scale=2.0)
def ctc(draw: np.random.Generator, dtype: str):
    """Labels that there is time for; the gradient is what is left of log-chances of order 10."""
    labels = draw.integers(1, CLASSES, (BATCH, 2)).astype(np.int32)
    lengths, times = (
        draw.integers(0, 3, BATCH).astype(np.int32),
        draw.integers(4, 6, BATCH).astype(np.int32),
    )
    logits = draw.normal(size=(BATCH, 5, CLASSES)).astype(dtype)

    def theirs(logits):
        log_p, *rest = (
            F.log_softmax(logits, -1).swapaxes(0, 1),
            *map(torch.tensor, (labels, times, lengths)),
        )
        return F.ctc_loss(log_p, *(array.long() for array in rest), reduction="none")

    return both(_ctc, theirs, weights(draw, dtype), (labels, lengths, times), logits)


def _ctc(logits, targets):
    *targets, times = targets
    return objective.ctc((logits, times), tuple(targets))
