"""The params of an optimizer along a sequence of gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import optim
from fnn.optim.transform import with_extra_args

SHAPES = {"head": {"kernel": (2, 2, 3)}, "stem": {"bias": (3,), "kernel": (4, 3)}}


def problem(steps, dtype=None):
    """Params, and gradients with a leading axis of steps, of very different sizes."""
    draw = np.random.default_rng(0)

    def leaf(shape, axes):
        normals = draw.normal(size=(*axes, *shape))
        scales = 10 ** draw.uniform(-2, 1, shape)
        return jnp.asarray(normals * scales, dtype)

    def arrays(*axes):
        tree = {}
        for layer, shapes in SHAPES.items():
            tree[layer] = {name: leaf(shape, axes) for name, shape in shapes.items()}
        return tree

    return arrays(), arrays(steps)


def follow(optimizer, params, grads, **extra):
    """The params after every step, and the optimizer's last state."""
    optimizer = with_extra_args("optimizer", optimizer)

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
    """One step of a tree with a leading axis of steps."""
    return jax.tree.map(lambda leaf: leaf[step], tree)
