"""Errors of the gradients of every layer and loss against finite differences."""

from functools import partial

import jax
import makers
import numpy as np
from registry import REGISTRY, batch_for, domain

from fnn import diagnose, nn, trees
from fnn.types import Layer

LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
SHAPES = 3


def layer_error(maker: str) -> float:
    """The largest error of three shapes, in training, by the params and by a floating-point x."""
    return max(_layer_error(maker, seed) for seed in range(SHAPES))


def loss_error(loss: str) -> float:
    """The largest error of three batches, by the outputs."""
    return max(_loss_error(loss, seed) for seed in range(SHAPES))


def cast_errors(maker: str) -> dict[str, float]:
    """The error of the gradient by each param under `nn.cast`, by its norm in float32.

    Gradients below a hundredth of the largest are left out. The size of the batch is
    `domains.BATCH`.
    """
    layer = makers.public()[maker](**makers.CALLS[maker])
    shape, x = domain(maker).draw(REGISTRY[maker].seed)
    params, state, _ = layer.init(jax.random.key(0), shape)
    examples = jax.tree.leaves(x)[0].shape[0]
    if not jax.tree.leaves(params):
        return {}

    def gradients(params):
        def loss(params, layer):
            y, _ = layer.apply(params, state, x, key=jax.random.key(1), train=True)
            total = 0.0
            for leaf in jax.tree.leaves(y):
                weights = jax.random.uniform(jax.random.key(2), leaf.shape, minval=0.5, maxval=1.5)
                total += (leaf * weights).sum() / examples
            return total

        return [jax.grad(loss)(params, own) for own in (layer, nn.cast(layer))]

    wanted, got = (trees.named_leaves(grads) for grads in jax.jit(gradients)(params))
    norms = {path: np.linalg.norm(leaf) for path, leaf in wanted.items()}
    least = 1e-2 * max(norms.values())
    return {
        path: float(np.linalg.norm(got[path] - wanted[path]) / norm)
        for path, norm in norms.items()
        if norm > least
    }


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
