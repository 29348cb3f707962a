"""What the tests of known networks share: looks that allocate nothing, and a few steps of training."""

from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from fnn import objective, optim
from fnn.types import Layer


def arrays(network: Layer, shape):
    """The params and the state that init gives, as shapes and dtypes only."""
    return jax.eval_shape(lambda key: network.init(key, shape)[:2], jax.random.key(0))


def parameters(network: Layer, shape) -> int:
    """How many numbers are trained."""
    return sum(prod(leaf.shape) for leaf in jax.tree.leaves(arrays(network, shape)[0]))


def out_shapes(network: Layer, shape, dtype=jnp.float32, train=True):
    """The shape of an example's output as init tells it, and as apply gives it for a batch of 2."""
    told = []

    def through(key, x):
        params, state, out_shape = network.init(key, shape)
        told.append(out_shape)
        return network.apply(params, state, x, key=jax.random.fold_in(key, 1), train=train)[0]

    y = jax.eval_shape(through, jax.random.key(0), jax.ShapeDtypeStruct((2, *shape), dtype))
    return told[0], y.shape[1:]


def begun(network: Layer, inputs, edit=lambda params: params, train=True):
    """What a fresh network gives in one program, which compiles sooner than its layers one by one; and its params."""

    def through(inputs):
        params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])
        params = edit(params)
        return network.apply(params, state, inputs, key=jax.random.key(1), train=train)[0], params

    return jax.tree.map(np.array, jax.jit(through)(inputs))


def losses(network: Layer, inputs, targets, rate=1e-2, steps=30) -> np.ndarray:
    """The training loss before each of a few steps of Adam on one batch."""
    optimizer = optim.adam(rate)

    def step(carried, place):
        params, state, opt_state = carried

        def loss(params):
            y, new = network.apply(
                params, state, inputs, key=jax.random.fold_in(jax.random.key(1), place), train=True
            )
            return objective.cross_entropy(y, targets).mean(), new

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optim.apply_updates(params, updates), state, opt_state), value

    def run():
        params, state, _ = network.init(jax.random.key(0), inputs.shape[1:])
        return jax.lax.scan(step, (params, state, optimizer.init(params)), jnp.arange(steps))[1]

    return np.asarray(jax.jit(run)())


def images(size=8, channels=3, count=8):
    """A batch of noise."""
    return jnp.asarray(
        np.random.default_rng(0).normal(size=(count, size, size, channels)), jnp.result_type(float)
    )
