"""Constant schedules, and the numerical functions and argument checks that schedules share."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Number, Rate, Scalar, Schedule, Step
from fnn.values import maker

# The largest float32 that is an int32.
LARGEST_FLOAT = 2.0**31 - 128


@maker
def constant(value: Number) -> Schedule:
    """Constant rate, rate(t) = value.

    Args:
        value: The rate, >= 0.

    Raises:
        ConfigError: `value` is out of range.
    """
    checks.number("constant value", value, "[0, inf)")
    # It is constant from step 0 on.
    return Schedule(lambda step: jnp.asarray(value, jnp.result_type(float)), 0)


def as_schedule(where: str, rate: Rate) -> Schedule:
    """Convert a rate to a schedule, a number to a constant; ConfigError for a number below 0."""
    if isinstance(rate, Schedule):
        return rate
    if callable(rate):
        return Schedule(rate)
    checks.number(f"{where} rate", rate, "[0, inf)")
    return constant(rate)


def as_part(where: str, rate: Rate) -> Schedule:
    """Convert a rate to a schedule that may begin late; a plain function is given a float step."""
    if isinstance(rate, Schedule) or not callable(rate):
        return as_schedule(where, rate)
    return Schedule(lambda step: rate(*as_floats(step)))


# Numerical functions.


def as_floats(step: Step, *numbers: Number) -> tuple[Scalar, ...]:
    """Convert the step and the numbers of a schedule to floats of one dtype."""
    t = jnp.asarray(step, jnp.result_type(float))
    return t, *(jnp.asarray(number, t.dtype) for number in numbers)


def power(base: Scalar, exponent: Scalar) -> Scalar:
    """base^exponent for base >= 0, whose derivatives at a base of 0 are taken as 0."""
    positive = base > 0
    # log(0), which the derivative needs, is kept out of the branch that is not chosen.
    positive_power = jnp.where(positive, base, 1) ** exponent
    power_of_zero = jnp.where(exponent == 0, 1, 0)
    return jnp.where(positive, positive_power, power_of_zero)


def since(step: Step, begin: Number) -> Scalar:
    """step - begin in floats; exact for any int32 step, which a float32 rounds from 2²⁴ on."""
    t, start = as_floats(step, begin)
    if not needs_integers(step):
        return t - start
    # The whole part is subtracted as an integer. Its derivative is that of the rest.
    whole = jax.lax.stop_gradient(jnp.clip(jnp.floor(start), 0, LARGEST_FLOAT))
    left = jnp.asarray(step, jnp.int32) - whole.astype(jnp.int32)
    return left.astype(t.dtype) - (start - whole)


def split_cycles(step: Step, length: Scalar) -> tuple[Scalar, Scalar]:
    """⌊step / length⌋, and the time since then; exact for any int32 step if the length is whole."""
    (t,) = as_floats(step)
    # The remainder of floats is exact. The floor of t / length is
    # not, since XLA multiplies by 1 / length.
    cycles = jax.lax.stop_gradient(jnp.floor_divide(t, length))
    rest = jnp.remainder(t, length)
    if not needs_integers(step):
        return cycles, rest
    is_whole = (length == jnp.round(length)) & (length <= LARGEST_FLOAT)
    divisor = jnp.where(is_whole, length, 1).astype(jnp.int32)
    step = jnp.asarray(step, jnp.int32)
    exact_cycles = (step // divisor).astype(t.dtype)
    exact_rest = (step % divisor).astype(t.dtype)
    exact_rest = with_slope_of(exact_rest, t - exact_cycles * length)
    return jnp.where(is_whole, exact_cycles, cycles), jnp.where(is_whole, exact_rest, rest)


def run_from(schedule: Schedule, step: Step, begin: Number) -> Scalar:
    """The rate of a schedule that began at a step; before it, that of its step 0."""
    t = jnp.maximum(since(step, begin), 0)
    value = jnp.asarray(schedule(t))
    if not needs_integers(step):
        return value
    # The same time as an integer, which counts all steps up to 2³¹. Only a fraction needs a float.
    (start,) = as_floats(step, begin)[1:]
    whole = jnp.clip(jnp.floor(start), 0, LARGEST_FLOAT)
    count = jnp.maximum(jnp.asarray(step, jnp.int32) - whole.astype(jnp.int32), 0)
    # Early on, floats count every step too, and one evaluation is enough.
    exact = jax.lax.cond(
        jnp.any(t >= 2.0**22),
        lambda: jnp.asarray(schedule(count), value.dtype),
        lambda: value,
    )
    exact = with_slope_of(exact, value)
    return jnp.where(start == whole, exact, value)


@jax.custom_jvp
def with_slope_of(exact: Scalar, smooth: Scalar) -> Scalar:
    """A number that was computed by integers, with the derivative of its formula in floats."""
    return exact


@with_slope_of.defjvp
def _with_slope_of_jvp(
    primals: tuple[Scalar, Scalar], tangents: tuple[Scalar, Scalar]
) -> tuple[Scalar, Scalar]:
    exact, smooth = primals
    return with_slope_of(exact, smooth), tangents[1]


def needs_integers(step: Step) -> bool:
    """Whether a step is an integer that floats may round, since they have 32 bits."""
    is_integer = jnp.issubdtype(jnp.result_type(step), jnp.integer)
    return is_integer and jnp.finfo(jnp.result_type(float)).bits < 64


def progress(step: Step, begin: Number, end: Number) -> Scalar:
    """The share of the way from begin to end, clipped to [0, 1]; 1 for an empty interval."""
    # The divisor is replaced before the division, so that its gradient is finite too.
    _, begin, end = as_floats(step, begin, end)
    positive = end > begin
    length = jnp.where(positive, end - begin, 1)
    share = jnp.clip(since(step, begin) / length, 0, 1)
    return jnp.where(positive, share, 1)


def half_cosine(begin: Scalar, end: Scalar, share: Scalar) -> Scalar:
    """Interpolate from begin (share 0) to end (share 1) along half a cosine."""
    # In this order both ends are exact: the cosine is 1 at share 0 and -1 at share 1.
    cosine = jnp.cos(jnp.pi * share)
    return end + (begin - end) * (1 + cosine) / 2


# Checks of arguments.


def expect_rates(where: str, **rates: Number) -> None:
    """Raise ConfigError for a rate below 0."""
    for name, rate in rates.items():
        checks.number(f"{where} {name}", rate, "[0, inf)")


def expect_warmup(where: str, warmup_steps: Number, steps: Number) -> None:
    """Raise ConfigError unless 0 <= warmup_steps < steps."""
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} warmup_steps", warmup_steps, "[0, inf)")
    # Traced numbers are not known yet.
    if not (checks.is_concrete(warmup_steps) and checks.is_concrete(steps)):
        return
    if float(warmup_steps) >= float(steps):
        expected = f"fewer than steps={steps}"
        advice = "train longer or warm up less"
        raise ConfigError(f"{where} warmup_steps", expected, warmup_steps, advice)


def expect_increasing(where: str, boundaries: Sequence[Number]) -> None:
    """Raise ConfigError unless boundaries are >= 0 and strictly increasing."""
    for boundary in boundaries:
        checks.number(where, boundary, "[0, inf)")
    known = [float(boundary) for boundary in boundaries if checks.is_concrete(boundary)]
    if any(later <= earlier for earlier, later in pairwise(known)):
        raise ConfigError(where, "steps that increase", list(boundaries), "sort them")
