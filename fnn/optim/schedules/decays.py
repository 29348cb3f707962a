"""Rates that fall from a start: by steps, by a curve, or down to a floor."""

from collections.abc import Sequence

import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.optim.schedules.base import as_time, expect_increasing, expect_rates, power, progress
from fnn.types import Number, Scalar, Schedule, Step
from fnn.values import maker


@maker
def step_decay(start: Number, *, steps: Number, factor: Number) -> Schedule:
    """A fall by the factor every so many steps, rate(t) = start factor^⌊t / steps⌋.

    ConfigError unless start >= 0, steps > 0 and 0 <= factor <= 1 [He et al. 2016, arXiv:1512.03385].
    """
    _expect_decay("step_decay", start, steps, factor)

    def schedule(step: Step) -> Scalar:
        now, first, length, share = as_time(step, start, steps, factor)
        # Exact, which the quotient is not: XLA multiplies by 1 / steps.
        return first * power(share, jnp.floor_divide(now, length))

    return Schedule(schedule)


@maker
def exponential_decay(start: Number, *, steps: Number, factor: Number) -> Schedule:
    """A steady fall, by the factor in so many steps, rate(t) = start factor^(t / steps).

    ConfigError unless start >= 0, steps > 0 and 0 <= factor <= 1.
    """
    _expect_decay("exponential_decay", start, steps, factor)

    def schedule(step: Step) -> Scalar:
        now, first, length, share = as_time(step, start, steps, factor)
        return first * power(share, now / length)

    return Schedule(schedule)


@maker
def inverse_time_decay(start: Number, *, steps: Number, rate: Number) -> Schedule:
    """1 / t decay, rate(t) = start / (1 + rate t / steps); ConfigError unless start, rate >= 0 and steps > 0.

    [Robbins & Monro 1951; Stanford CS231n, neural-networks-3]
    """
    expect_rates("inverse_time_decay", start=start, rate=rate)
    checks.number("inverse_time_decay steps", steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        now, first, length, decay = as_time(step, start, steps, rate)
        return first / (1 + decay * now / length)

    return Schedule(schedule)


@maker
def rsqrt(peak: Number, *, warmup_steps: Number) -> Schedule:
    """A line up to peak, then the inverse root, rate(t) = peak min(t / w, √(w / t)) with w = warmup_steps.

    ConfigError unless peak >= 0 and warmup_steps > 0 [Vaswani et al. 2017, arXiv:1706.03762, sec. 5.3].
    """
    expect_rates("rsqrt", peak=peak)
    checks.number("rsqrt warmup_steps", warmup_steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        now, top, turn = as_time(step, peak, warmup_steps)
        return top * jnp.minimum(now / turn, jnp.sqrt(turn / jnp.maximum(now, turn)))

    return Schedule(schedule)


@maker
def polynomial(
    start: Number, *, steps: Number, exponent: Number = 2.0, floor: Number = 0.0
) -> Schedule:
    """A power of what is left, rate(t) = floor + (start - floor) (1 - t / steps)^exponent, then floor.

    ConfigError unless start, floor >= 0, steps > 0 and exponent > 0.
    """
    expect_rates("polynomial", start=start, floor=floor)
    checks.number("polynomial steps", steps, "(0, inf)")
    checks.number("polynomial exponent", exponent, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        now, first, length, bend, last = as_time(step, start, steps, exponent, floor)
        return last + (first - last) * power(1 - progress(now, jnp.zeros_like(now), length), bend)

    return Schedule(schedule, steps)


@maker
def linear(start: Number, *, steps: Number, floor: Number = 0.0) -> Schedule:
    """A line down (or up), rate(t) = start + (floor - start) t / steps, then floor.

    ConfigError unless start, floor >= 0 and steps > 0.
    """
    expect_rates("linear", start=start, floor=floor)
    checks.number("linear steps", steps, "(0, inf)")

    def schedule(step: Step) -> Scalar:
        now, first, length, last = as_time(step, start, steps, floor)
        share = progress(now, jnp.zeros_like(now), length)
        return (1 - share) * first + share * last

    return Schedule(schedule, steps)


@maker
def piecewise(rates: Sequence[Number], *, boundaries: Sequence[Number]) -> Schedule:
    """Constant rates, one after the other: rates[i] from step boundaries[i - 1] up to, not with, boundaries[i].

    ConfigError unless rates >= 0, there is one more of them than of boundaries, and boundaries increase.
    """
    if len(rates) != len(boundaries) + 1:
        raise ConfigError(
            "piecewise rates",
            f"one more than the {len(boundaries)} boundaries",
            len(rates),
            "give each part its rate",
        )
    for place, rate in enumerate(rates):
        checks.number(f"piecewise rates {place}", rate, "[0, inf)")
    expect_increasing("piecewise boundaries", boundaries)

    def schedule(step: Step) -> Scalar:
        now, value, *others = as_time(step, *rates)
        for boundary, after in zip(boundaries, others, strict=True):
            value = jnp.where(now >= boundary, after, value)
        return value

    return Schedule(schedule, boundaries[-1] if len(boundaries) else 0)


def _expect_decay(where: str, start: Number, steps: Number, factor: Number) -> None:
    expect_rates(where, start=start)
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} factor", factor, "[0, 1]")
