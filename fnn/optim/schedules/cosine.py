"""Schedules along half cosines."""

from collections.abc import Callable

import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.schedules.shapes import as_time, ease, expect_rates, expect_warmup, progress
from fnn.types import Number, Scalar, Schedule, Step
from fnn.values import maker


@maker
def cosine(peak: Number, *, steps: Number, warmup_steps: Number = 0, floor: Number = 0.0) -> Schedule:
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
        lambda share, peak: ease(jnp.asarray(start, peak.dtype), peak, share), peak, floor, warmup_steps, steps
    )


def _warmed(
    rise: Callable[[Scalar, Scalar], Scalar], peak: Number, floor: Number, warmup_steps: Number, steps: Number
) -> Schedule:
    """A rise to peak during the warm-up, then half a cosine down to floor."""

    def schedule(step: Step) -> Scalar:
        now, top, bottom, turn, end = as_time(step, peak, floor, warmup_steps, steps)
        rising = rise(progress(now, jnp.zeros_like(turn), turn), top)
        return jnp.where(now < turn, rising, ease(top, bottom, progress(now, turn, end)))

    return Schedule(schedule, steps)
