"""Decays of the rate: step, exponential, inverse time, polynomial, linear, SWA and piecewise."""

from collections.abc import Sequence

import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim.schedules.base import (
    as_floats,
    expect_increasing,
    expect_rates,
    power,
    progress,
    since,
    split_cycles,
)
from fnn.types import Number, Scalar, Schedule, Step
from fnn.values import maker


@maker
def step_decay(start: Number, *, steps: Number, factor: Number) -> Schedule:
    """Step decay, rate(t) = start factor^⌊t / steps⌋ [He et al. 2016, arXiv:1512.03385].

    Args:
        start: The first rate, >= 0.
        steps: Steps between two changes, > 0.
        factor: Factor of each change, in [0, 1].

    Raises:
        ConfigError: A number is out of range.
    """
    _expect_decay("step_decay", start, steps, factor)

    def schedule(step: Step) -> Scalar:
        _, first, length, ratio = as_floats(step, start, steps, factor)
        cycles, _ = split_cycles(step, length)
        return first * power(ratio, cycles)

    return Schedule(schedule)


@maker
def exponential_decay(start: Number, *, steps: Number, factor: Number) -> Schedule:
    """Exponential decay, rate(t) = start factor^(t / steps).

    Args:
        start: The first rate, >= 0.
        steps: Steps in which the rate falls by `factor`, > 0.
        factor: In [0, 1].

    Raises:
        ConfigError: A number is out of range.
    """
    _expect_decay("exponential_decay", start, steps, factor)

    def schedule(step: Step) -> Scalar:
        t, first, length, ratio = as_floats(step, start, steps, factor)
        # The power of step_decay without the rounding of its exponent.
        return first * power(ratio, t / length)

    return Schedule(schedule)


