"""Schedules composed of other schedules, of phases, or of an array of rates."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.optim.schedules.base import (
    as_floats,
    as_part,
    expect_increasing,
    expect_rates,
    expect_warmup,
    half_cosine,
    progress,
    run_from,
    since,
)
from fnn.types import Number, Rate, Scalar, Schedule, Step
from fnn.values import maker

DECAY_SHAPES = ("linear", "cosine", "rsqrt")


@maker
def warmup(schedule: Rate, *, warmup_steps: Number, start: Number = 0.0) -> Schedule:
    """Linear warm-up before another schedule, which begins with its step 0 after it.

    [Goyal et al. 2017, arXiv:1706.02677]

    Args:
        schedule: A number or a schedule. The warm-up ends at its first rate.
        warmup_steps: Steps of the warm-up, >= 0.
        start: The first rate, >= 0.

    Raises:
        ConfigError: A number is out of range, or `schedule` is neither a number nor a function.
    """
    main = as_part("warmup schedule", schedule)
    expect_rates("warmup", start=start)
    checks.number("warmup warmup_steps", warmup_steps, "[0, inf)")

    def warmed_up(step: Step) -> Scalar:
        _, low, warmup = as_floats(step, start, warmup_steps)
        rate = run_from(main, step, warmup)
        # The share is 1 from the end of the warm-up on, and for a warm-up of 0 steps.
        share = progress(step, 0, warmup)
        return (1 - share) * low + share * rate

    return Schedule(warmed_up, _add_steps(warmup_steps, main.steps))


@maker
def wsd(
    peak: Number,
    *,
    steps: Number,
    warmup_steps: Number = 0,
    decay_steps: Number,
    floor: Number = 0.0,
    shape: str = "linear",
) -> Schedule:
    """Warmup-stable-decay: a linear warm-up to peak, then peak, then a decay to floor.

    [Zhai et al. 2022, arXiv:2106.04560; Hu et al. 2024,
    arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392]

    Args:
        peak: The highest rate, >= 0.
        steps: All steps, > 0.
        warmup_steps: Steps of the warm-up, in [0, steps).
        decay_steps: Steps of the decay, in [0, steps - warmup_steps].
        floor: The last rate, >= 0.
        shape: The decay by its progress: "linear", "cosine"
            for half a cosine, "rsqrt" for 1 - √progress.

    Raises:
        ConfigError: A number is out of range, or `shape` is not one of these.
    """
    expect_rates("wsd", peak=peak, floor=floor)
    expect_warmup("wsd", warmup_steps, steps)
    checks.number("wsd decay_steps", decay_steps, "[0, inf)")
    checks.choice("wsd shape", shape, DECAY_SHAPES)
    _expect_room_for_decay(warmup_steps, decay_steps, steps)

    def schedule(step: Step) -> Scalar:
        _, top, warmup, decay, end, bottom = as_floats(
            step, peak, warmup_steps, decay_steps, steps, floor
        )
        rising = top * progress(step, 0, warmup)
        share = progress(step, end - decay, end)  # 0 until the decay begins
        if shape == "linear":
            falling = (1 - share) * top + share * bottom
        elif shape == "cosine":
            falling = half_cosine(top, bottom, share)
        else:
            falling = bottom + (top - bottom) * (1 - _safe_sqrt(share))
        return jnp.where(since(step, warmup) < 0, rising, falling)

    return Schedule(schedule, steps)


def _expect_room_for_decay(warmup_steps: Number, decay_steps: Number, steps: Number) -> None:
    # Traced numbers are not known yet.
    if not all(map(checks.is_concrete, (warmup_steps, decay_steps, steps))):
        return
    if float(warmup_steps) + float(decay_steps) > float(steps):
        expected = f"at most steps - warmup_steps = {steps - warmup_steps}"
        advice = "decay later or train longer"
        raise ConfigError("wsd decay_steps", expected, decay_steps, advice)


@maker
def join(schedules: Sequence[Rate], *, boundaries: Sequence[Number]) -> Schedule:
    """Run schedules one after the other; each begins with its step 0.

    Args:
        schedules: Numbers or schedules. Number i runs from
            step boundaries[i - 1] until before boundaries[i].
        boundaries: The steps at which the next one begins, increasing; one fewer than schedules.

    Raises:
        ConfigError: The lengths do not fit, boundaries do not increase, or a schedule is neither a
            number nor a function.
    """
    if len(schedules) != len(boundaries) + 1:
        expected = f"one more than the {len(boundaries)} boundaries"
        advice = "give the step at which each but the first begins"
        raise ConfigError("join schedules", expected, len(schedules), advice)
    parts = [as_part(f"join schedules {i}", rate) for i, rate in enumerate(schedules)]
    expect_increasing("join boundaries", boundaries)

    # A schedule is a function of traced steps, so that the choice is a `where`, not a branch.
    def joined(step: Step) -> Scalar:
        value = parts[0](step)
        for part, begin in zip(parts[1:], boundaries, strict=True):
            # All parts are evaluated at every step, so none may be given a negative one.
            rate = run_from(part, step, begin)
            value = jnp.where(since(step, begin) >= 0, rate, value)
        return value

    # Without boundaries there is one schedule, which begins at once.
    steps = _add_steps(*boundaries[-1:], parts[-1].steps)
    return Schedule(joined, steps)


@maker
def table(rates: Any) -> Schedule:
    """Rates from an array, rate(t) = rates[t], and the last one from then on.

    The gradient through a run reaches every entry.

    Args:
        rates: An array (steps,) of rates >= 0.

    Raises:
        DTypeError: `rates` is not an array.
        ShapeError: It has no entries, or not one axis.
        ConfigError: A rate is below 0.
    """
    if not hasattr(rates, "dtype"):
        got = type(rates).__name__
        raise DTypeError("table rates", "an array of rates (steps,)", got, "use jax.numpy.array")
    if rates.ndim != 1 or rates.size == 0:
        expected = "one axis, of at least one step"
        raise ShapeError("table rates", expected, rates.shape, "give one rate a step")
    if checks.is_concrete(rates):
        known = np.asarray(rates)
        if not (known >= 0).all():
            advice = "choose rates that descend"
            raise ConfigError("table rates", "rates >= 0", known.min(), advice)

    def schedule(step: Step) -> Scalar:
        # (steps,) in the dtype of floats, whatever that of the array.
        values = jnp.asarray(rates, jnp.result_type(float))
        index = jnp.asarray(step).astype(jnp.int32)
        index = jnp.clip(index, 0, len(values) - 1)
        return values[index]

    return Schedule(schedule, len(rates) - 1)


def _add_steps(*steps: Number | None) -> Number | None:
    """Add numbers of steps; None if one is traced, or None for a schedule without an end."""
    total = 0.0
    for number in steps:
        if number is None or not checks.is_concrete(number):
            return None
        total += float(number)
    return total


def _safe_sqrt(x: Scalar) -> Scalar:
    """√x, whose derivative at 0 is taken as 0."""
    positive = x > 0
    # The inner `where` keeps the infinite slope of √0 out of derivatives.
    safe_x = jnp.where(positive, x, 1)
    return jnp.where(positive, jnp.sqrt(safe_x), 0)
