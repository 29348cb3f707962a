"""An optimizer fed with a stream of gradients, and what it makes of them."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import optim
from fnn.optim.transform import extended

SHAPES = {"head": {"kernel": (2, 2, 3)}, "stem": {"bias": (3,), "kernel": (4, 3)}}


def problem(steps, dtype=None):
    """Params, and gradients with a leading axis of steps, some large and some small, in JAX's default dtype."""
    draw = np.random.default_rng(0)

    def arrays(*axes):
        return {
            layer: {
                name: jnp.asarray(
                    draw.normal(size=(*axes, *shape)) * 10 ** draw.uniform(-2, 1, shape), dtype
                )
                for name, shape in leaves.items()
            }
            for layer, leaves in SHAPES.items()
        }

    return arrays(), arrays(steps)


def follow(optimizer, params, grads, **extra):
    """The params after every step, and the optimizer's last state."""
    optimizer = extended("optimizer", optimizer)

    def one(carry, grads):
        params, opt_state = carry
        updates, opt_state = optimizer.update(grads, opt_state, params, **extra)
        params = optim.apply_updates(params, updates)
        return (params, opt_state), params

    @jax.jit
    def whole(params, grads):
        (_, opt_state), path = jax.lax.scan(one, (params, optimizer.init(params)), grads)
        return path, opt_state

    return whole(params, grads)


def path(optimizer, params, grads):
    """The params after every step."""
    return follow(optimizer, params, grads)[0]


def at(tree, step):
    """One step of what has a leading axis of steps."""
    return jax.tree.map(lambda leaf: leaf[step], tree)
