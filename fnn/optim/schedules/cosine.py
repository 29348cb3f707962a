"""Cosine, one-cycle and cyclic schedules."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.schedules.base import (
    LARGEST_FLOAT,
    as_floats,
    expect_rates,
    expect_warmup,
    half_cosine,
    needs_integers,
    power,
    progress,
    since,
    split_cycles,
    with_slope_of,
)
from fnn.types import Number, Scalar, Schedule, Step
from fnn.values import maker

CYCLE_SHAPES = ("triangular", "triangular2", "exp_range")

# One cycle: up in the warm-up, then down.


@maker
def cosine(
    peak: Number, *, steps: Number, warmup_steps: Number = 0, floor: Number = 0.0
) -> Schedule:
    """Cosine decay after an optional linear warm-up.

    rate(t) = floor + (peak - floor) (1 + cos(π t / steps)) / 2, then floor. With a warm-up the rate
    first rises from 0 to peak, and the cosine takes the rest of the steps [Loshchilov & Hutter
    2017, arXiv:1608.03983].

    Args:
        peak: The highest rate, >= 0.
        steps: Steps of warm-up and decay together, > 0.
        warmup_steps: Steps of the warm-up, in [0, steps).
        floor: The last rate, >= 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("cosine", peak=peak, floor=floor)
    expect_warmup("cosine", warmup_steps, steps)

    def rise(share: Scalar, top: Scalar) -> Scalar:
        return top * share

    return _rise_then_cosine(rise, peak, floor, warmup_steps, steps)


@maker
def one_cycle(
    peak: Number,
    *,
    steps: Number,
    warmup_steps: Number | None = None,
    start: Number | None = None,
    floor: Number | None = None,
) -> Schedule:
    """One-cycle policy: half a cosine up to peak, half a cosine down to floor, then floor.

    [Smith & Topin 2018, arXiv:1708.07120]

    Args:
        peak: The highest rate, >= 0.
        steps: Steps of the cycle, > 0.
        warmup_steps: Steps up, in [0, steps); None for 0.3 steps, as in torch.
        start: The first rate, >= 0; None for peak / 25, as in torch.
        floor: The last rate, >= 0; None for start / 10⁴, as in torch.

    Raises:
        ConfigError: A number is out of range.
    """
    rates = {"peak": peak, "start": start, "floor": floor}
    given = {name: rate for name, rate in rates.items() if rate is not None}
    expect_rates("one_cycle", **given)
    checks.number("one_cycle steps", steps, "(0, inf)")
    if start is None:
        start = peak / 25
    if floor is None:
        floor = start / 1e4
    if warmup_steps is None:
        # In the dtype of floats: a traced integer count would promote the product.
        warmup_steps = 0.3 * trees.knob(steps, jnp.zeros(()))
    expect_warmup("one_cycle", warmup_steps, steps)

    def rise(share: Scalar, top: Scalar) -> Scalar:
        return half_cosine(jnp.asarray(start, top.dtype), top, share)

    return _rise_then_cosine(rise, peak, floor, warmup_steps, steps)


def _rise_then_cosine(
    rise: Callable[[Scalar, Scalar], Scalar],
    peak: Number,
    floor: Number,
    warmup_steps: Number,
    steps: Number,
) -> Schedule:
    """Make a schedule of rise(share of the warm-up, peak), then half a cosine down to floor."""

    def schedule(step: Step) -> Scalar:
        _, top, bottom, warmup, end = as_floats(step, peak, floor, warmup_steps, steps)
        rising = rise(progress(step, 0, warmup), top)
        falling = half_cosine(top, bottom, progress(step, warmup, end))
        return jnp.where(since(step, warmup) < 0, rising, falling)

    return Schedule(schedule, steps)


# Many cycles.


@maker
def cosine_restarts(
    peak: Number, *, steps: Number, growth: Number = 1.0, factor: Number = 1.0, floor: Number = 0.0
) -> Schedule:
    """SGDR: cosine decay with warm restarts.

    The step that begins a cycle has the peak of that cycle. With whole numbers for `steps` and
    `growth` this is exact for 2³¹ steps [Loshchilov & Hutter 2017, arXiv:1608.03983].

    Args:
        peak: The first peak, >= 0.
        steps: Steps of the first cycle, > 0.
        growth: Length of a cycle relative to that of the one before, >= 1.
        factor: Height of a peak above the floor relative to that of the one before, in [0, 1].
        floor: The rate at the end of each cycle, >= 0.

    Raises:
        ConfigError: A number is out of range.
    """
    expect_rates("cosine_restarts", peak=peak, floor=floor)
    checks.number("cosine_restarts steps", steps, "(0, inf)")
    checks.number("cosine_restarts growth", growth, "[1, inf)")
    checks.number("cosine_restarts factor", factor, "[0, 1]")

    def schedule(step: Step) -> Scalar:
        _, top, first, ratio, decay, bottom = as_floats(step, peak, steps, growth, factor, floor)
        cycle, share = _locate_cycle(step, first, ratio)
        # The height above the floor, not the rate, is multiplied by the factor.
        cycle_peak = bottom + (top - bottom) * power(decay, cycle)
        return half_cosine(cycle_peak, bottom, share)

    return Schedule(schedule)


