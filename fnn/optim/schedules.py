"""Learning rates over time: a schedule is a function step -> rate, and each number it is made of may be traced."""

from collections.abc import Callable

import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.types import Number, Rate, Scalar, Schedule, Step


def constant(value: Number) -> Schedule:
    """rate(t) = value."""
    checks.number("constant value", value, "[0, inf)")
    return lambda step: jnp.asarray(value, jnp.result_type(float))


def cosine(peak: Number, *, steps: Number, warmup_steps: Number = 0, floor: Number = 0.0) -> Schedule:
    """Half a cosine down, rate(t) = floor + (peak - floor) (1 + cos(π t / steps)) / 2, then floor.

    Where warmup_steps is given the rate first rises linearly from 0 to peak; the cosine takes the rest of the steps.
    ConfigError unless rates >= 0 and 0 <= warmup_steps < steps [Loshchilov & Hutter 2017, arXiv:1608.03983].
    """
    _expect_rates("cosine", peak=peak, floor=floor)
    _expect_warmup("cosine", warmup_steps, steps)
    return _warmed(lambda progress, peak: peak * progress, peak, floor, warmup_steps, steps)


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
    _expect_rates("one_cycle", **{name: rate for name, rate in given.items() if rate is not None})
    checks.number("one_cycle steps", steps, "(0, inf)")
    start = peak / 25 if start is None else start
    floor = start / 1e4 if floor is None else floor
    warmup_steps = 0.3 * trees.knob(steps, jnp.zeros(())) if warmup_steps is None else warmup_steps
    _expect_warmup("one_cycle", warmup_steps, steps)

    return _warmed(
        lambda progress, peak: _ease(jnp.asarray(start, peak.dtype), peak, progress), peak, floor, warmup_steps, steps
    )


def as_schedule(where: str, rate: Rate) -> Schedule:
    """A schedule as it is, a number as a constant one; ConfigError for a negative number."""
    if callable(rate):
        return rate
    checks.number(f"{where} rate", rate, "[0, inf)")
    return constant(rate)


def _warmed(
    rise: Callable[[Scalar, Scalar], Scalar], peak: Number, floor: Number, warmup_steps: Number, steps: Number
) -> Schedule:
    """A rise to peak during the warm-up, then half a cosine down to floor."""

    def schedule(step: Step) -> Scalar:
        now = jnp.asarray(step, jnp.result_type(float))
        top, bottom, turn, end = (jnp.asarray(number, now.dtype) for number in (peak, floor, warmup_steps, steps))
        rising = rise(_progress(now, jnp.zeros_like(turn), turn), top)
        return jnp.where(now < turn, rising, _ease(top, bottom, _progress(now, turn, end)))

    return schedule


def _progress(now: Scalar, begin: Scalar, end: Scalar) -> Scalar:
    """How far now is from begin to end, within [0, 1]; 1 where nothing lies between."""
    positive = end > begin  # guarded before the division, so that its gradient is finite as well
    length = jnp.where(positive, end - begin, 1)
    return jnp.where(positive, jnp.clip((now - begin) / length, 0, 1), 1)


def _ease(begin: Scalar, end: Scalar, progress: Scalar) -> Scalar:
    """From begin to end along half a cosine."""
    return end + (begin - end) * (1 + jnp.cos(jnp.pi * progress)) / 2


def _expect_rates(where: str, **rates: Number) -> None:
    for name, rate in rates.items():
        checks.number(f"{where} {name}", rate, "[0, inf)")


def _expect_warmup(where: str, warmup_steps: Number, steps: Number) -> None:
    checks.number(f"{where} steps", steps, "(0, inf)")
    checks.number(f"{where} warmup_steps", warmup_steps, "[0, inf)")
    if checks.is_concrete(warmup_steps) and checks.is_concrete(steps) and float(warmup_steps) >= float(steps):
        raise ConfigError(
            f"{where} warmup_steps", f"fewer than steps={steps}", warmup_steps, "train longer or warm up less"
        )
