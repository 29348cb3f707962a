"""Cosine, one-cycle and cyclic schedules."""

from collections.abc import Callable

import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.schedules.base import as_time, ease, expect_rates, expect_warmup, power, progress
from fnn.types import Number, Scalar, Schedule, Step
from fnn.values import maker


@maker
def cosine(
    peak: Number, *, steps: Number, warmup_steps: Number = 0, floor: Number = 0.0
) -> Schedule:
    """Half a cosine down, rate(t) = floor + (peak - floor) (1 + cos(π t / steps)) / 2, then floor.

    Where warmup_steps is given the rate first rises linearly from 0 to peak; the cosine takes the rest of the steps.
    ConfigError unless rates >= 0 and 0 <= warmup_steps < steps [Loshchilov & Hutter 2017, arXiv:1608.03983].
    """
    expect_rates("cosine", peak=peak, floor=floor)
    expect_warmup("cosine", warmup_steps, steps)
    return _warmed(lambda share, peak: peak * share, peak, floor, warmup_steps, steps)


@maker
def one_cycle(
    peak: Number,
    *,
    steps: Number,
    warmup_steps: Number | None = None,
    start: Number | None = None,
    floor: Number | None = None,
) -> Schedule:
    """Half a cosine up from start to peak, then half a cosine down to floor, then floor.

    By default warmup_steps = 0.3 steps, start = peak / 25, floor = start / 10⁴.
    ConfigError unless rates >= 0 and 0 <= warmup_steps < steps [Smith & Topin 2018, arXiv:1708.07120].
    """
    given = {"peak": peak, "start": start, "floor": floor}
    expect_rates("one_cycle", **{name: rate for name, rate in given.items() if rate is not None})
    checks.number("one_cycle steps", steps, "(0, inf)")
    start = peak / 25 if start is None else start
    floor = start / 1e4 if floor is None else floor
    warmup_steps = 0.3 * trees.knob(steps, jnp.zeros(())) if warmup_steps is None else warmup_steps
    expect_warmup("one_cycle", warmup_steps, steps)

    return _warmed(
        lambda share, peak: ease(jnp.asarray(start, peak.dtype), peak, share),
        peak,
        floor,
        warmup_steps,
        steps,
    )


def _warmed(
    rise: Callable[[Scalar, Scalar], Scalar],
    peak: Number,
    floor: Number,
    warmup_steps: Number,
    steps: Number,
) -> Schedule:
    """A rise to peak during the warm-up, then half a cosine down to floor."""

    def schedule(step: Step) -> Scalar:
        now, top, bottom, turn, end = as_time(step, peak, floor, warmup_steps, steps)
        rising = rise(progress(now, jnp.zeros_like(turn), turn), top)
        return jnp.where(now < turn, rising, ease(top, bottom, progress(now, turn, end)))

    return Schedule(schedule, steps)


SHAPES = ("triangular", "triangular2", "exp_range")


@maker
def cosine_restarts(
    peak: Number, *, steps: Number, growth: Number = 1.0, factor: Number = 1.0, floor: Number = 0.0
) -> Schedule:
    """Half a cosine down from peak to floor, again and again: SGDR.

    The first cycle takes so many steps, each later one growth times those of the one before, and its peak above the
    floor is factor times that of the one before. The step that begins a cycle has its peak. ConfigError unless
    peak, floor >= 0, steps > 0, growth >= 1 and 0 <= factor <= 1 [Loshchilov & Hutter 2017, arXiv:1608.03983].
    """
    expect_rates("cosine_restarts", peak=peak, floor=floor)
    checks.number("cosine_restarts steps", steps, "(0, inf)")
    checks.number("cosine_restarts growth", growth, "[1, inf)")
    checks.number("cosine_restarts factor", factor, "[0, 1]")

    def schedule(step: Step) -> Scalar:
        now, top, first, ratio, share, bottom = as_time(step, peak, steps, growth, factor, floor)
        cycle, progress = _cycle(now / first, ratio)
        return ease(bottom + (top - bottom) * power(share, cycle), bottom, progress)

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
    """A line up from floor to peak in so many steps and one down again, over and over.

    triangular:  every peak the same;
    triangular2: the height above the floor halves from cycle to cycle;
    exp_range:   the height is multiplied by factor at every step.
    ConfigError unless peak, floor >= 0, steps > 0 and 0 < factor <= 1 [Smith 2017, arXiv:1506.01186].
    """
    expect_rates("cyclic", peak=peak, floor=floor)
    checks.number("cyclic steps", steps, "(0, inf)")
    checks.choice("cyclic shape", shape, SHAPES)
    checks.number("cyclic factor", factor, "(0, 1]")

    def schedule(step: Step) -> Scalar:
        now, top, half, bottom, share = as_time(step, peak, steps, floor, factor)
        cycle = jnp.floor_divide(now, 2 * half)
        height = 1 - jnp.abs(now / half - 2 * cycle - 1)
        shapes = {
            "triangular": jnp.ones_like(now),
            "triangular2": 0.5**cycle,
            "exp_range": power(share, now),
        }
        return bottom + (top - bottom) * height * shapes[shape]

    return Schedule(schedule)


def _cycle(time: Scalar, growth: Scalar) -> tuple[Scalar, Scalar]:
    """The number of the cycle at a time, counted in lengths of the first cycle, and the progress in it, [0, 1).

    Cycle n begins at (growthⁿ - 1) / (growth - 1), or at n where all are of one length.
    """
    grows = growth > 1
    ratio = jnp.where(grows, growth, 2)
    guess = jnp.where(grows, jnp.log1p(time * (ratio - 1)) / jnp.log(ratio), time)
    # The logarithm may be a rounding off where a cycle begins, and so may the beginning itself.
    slack = 8 * jnp.finfo(time.dtype).eps * (1 + time)
    cycle = jnp.round(guess)
    cycle = jnp.where(_begin(cycle, growth) > time + slack, cycle - 1, cycle)
    length = jnp.where(grows, ratio**cycle, 1)
    return cycle, jnp.clip((time - _begin(cycle, growth)) / length, 0, 1)


def _begin(cycle: Scalar, growth: Scalar) -> Scalar:
    grows = growth > 1
    ratio = jnp.where(grows, growth, 2)
    return jnp.where(grows, (ratio**cycle - 1) / (ratio - 1), cycle)
