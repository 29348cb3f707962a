"""Losses, compared with torch: values, and gradients of Σ value weight by the outputs."""

from functools import partial

import jax
import numpy as np
import torch
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import objective

BATCH, CLASSES = 6, 5


def normals(draw, dtype, *shape):
    """Normal numbers with a random scale between 1/10 and 10."""
    return (10 ** draw.uniform(-1, 1) * draw.normal(size=shape)).astype(dtype)


def weights(draw, dtype):
    return draw.normal(size=BATCH).astype(dtype)


@partial(jax.jit, static_argnums=0)
def ours(loss, weight, targets, options, *outputs):
    """Values and gradients of a loss of fnn, whose outputs are one array or several."""

    def values(*outputs):
        return loss(outputs if len(outputs) > 1 else outputs[0], targets, **options)

    return differentiated(values)(weight, *outputs)


def both(loss, theirs, weight, targets, *outputs, **options):
    """Values and gradients of fnn and torch; theirs is a function of the outputs."""
    expected = torch_differentiated(theirs, weight, *outputs)
    return ours(loss, weight, targets, options, *outputs), expected


def rows(values):
    return values.reshape(BATCH, -1).mean(1)


@family("torch")
def cross_entropy(draw: np.random.Generator, dtype: str):
    labels = draw.integers(0, CLASSES, BATCH)
    probabilities = draw.dirichlet(np.ones(CLASSES), BATCH).astype(dtype)
    targets = (labels, probabilities)[draw.integers(2)]
    smoothing = draw.choice([0.0, draw.uniform(), 1.0])
    options = {"reduction": "none", "label_smoothing": float(smoothing)}
    theirs = partial(F.cross_entropy, target=torch.tensor(targets), **options)
    logits = normals(draw, dtype, BATCH, CLASSES)
    weight = weights(draw, dtype)
    smoothing = smoothing.astype(dtype)
    loss = objective.cross_entropy
    return both(loss, theirs, weight, targets, logits, label_smoothing=smoothing)


@family("torch")
def weighted_cross_entropy(draw: np.random.Generator, dtype: str):
    """Class weights and an ignored label, in torch's mean."""
    labels = draw.integers(0, CLASSES, BATCH)
    class_weights = draw.uniform(0.1, 2, CLASSES).astype(dtype)
    labels[draw.random(BATCH) < 0.3] = -100
    labels[0] = 1
    options = {"weight": torch.tensor(class_weights), "ignore_index": -100}
    theirs = partial(F.cross_entropy, target=torch.tensor(labels), **options)
    logits = normals(draw, dtype, BATCH, CLASSES)
    return both(_weighted_mean, theirs, np.ones((), dtype), (labels, class_weights), logits)


def _weighted_mean(logits, targets):
    labels, class_weights = targets
    weighted = objective.class_weighted(objective.cross_entropy, class_weights)
    values, counts = objective.ignoring(weighted, -100)(logits, labels)
    return (values * counts).sum() / counts.sum()


@family("torch")
def nll(draw: np.random.Generator, dtype: str):
    labels = draw.integers(0, CLASSES, BATCH)
    log_p = np.log(draw.dirichlet(np.ones(CLASSES), BATCH)).astype(dtype)
    theirs = partial(F.nll_loss, target=torch.tensor(labels), reduction="none")
    return both(objective.nll, theirs, weights(draw, dtype), labels, log_p)


@family("torch")
def binary_cross_entropy(draw: np.random.Generator, dtype: str):
    labels = draw.integers(0, 2, (BATCH, 3)).astype(dtype)
    probabilities = draw.random((BATCH, 3)).astype(dtype)
    targets = (labels, probabilities)[draw.integers(2)]

    def theirs(logits):
        options = {"pos_weight": torch.tensor(pos_weight), "reduction": "none"}
        wanted = torch.tensor(targets)
        return rows(F.binary_cross_entropy_with_logits(logits, wanted, **options))

    pos_weight = draw.uniform(0, 4, 3).astype(dtype)
    weight = weights(draw, dtype)
    logits = normals(draw, dtype, BATCH, 3)
    loss = objective.binary_cross_entropy
    return both(loss, theirs, weight, targets, logits, pos_weight=pos_weight)


@family("torch")
def binary_focal(draw: np.random.Generator, dtype: str):
    targets = draw.integers(0, 2, (BATCH, 3)).astype(dtype)
    gamma, alpha = draw.uniform(1, 4), draw.uniform()

    def theirs(logits):
        """The formula of torchvision's sigmoid_focal_loss."""
        t, p = torch.tensor(targets), torch.sigmoid(logits)
        surprise = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
        rest = 1 - (p * t + (1 - p) * (1 - t))
        return rows((alpha * t + (1 - alpha) * (1 - t)) * surprise * rest**gamma)

    # At larger logits the formula rounds 1 - p.
    logits = draw.normal(size=(BATCH, 3)).astype(dtype)
    weight = weights(draw, dtype)
    options = {"gamma": np.asarray(gamma, dtype), "alpha": np.asarray(alpha, dtype)}
    return both(objective.binary_focal, theirs, weight, targets, logits, **options)


