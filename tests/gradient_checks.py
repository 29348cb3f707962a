"""Errors of the gradients of every layer and loss against finite differences."""

from functools import partial

import jax
import makers
from registry import batch_for, domain

from fnn import diagnose
from fnn.types import Layer

LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
SHAPES = 3


def layer_error(maker: str) -> float:
    """The largest error of three shapes, in training, by the params and by a floating-point x."""
    return max(_layer_error(maker, seed) for seed in range(SHAPES))


def loss_error(loss: str) -> float:
    """The largest error of three batches, by the outputs."""
    return max(_loss_error(loss, seed) for seed in range(SHAPES))


def _layer_error(maker: str, seed: int) -> float:
    layer = makers.public()[maker](**makers.CALLS[maker])
    shape, x = domain(maker).draw(seed)
    params, state = jax.jit(lambda key: layer.init(key, shape)[:2])(jax.random.key(seed))

    def through(params, x):
        return layer.apply(params, state, x, key=jax.random.key(2), train=True)[0]

    return diagnose.check_gradients(jax.random.key(3), through, params, x).error


def _loss_error(loss: str, seed: int) -> float:
    outputs, targets = batch_for(loss, seed)
    by_outputs = partial(_loss_of, makers.public()[loss], targets)
    return diagnose.check_gradients(jax.random.key(3), by_outputs, outputs).error


def _loss_of(loss, targets, outputs):
    return loss(outputs, targets)
