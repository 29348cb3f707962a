"""An optimizer that stays within bounds."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import ConfigError
from fnn.optim.lifting import apply_updates
from fnn.types import Constraint, Optimizer, Params


def project(optimizer: Optimizer, constraint: Constraint) -> Optimizer:
    """The optimizer, each of whose steps ends where the constraint (params -> params) puts it, to rounding.

    The updates become constraint(params + updates) - params; the optimizer's state is as without. Params begin where
    init put them. ConfigError for what is no optimizer or no constraint.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ConfigError("project optimizer", "a pair (init, update)", repr(optimizer), "call its maker first")
    if not callable(constraint):
        raise ConfigError("project constraint", "a function params -> params", repr(constraint), "call its maker first")

    def update(grads: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
        updates, opt_state = optimizer.update(grads, opt_state, params)
        bounded = constraint(apply_updates(params, updates))
        return jax.tree.map(jnp.subtract, bounded, params), opt_state

    return Optimizer(optimizer.init, update)