@maker
def cyclic(
    peak: Number,
    *,
    steps: Number,
    floor: Number = 0.0,
    shape: str = "triangular",
    factor: Number = 1.0,
) -> Schedule:
    """Cyclical rates: linear from floor to peak and back, repeated [Smith 2017, arXiv:1506.01186].

    Args:
        peak: The highest rate, >= 0.
        steps: Steps from floor to peak, > 0: half a cycle.
        floor: The lowest rate, >= 0.
        shape: "triangular" for equal peaks, "triangular2" to halve the height above the floor in
            each cycle, "exp_range" to multiply it by `factor` in each step.
        factor: Of "exp_range", in (0, 1].

    Raises:
        ConfigError: A number is out of range, or `shape` is not one of these.
    """
    expect_rates("cyclic", peak=peak, floor=floor)
    checks.number("cyclic steps", steps, "(0, inf)")
    checks.choice("cyclic shape", shape, CYCLE_SHAPES)
    checks.number("cyclic factor", factor, "(0, 1]")

    def schedule(step: Step) -> Scalar:
        t, top, half, bottom, ratio = as_floats(step, peak, steps, floor, factor)
        cycle, rest = split_cycles(step, 2 * half)
        # A triangle of height 1: 0 where a cycle begins, 1 in its middle.
        position = rest / half  # in [0, 2), in units of half a cycle
        triangle = 1 - jnp.abs(position - 1)
        factors = {
            "triangular": jnp.ones_like(t),
            "triangular2": 0.5**cycle,
            "exp_range": power(ratio, t),
        }
        return bottom + (top - bottom) * triangle * factors[shape]

    return Schedule(schedule)


def _locate_cycle(step: Step, first: Scalar, growth: Scalar) -> tuple[Scalar, Scalar]:
    """Find the cycle at a step and the progress in it, [0, 1], by the length of the first one."""
    equal_cycle, rest = split_cycles(step, first)
    (t,) = as_floats(step)
    growing_cycle, growing_share = _locate_growing(t / first, growth)
    if needs_integers(step):
        is_whole = (first == jnp.round(first)) & (growth == jnp.round(growth))
        is_whole &= jnp.maximum(first, growth) <= LARGEST_FLOAT
        # Floats are exact enough for early steps, and take less time.
        whole_cycle, whole_share = jax.lax.cond(
            jnp.any(t >= 2.0**19),
            lambda: _count_growing(step, first, growth),
            lambda: (growing_cycle, growing_share),
        )
        growing_cycle = jnp.where(is_whole, whole_cycle, growing_cycle)
        growing_share = jnp.where(is_whole, whole_share, growing_share)
    grows = growth > 1
    cycle = jnp.where(grows, growing_cycle, equal_cycle)
    return cycle, jnp.where(grows, growing_share, rest / first)


def _count_growing(step: Step, first: Scalar, growth: Scalar) -> tuple[Scalar, Scalar]:
    """Locate a cycle by integers, for a growth >= 2 and a first length that are whole."""
    grows = growth > 1
    ratio = jnp.where(grows, growth, 2)
    now = jnp.asarray(step, jnp.uint32)
    factor = ratio.astype(jnp.uint32)
    begin = jnp.zeros_like(now)
    length = jnp.broadcast_to(first.astype(jnp.uint32), now.shape)
    cycle = jnp.zeros(now.shape, first.dtype)
    # Each cycle is at least twice as long as the one before, so the last of 31 ends after step 2³¹.
    rough = jnp.broadcast_to(first, now.shape)
    # Scalars in a row cost less than a loop or an array of cycles.
    for _ in range(31):
        # Integers wrap around at 2³²; their floats show where.
        over = (begin + length <= now) & (rough < 2.0**31)
        begin = jnp.where(over, begin + length, begin)
        length = jnp.where(over, length * factor, length)
        rough = jnp.where(over, rough * ratio, rough)
        cycle = jnp.where(over, cycle + 1, cycle)
    rest = now - begin
    share = rest.astype(first.dtype) / rough
    (t,) = as_floats(step)
    smooth = (t / first - _cycle_start(cycle, ratio)) / ratio**cycle
    return cycle, with_slope_of(share, smooth)


def _locate_growing(time: Scalar, growth: Scalar) -> tuple[Scalar, Scalar]:
    """Locate a cycle by floats, from the time in lengths of the first one."""
    grows = growth > 1
    # growth = 1 is a limit of the formulas that has a zero
    # divisor; there the branch gets a ratio of 2.
    ratio = jnp.where(grows, growth, 2)
    # The inverse of the formula for the start of a cycle.
    numerator = jnp.log1p(time * (ratio - 1))
    logarithm = numerator / jnp.log(ratio)
    guess = jnp.where(grows, logarithm, time)
    # Where a cycle begins, the logarithm may be off by rounding, and so
    # may the computed beginning. So the nearest cycle is taken, and the
    # one before it only if the time is clearly before its beginning.
    slack = 8 * jnp.finfo(time.dtype).eps * (1 + time)
    cycle = jnp.round(guess)
    is_late = _cycle_start(cycle, growth) > time + slack
    cycle = jnp.where(is_late, cycle - 1, cycle)
    length = jnp.where(grows, ratio**cycle, 1)
    share = (time - _cycle_start(cycle, growth)) / length
    return cycle, jnp.clip(share, 0, 1)


def _cycle_start(cycle: Scalar, growth: Scalar) -> Scalar:
    """The time at which cycle n begins: (growthⁿ - 1) / (growth - 1), or n for equal lengths."""
    grows = growth > 1
    ratio = jnp.where(grows, growth, 2)
    geometric_sum = (ratio**cycle - 1) / (ratio - 1)
    return jnp.where(grows, geometric_sum, cycle)
