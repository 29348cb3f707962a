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

    def rate(step: Step) -> Scalar:
        dtype = jnp.result_type(float)
        return jnp.asarray(value, dtype)

    # It is constant from step 0 on.
    return Schedule(rate, 0)


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

    def of_float(step: Step) -> Scalar:
        (t,) = as_floats(step)
        return rate(t)

    return Schedule(of_float)


# Numerical functions.


def as_floats(step: Step, *numbers: Number) -> tuple[Scalar, ...]:
    """Convert the step and the numbers of a schedule to floats of one dtype."""
    dtype = jnp.result_type(float)
    t = jnp.asarray(step, dtype)
    floats = [jnp.asarray(number, t.dtype) for number in numbers]
    return t, *floats


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
    floor = jnp.floor(start)
    whole = jnp.clip(floor, 0, LARGEST_FLOAT)
    whole = jax.lax.stop_gradient(whole)
    count = jnp.asarray(step, jnp.int32)
    left = count - whole.astype(jnp.int32)
    fraction = start - whole
    return left.astype(t.dtype) - fraction


def split_cycles(step: Step, length: Scalar) -> tuple[Scalar, Scalar]:
    """⌊step / length⌋, and the time since then; exact for any int32 step if the length is whole."""
    (t,) = as_floats(step)
    # The remainder of floats is exact. The floor of t / length is
    # not, since XLA multiplies by 1 / length.
    cycles = jnp.floor_divide(t, length)
    cycles = jax.lax.stop_gradient(cycles)
    rest = jnp.remainder(t, length)
    if not needs_integers(step):
        return cycles, rest
    rounded_length = jnp.round(length)
    is_whole = (length == rounded_length) & (length <= LARGEST_FLOAT)
    # A divisor of 1 where the integers are not chosen: a length below 1 would become 0.
    divisor = jnp.where(is_whole, length, 1)
    divisor = divisor.astype(jnp.int32)
    count = jnp.asarray(step, jnp.int32)
    exact_cycles = (count // divisor).astype(t.dtype)
    exact_rest = (count % divisor).astype(t.dtype)
    smooth_rest = t - exact_cycles * length
    exact_rest = with_slope_of(exact_rest, smooth_rest)
    chosen_cycles = jnp.where(is_whole, exact_cycles, cycles)
    chosen_rest = jnp.where(is_whole, exact_rest, rest)
    return chosen_cycles, chosen_rest


def run_from(
    schedule: Schedule,
    step: Step,
    begin: Number,
) -> Scalar:
    """The rate of a schedule that began at a step; before it, that of its step 0."""
    t = since(step, begin)
    t = jnp.maximum(t, 0)
    value = jnp.asarray(schedule(t))
    if not needs_integers(step):
        return value
    # The same time as an integer, which counts all steps up to 2³¹. Only a fraction needs a float.
    _, start = as_floats(step, begin)
    floor = jnp.floor(start)
    whole = jnp.clip(floor, 0, LARGEST_FLOAT)
    steps_made = jnp.asarray(step, jnp.int32)
    left = steps_made - whole.astype(jnp.int32)
    count = jnp.maximum(left, 0)

    def value_at_count() -> Scalar:
        return jnp.asarray(schedule(count), value.dtype)

    def value_at_float() -> Scalar:
        return value

    # Early on, floats count every step too, and one evaluation is enough.
    is_late = jnp.any(t >= 2.0**22)
    exact = jax.lax.cond(
        is_late,
        value_at_count,
        value_at_float,
    )
    exact = with_slope_of(exact, value)
    is_whole = start == whole
    return jnp.where(is_whole, exact, value)


@jax.custom_jvp
def with_slope_of(exact: Scalar, smooth: Scalar) -> Scalar:
    """A number that was computed by integers, with the derivative of its formula in floats."""
    return exact


@with_slope_of.defjvp
def _with_slope_of_jvp(
    primals: tuple[Scalar, Scalar],
    tangents: tuple[Scalar, Scalar],
) -> tuple[Scalar, Scalar]:
    exact, smooth = primals
    _, slope = tangents
    # Once more by the rule itself, so that second derivatives follow it too.
    value = with_slope_of(exact, smooth)
    return value, slope


def needs_integers(step: Step) -> bool:
    """Whether a step is an integer that floats may round, since they have 32 bits."""
    dtype = jnp.result_type(step)
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    float_dtype = jnp.result_type(float)
    # A float64 holds every int32.
    return is_integer and jnp.finfo(float_dtype).bits < 64


def progress(
    step: Step,
    begin: Number,
    end: Number,
) -> Scalar:
    """The share of the way from begin to end, clipped to [0, 1]; 1 for an empty interval."""
    # The divisor is replaced before the division, so that its gradient is finite too.
    _, begin, end = as_floats(step, begin, end)
    positive = end > begin
    difference = end - begin
    length = jnp.where(positive, difference, 1)
    share = since(step, begin) / length
    clipped = jnp.clip(share, 0, 1)
    return jnp.where(positive, clipped, 1)


def half_cosine(
    begin: Scalar,
    end: Scalar,
    share: Scalar,
) -> Scalar:
    """Interpolate from begin (share 0) to end (share 1) along half a cosine."""
    # In this order both ends are exact: the cosine is 1 at share 0 and -1 at share 1.
    cosine = jnp.cos(jnp.pi * share)
    difference = begin - end
    scaled = difference * (1 + cosine)
    return end + scaled / 2


# Checks of arguments.


def expect_rates(where: str, **rates: Number) -> None:
    """Raise ConfigError for a rate below 0."""
    for name, rate in rates.items():
        checks.number(f"{where} {name}", rate, "[0, inf)")


def expect_warmup(
    where: str,
    warmup_steps: Number,
    steps: Number,
) -> None:
    """Raise ConfigError unless 0 <= warmup_steps < steps."""
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} warmup_steps", warmup_steps, "[0, inf)")
    # Traced numbers are not known yet.
    are_known = checks.is_concrete(warmup_steps) and checks.is_concrete(steps)
    if not are_known:
        return
    if float(warmup_steps) >= float(steps):
        expected = f"fewer than steps={steps}"
        advice = "train longer or warm up less"
        raise ConfigError(
            f"{where} warmup_steps",
            expected,
            warmup_steps,
            advice,
        )


def expect_increasing(where: str, boundaries: Sequence[Number]) -> None:
    """Raise ConfigError unless boundaries are >= 0 and strictly increasing."""
    for boundary in boundaries:
        checks.number(where, boundary, "[0, inf)")
    known = []
    for boundary in boundaries:
        # Traced numbers are not known yet.
        if checks.is_concrete(boundary):
            known.append(float(boundary))
    if any(later <= earlier for earlier, later in pairwise(known)):
        expected = "steps that increase"
        got = list(boundaries)
        raise ConfigError(
            where,
            expected,
            got,
            "sort them",
        )
