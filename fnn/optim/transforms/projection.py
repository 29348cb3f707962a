"""An optimizer that stays within bounds."""

import jax
import jax.numpy as jnp

from fnn.errors import ConfigError
from fnn.optim.lifting import apply_updates
from fnn.optim.wrapping import after
from fnn.types import Constraint, Optimizer, Params
from fnn.values import maker


@maker
def project(optimizer: Optimizer, constraint: Constraint) -> Optimizer:
    """The optimizer, each of whose steps ends where the constraint (params -> params) puts it, to rounding.

    The updates become constraint(params + updates) - params; the optimizer's state is as without. Params begin where
    init put them. ConfigError for what is no optimizer or no constraint.
    """
    if not callable(constraint):
        raise ConfigError("project constraint", "a function params -> params", repr(constraint), "call its maker first")

    def bounded(updates: Params, params: Params) -> Params:
        return jax.tree.map(jnp.subtract, constraint(apply_updates(params, updates)), params)

    return after("project", optimizer, bounded)
