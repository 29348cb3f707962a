"""Helpers of the tests of models: shapes without allocation, and a few training steps."""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from fnn import objective, optim
from fnn.types import Layer


def arrays(network: Layer, shape):
    """The shapes and dtypes of params and state."""
    return jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))


def parameters(network: Layer, shape) -> int:
    """The number of trained parameters."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(arrays(network, shape)[0]))


def out_shapes(network: Layer, shape, dtype=jnp.float32, train=True):
    """The output shape by init, and by apply for a batch of 2."""
    init_shapes = []

    def through(key, x):
        params, state, out_shape = network.init(key, shape)
        init_shapes.append(out_shape)
        return network.apply(params, state, x, key=jax.random.fold_in(key, 1), train=train)[0]

    y = jax.eval_shape(through, jax.random.key(0), jax.ShapeDtypeStruct((2, *shape), dtype))
    return init_shapes[0], y.shape[1:]


def initial_outputs(network: Layer, inputs, edit=lambda params: params, train=True):
    """The outputs and params of a new network, computed in one program."""

    def through(inputs):
        params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])
        params = edit(params)
        return network.apply(params, state, inputs, key=jax.random.key(1), train=train)[0], params

    return jax.tree.map(np.array, jax.jit(through)(inputs))


def losses(network: Layer, inputs, targets, rate=1e-2, steps=30) -> np.ndarray:
    """The training loss before each of a few steps of Adam on one batch."""
    optimizer = optim.adam(rate)

    def step(carried, index):
        params, state, opt_state = carried
        key = jax.random.fold_in(jax.random.key(1), index)

        def loss(params):
            y, new_state = network.apply(params, state, inputs, key=key, train=True)
            return objective.cross_entropy(y, targets).mean(), new_state

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optim.apply_updates(params, updates), state, opt_state), value

    def run():
        params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])
        return jax.lax.scan(step, (params, state, optimizer.init(params)), jnp.arange(steps))[1]

    return np.asarray(jax.jit(run)())


def images(size=8, channels=3, count=8):
    """A batch of noise."""
    noise = np.random.default_rng(0).normal(size=(count, size, size, channels))
    return jnp.asarray(noise, jnp.result_type(float))