@maker
def inverse_time_decay(start: Number, *, steps: Number, rate: Number) -> Schedule:
    """Inverse time decay, rate(t) = start / (1 + rate t / steps).

    [Robbins & Monro 1951; Stanford CS231n, neural-networks-3]

    Args:
        start: The first rate, >= 0.
        steps: The unit of time, > 0.
        rate: Decay per unit of time, >= 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("inverse_time_decay", start=start, rate=rate)
    checks.number("inverse_time_decay steps", steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        t, first, length, decay = as_floats(step, start, steps, rate)
        # Never 0 in the divisor: rate and t are >= 0.
        return first / (1 + decay * t / length)

    return Schedule(schedule)


@maker
def rsqrt(peak: Number, *, warmup_steps: Number) -> Schedule:
    """Inverse square root after a linear warm-up, as in the first Transformer.

    rate(t) = peak min(t / w, √(w / t)) with w = warmup_steps [Vaswani et al. 2017,
    arXiv:1706.03762, sec. 5.3].

    Args:
        peak: The rate at the end of the warm-up, >= 0.
        warmup_steps: Steps from 0 to peak, > 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("rsqrt", peak=peak)
    checks.number("rsqrt warmup_steps", warmup_steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        t, top, warmup = as_floats(step, peak, warmup_steps)
        # The root is 1 during the warm-up, so that t = 0 is never a divisor.
        falling = jnp.sqrt(warmup / jnp.maximum(t, warmup))
        return top * jnp.minimum(t / warmup, falling)

    return Schedule(schedule)


@maker
def polynomial(
    start: Number, *, steps: Number, exponent: Number = 2.0, floor: Number = 0.0
) -> Schedule:
    """Polynomial decay, rate(t) = floor + (start - floor) (1 - t / steps)^exponent, then floor.

    Args:
        start: The first rate, >= 0.
        steps: Steps of the decay, > 0.
        exponent: Degree of the polynomial, > 0.
        floor: The last rate, >= 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("polynomial", start=start, floor=floor)
    checks.number("polynomial steps", steps, "(0, inf)")
    checks.number("polynomial exponent", exponent, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        _, first, length, degree, last = as_floats(step, start, steps, exponent, floor)
        # 1 at step 0 and 0 from `steps` on. `power` keeps derivatives finite at 0.
        left = 1 - progress(step, 0, length)
        return last + (first - last) * power(left, degree)

    return Schedule(schedule, steps)


@maker
def linear(start: Number, *, steps: Number, floor: Number = 0.0) -> Schedule:
    """Linear decay (or growth), rate(t) = start + (floor - start) t / steps, then floor.

    Args:
        start: The first rate, >= 0.
        steps: Steps from start to floor, > 0.
        floor: The last rate, >= 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("linear", start=start, floor=floor)
    checks.number("linear steps", steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        _, first, length, last = as_floats(step, start, steps, floor)
        share = progress(step, 0, length)
        # In this form both ends are exact, which start + (floor - start) share is not.
        return (1 - share) * first + share * last

    return Schedule(schedule, steps)


@maker
def swa_schedule(
    peak: Number,
    *,
    start: Number,
    floor: Number,
    decay_start: Number = 0.5,
    decay_end: Number = 0.9,
) -> Schedule:
    """Schedule of stochastic weight averaging: peak, a linear decay, then a constant floor.

    The rate is `peak` until step decay_start start, falls to `floor` at step decay_end start, and
    stays there, while `swa` collects snapshots from step `start` on. The paper begins at 0.54 to
    0.56 of the run, with a floor of a fifth to a half of the peak [Izmailov et al. 2018,
    arXiv:1803.05407, and its code].

    Args:
        peak: The first rate, >= 0.
        start: Step of the first snapshot, > 0: the `start` of `swa`.
        floor: The rate while snapshots are taken, >= 0.
        decay_start: Begin of the decay as a fraction of `start`, >= 0; the paper's value.
        decay_end: End of the decay as a fraction of `start`, >= decay_start; the paper's value.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("swa_schedule", peak=peak, floor=floor)
    checks.number("swa_schedule start", start, "(0, inf)")
    checks.number("swa_schedule decay_start", decay_start, "[0, inf)")
    checks.number("swa_schedule decay_end", decay_end, "[0, inf)")
    # Traced numbers are not known yet.
    are_known = checks.is_concrete(decay_start) and checks.is_concrete(decay_end)
    if are_known and float(decay_end) < float(decay_start):
        expected = f"at least decay_start={decay_start}"
        raise ConfigError("swa_schedule decay_end", expected, decay_end, "end the decay later")

    def schedule(step: Step) -> Scalar:
        _, top, bottom, first, begin, end = as_floats(
            step, peak, floor, start, decay_start, decay_end
        )
        share = progress(step, begin * first, end * first)
        return (1 - share) * top + share * bottom

    # A run that ends before has no snapshots.
    return Schedule(schedule, start)


@maker
def piecewise(rates: Sequence[Number], *, boundaries: Sequence[Number]) -> Schedule:
    """Piecewise constant rates: rates[i] from step boundaries[i - 1] until before boundaries[i].

    Args:
        rates: The rates, >= 0.
        boundaries: The steps at which the rate changes, increasing; one fewer than rates.

    Raises:
        ConfigError: A rate is below 0, boundaries do not increase, or the lengths do not fit.
    """
    # Lengths are structure: they are known also where the numbers are traced.
    if len(rates) != len(boundaries) + 1:
        expected = f"one more than the {len(boundaries)} boundaries"
        raise ConfigError("piecewise rates", expected, len(rates), "give each part its rate")
    for i, rate in enumerate(rates):
        checks.number(f"piecewise rates {i}", rate, "[0, inf)")
    expect_increasing("piecewise boundaries", boundaries)

    def schedule(step: Step) -> Scalar:
        _, value, *later_rates = as_floats(step, *rates)
        for boundary, rate in zip(boundaries, later_rates, strict=True):
            # The last boundary that has been reached wins.
            value = jnp.where(since(step, boundary) >= 0, rate, value)
        return value

    # The rate is constant from the last boundary on.
    return Schedule(schedule, boundaries[-1] if len(boundaries) else 0)


def _expect_decay(where: str, start: Number, steps: Number, factor: Number) -> None:
    expect_rates(where, start=start)
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} factor", factor, "[0, 1]")