@family("torch")
def focal(draw: np.random.Generator, dtype: str):
    """The formula, because torch has no such loss.

    log(1 - p) is computed from the other classes: (1 - p)^gamma has no gradient at p = 1.
    """
    labels = draw.integers(0, CLASSES, BATCH)
    gamma = draw.uniform(0, 4)

    def theirs(logits):
        log_p = F.log_softmax(logits, -1)
        is_label = F.one_hot(torch.tensor(labels), CLASSES).bool()
        rest = torch.logsumexp(log_p.masked_fill(is_label, -torch.inf), -1)
        return -torch.exp(gamma * rest) * log_p[is_label]

    logits = draw.normal(size=(BATCH, CLASSES)).astype(dtype)
    weight = weights(draw, dtype)
    options = {"gamma": np.asarray(gamma, dtype)}
    return both(objective.focal, theirs, weight, labels, logits, **options)


@family("torch")
def hinge(draw: np.random.Generator, dtype: str):
    """torch divides by the number of classes, with the true one."""
    labels = draw.integers(0, CLASSES, BATCH)
    margin = draw.uniform(0, 2)

    def theirs(scores):
        wanted = torch.tensor(labels)
        return CLASSES * F.multi_margin_loss(scores, wanted, margin=margin, reduction="none")

    scores = normals(draw, dtype, BATCH, CLASSES)
    weight = weights(draw, dtype)
    options = {"margin": np.asarray(margin, dtype)}
    return both(objective.hinge, theirs, weight, labels, scores, **options)


def regression(loss, theirs, draw, dtype, **options):
    """A regression loss; theirs is a function of outputs and targets with a value per number."""
    targets = normals(draw, dtype, BATCH, 3, 2)
    outputs = normals(draw, dtype, BATCH, 3, 2)
    weight = weights(draw, dtype)
    arrays = {name: np.asarray(value, dtype) for name, value in options.items()}

    def by_example(x):
        return rows(theirs(x, torch.tensor(targets), reduction="none"))

    return both(loss, by_example, weight, targets, outputs, **arrays)


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
    targets, mean = normals(draw, dtype, BATCH, 3), normals(draw, dtype, BATCH, 3)
    variance = draw.uniform(0.5, 3, (BATCH, 3)).astype(dtype)

    def theirs(mean, variance):
        options = {"full": True, "reduction": "none"}
        return rows(F.gaussian_nll_loss(mean, torch.tensor(targets), variance, **options))

    loss = partial(objective.gaussian_nll, full=True)
    return both(loss, theirs, weights(draw, dtype), targets, mean, variance)


@family("torch")
def poisson_nll(draw: np.random.Generator, dtype: str):
    counts = draw.poisson(3, (BATCH, 3)).astype(dtype)
    z = draw.normal(size=(BATCH, 3)).astype(dtype)

    def theirs(z):
        return rows(F.poisson_nll_loss(z, torch.tensor(counts), reduction="none"))

    return both(objective.poisson_nll, theirs, weights(draw, dtype), counts, z)


@family("torch")
def kl_divergence(draw: np.random.Generator, dtype: str):
    q = draw.dirichlet(np.ones(CLASSES), BATCH).astype(dtype)

    def theirs(logits):
        return F.kl_div(F.log_softmax(logits, -1), torch.tensor(q), reduction="none").sum(1)

    weight = weights(draw, dtype)
    logits = normals(draw, dtype, BATCH, CLASSES)
    return both(objective.kl_divergence, theirs, weight, q, logits)


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
    targets = np.zeros(BATCH, np.int32)
    weight = weights(draw, dtype)
    options = {"margin": np.asarray(margin, dtype)}
    return both(objective.triplet, theirs, weight, targets, *embeddings, **options)


@family("torch", scale=2.0)
def ctc(draw: np.random.Generator, dtype: str):
    """Labels shorter than the time; the gradient is a difference of numbers of order 10."""
    labels = draw.integers(1, CLASSES, (BATCH, 2)).astype(np.int32)
    lengths = draw.integers(0, 3, BATCH).astype(np.int32)
    times = draw.integers(4, 6, BATCH).astype(np.int32)
    logits = draw.normal(size=(BATCH, 5, CLASSES)).astype(dtype)

    def theirs(logits):
        log_p = F.log_softmax(logits, -1).swapaxes(0, 1)  # (time, batch, classes)
        integers = [torch.tensor(array).long() for array in (labels, times, lengths)]
        return F.ctc_loss(log_p, *integers, reduction="none")

    return both(_ctc, theirs, weights(draw, dtype), (labels, lengths, times), logits)


def _ctc(logits, targets):
    *targets, times = targets
    return objective.ctc((logits, times), tuple(targets))
