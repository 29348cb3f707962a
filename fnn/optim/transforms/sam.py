"""Gradients from where the loss is higher: SAM."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.per_parameter import global_norm, value_function, widened
from fnn.optim.transform import extended, unscaled
from fnn.types import Number, Optimizer, OptState, Params
from fnn.values import maker


@maker
def sam(optimizer: Optimizer, radius: Number = 0.05, *, adaptive: bool = False) -> Optimizer:
    """The optimizer, given the gradient of the worst neighbor, ∇L(θ + ε) with ε = radius g / |g|: flat minima.

    |g| is over all parameters. adaptive measures distance in units of each parameter, ε = radius θ² g / |θ g|. The
    second gradient is of the same batch, by value_fn, as train.run gives it. ConfigError unless radius >= 0
    [Foret et al. 2021, arXiv:2010.01412; adaptive: Kwon et al. 2021, arXiv:2102.11600].
    """
    inner = extended("sam optimizer", optimizer)
    checks.number("sam radius", radius, "[0, inf)")
    checks.flag("sam adaptive", adaptive)

    def scaled(p: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.abs(widened(p)) * widened(x) if adaptive else widened(x)

    def init(params: Params) -> OptState:
        return unscaled("sam optimizer", inner.init(params))

    def update(
        grads: Params, opt_state: OptState, params: Params, **extra: Any
    ) -> tuple[Params, OptState]:
        value_fn = value_function("sam", extra)
        towards = jax.tree.map(scaled, params, grads)
        length = global_norm(towards)
        moves = length > 0
        share = jnp.where(moves, trees.knob(radius, length) / jnp.where(moves, length, 1), 0)

        def neighbor(p: jax.Array, x: jax.Array) -> jax.Array:
            return (widened(p) + share.astype(x.dtype) * scaled(p, x)).astype(p.dtype)

        worse = jax.grad(value_fn)(jax.tree.map(neighbor, params, towards))
        return inner.update(worse, opt_state, params, **extra)

    return Optimizer(init, update)
