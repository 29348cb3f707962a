"""One rate for all steps, and what a rate given as a number becomes."""

import jax.numpy as jnp

from fnn import checks
from fnn.types import Number, Rate, Schedule
from fnn.values import maker


@maker
def constant(value: Number) -> Schedule:
    """rate(t) = value; ConfigError unless value >= 0."""
    checks.number("constant value", value, "[0, inf)")
    return Schedule(lambda step: jnp.asarray(value, jnp.result_type(float)), 0)


def as_schedule(where: str, rate: Rate) -> Schedule:
    """A schedule as it is, a number as a constant one; ConfigError for a negative number."""
    if isinstance(rate, Schedule):
        return rate
    if callable(rate):
        return Schedule(rate)
    checks.number(f"{where} rate", rate, "[0, inf)")
    return constant(rate)
