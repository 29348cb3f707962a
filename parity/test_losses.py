"""Losses give the values and the gradients that torch's and optax's give."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional as F

from fnn import objective

pytestmark = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 50
TOLERANCES = {"float64": 1e-12, "float32": 2e-6}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES)
SHAPE = (6, 5)


def expect_close(got, wanted, dtype):
    for one, other in zip(got, wanted, strict=True):
        other = np.asarray(other.detach() if isinstance(other, torch.Tensor) else other)
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCES[dtype] * max(1, np.abs(other).max()))


def configurations(dtype):
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        logits = (10 ** draw.uniform(-2, 2) * draw.normal(size=SHAPE)).astype(dtype)
        targets = draw.integers(0, 5, 6), draw.dirichlet(np.ones(5), size=6).astype(dtype)
        yield logits, targets[seed % 2], draw.choice([0.0, draw.uniform(), 1.0]), draw.normal(size=6).astype(dtype)


def differentiate(loss, logits, weight):
    values, pull = jax.vjp(loss, logits)
    return values, *pull(weight)


def torch_differentiate(loss, logits, weight):
    leaf = torch.tensor(logits, requires_grad=True)
    values = loss(leaf)
    return values, *torch.autograd.grad((values * torch.tensor(weight)).sum(), [leaf])


@jax.jit
def cross_entropy(logits, targets, smoothing, weight):
    return differentiate(
        lambda logits: objective.cross_entropy(logits, targets, label_smoothing=smoothing), logits, weight
    )


@every_dtype
def test_cross_entropy_is_that_of_torch(dtype):
    for logits, targets, smoothing, weight in configurations(dtype):

        def loss(logits, targets=targets, smoothing=smoothing):
            return F.cross_entropy(logits, torch.tensor(targets), reduction="none", label_smoothing=smoothing)

        got = cross_entropy(logits, targets, smoothing, weight)
        expect_close(got, torch_differentiate(loss, logits, weight), dtype)


def test_cross_entropy_is_that_of_optax(peer):
    for logits, targets, smoothing, weight in configurations("float64"):
        one_hot = jnp.array(np.eye(5)[targets] if targets.ndim == 1 else targets)

        def loss(logits, one_hot=one_hot, smoothing=smoothing):
            return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, smoothing))

        got = cross_entropy(logits, targets, smoothing, weight)
        with peer():
            wanted = differentiate(loss, jnp.array(logits), jnp.array(weight))
        expect_close(got, wanted, "float64")


@every_dtype
def test_squared_error_is_that_of_torch(dtype):
    @jax.jit
    def ours(outputs, targets, weight):
        return differentiate(lambda outputs: objective.squared_error(outputs, targets), outputs, weight)

    for outputs, _, _, weight in configurations(dtype):
        targets = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)

        def loss(outputs, targets=targets):
            return F.mse_loss(outputs, torch.tensor(targets), reduction="none").mean(1)

        expect_close(ours(outputs, targets, weight), torch_differentiate(loss, outputs, weight), dtype)
