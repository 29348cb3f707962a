"""Sharpness-aware minimization."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.per_parameter import divide_where, global_norm, require_value_fn, widen
from fnn.optim.transform import expect_unscaled, leave_frozen_out
from fnn.types import Number, Optimizer, OptState, Params
from fnn.values import maker


@maker
def sam(optimizer: Optimizer, radius: Number = 0.05, *, adaptive: bool = False) -> Optimizer:
    """Sharpness-aware minimization: take the gradient at the worst neighbor of the parameters.

    ∇L(θ + ε) with ε = radius g / |g|, the norm over all parameters. The second gradient is of the
    same batch, by `value_fn`, which `train.run` gives, and doubles the time of a step [Foret et al.
    2021, arXiv:2010.01412; adaptive: Kwon et al. 2021, arXiv:2102.11600].

    Args:
        optimizer: An optimizer, of fnn or of another library.
        radius: Norm of ε, >= 0; the paper's value. With `adaptive`, 10 times as large in its paper.
        adaptive: Measure distance relative to each parameter, ε = radius θ² g / |θ g|.

    Raises:
        ConfigError: `radius` is out of range, `optimizer` is not an optimizer or scales the loss,
            or, at an update, there is no `value_fn`.
    """
    checks.number("sam radius", radius, "[0, inf)")
    checks.flag("sam adaptive", adaptive)

    def weigh(p: Array, x: Array) -> Array:
        """|θ| x if adaptive, else x."""
        if adaptive:
            return jnp.abs(widen(p)) * widen(x)
        return widen(x)

    def wrap(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> OptState:
            return expect_unscaled("sam optimizer", inner.init(params))

        def update(
            grads: Params,
            opt_state: OptState,
            params: Params,
            **extra: Any,
        ) -> tuple[Params, OptState]:
            # The loss of the same batch.
            value_fn = require_value_fn("sam", extra)
            direction = jax.tree.map(weigh, params, grads)
            norm = global_norm(direction)
            # For a gradient of 0 the neighbor is θ.
            share = divide_where(norm > 0, trees.knob(radius, norm), norm, 0)

            def neighbor(p: Array, x: Array) -> Array:
                # Weighed twice, so that ε has the factor θ².
                offset = share.astype(x.dtype) * weigh(p, x)
                return (widen(p) + offset).astype(jnp.result_type(p))

            neighbors = jax.tree.map(neighbor, params, direction)
            return inner.update(jax.grad(value_fn)(neighbors), opt_state, params, **extra)

        return Optimizer(init, update)

    return leave_frozen_out("sam", wrap, optimizer)
