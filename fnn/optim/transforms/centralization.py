"""Gradients without their mean."""

import jax

from fnn import checks
from fnn.optim.lifting import widened
from fnn.optim.wrapping import before
from fnn.types import Optimizer
from fnn.values import maker


@maker
def centralize(optimizer: Optimizer, *, axis: int = -1) -> Optimizer:
    """The optimizer, given each unit's gradient less its mean, g <- g - mean(g), over all axes but the units'.

    That is the last one in fnn's kernels; axis=0 is torch's layout, which optax takes as well. Vectors stay as they
    are. ConfigError unless axis is -1 or 0 [Yong et al. 2020, arXiv:2004.01461].
    """
    checks.choice("centralize axis", axis, (-1, 0))

    def one(g: jax.Array) -> jax.Array:
        if g.ndim < 2:
            return g
        axes = tuple(range(g.ndim - 1) if axis == -1 else range(1, g.ndim))
        wide = widened(g)
        return (wide - wide.mean(axes, keepdims=True)).astype(g.dtype)

    return before("centralize", optimizer, lambda grads, params: jax.tree.map(one, grads))
