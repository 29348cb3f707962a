"""What schedules share: constants, time, power laws and argument checks."""

from collections.abc import Sequence
from itertools import pairwise

import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Number, Rate, Scalar, Schedule, Step
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


def as_time(step: Step, *numbers: Number) -> tuple[Scalar, ...]:
    """The step and the numbers that a schedule is made of, all as floats of one dtype."""
    now = jnp.asarray(step, jnp.result_type(float))
    return now, *(jnp.asarray(number, now.dtype) for number in numbers)


def power(base: Scalar, exponent: Scalar) -> Scalar:
    """base^exponent for base >= 0, with derivatives that are 0 where the base is, instead of infinite."""
    positive = base > 0
    return jnp.where(
        positive, jnp.where(positive, base, 1) ** exponent, jnp.where(exponent == 0, 1, 0)
    )


def progress(now: Scalar, begin: Scalar, end: Scalar) -> Scalar:
    """How far now is from begin to end, within [0, 1]; 1 where nothing lies between."""
    positive = end > begin  # guarded before the division, so that its gradient is finite as well
    length = jnp.where(positive, end - begin, 1)
    return jnp.where(positive, jnp.clip((now - begin) / length, 0, 1), 1)


def ease(begin: Scalar, end: Scalar, progress: Scalar) -> Scalar:
    """From begin to end along half a cosine."""
    return end + (begin - end) * (1 + jnp.cos(jnp.pi * progress)) / 2


def expect_rates(where: str, **rates: Number) -> None:
    """Raise ConfigError for a rate below 0."""
    for name, rate in rates.items():
        checks.number(f"{where} {name}", rate, "[0, inf)")


def expect_warmup(where: str, warmup_steps: Number, steps: Number) -> None:
    """Raise ConfigError unless the warm-up takes fewer than all steps."""
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} warmup_steps", warmup_steps, "[0, inf)")
    if (
        checks.is_concrete(warmup_steps)
        and checks.is_concrete(steps)
        and float(warmup_steps) >= float(steps)
    ):
        raise ConfigError(
            f"{where} warmup_steps",
            f"fewer than steps={steps}",
            warmup_steps,
            "train longer or warm up less",
        )


def expect_increasing(where: str, boundaries: Sequence[Number]) -> None:
    """Raise ConfigError unless each is a number above the one before."""
    for boundary in boundaries:
        checks.number(where, boundary, "[0, inf)")
    known = [float(boundary) for boundary in boundaries if checks.is_concrete(boundary)]
    if any(after <= before for before, after in pairwise(known)):
        raise ConfigError(where, "steps that increase", list(boundaries), "sort them")
