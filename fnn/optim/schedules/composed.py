"""Schedules made of schedules, and of arrays."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.optim.schedules.base import (
    as_schedule,
    as_time,
    ease,
    expect_increasing,
    expect_rates,
    expect_warmup,
    progress,
)
from fnn.types import Number, Rate, Scalar, Schedule, Step
from fnn.values import maker

SHAPES = ("linear", "cosine", "rsqrt")


@maker
def warmup(schedule: Rate, *, warmup_steps: Number, start: Number = 0.0) -> Schedule:
    """A line from start to where the schedule begins, then the schedule, its step 0 at warmup_steps.

    ConfigError unless start, warmup_steps >= 0, or for what is no schedule [Goyal et al. 2017, arXiv:1706.02677].
    """
    after = as_schedule("warmup schedule", schedule)
    expect_rates("warmup", start=start)
    checks.number("warmup warmup_steps", warmup_steps, "[0, inf)")

    def warmed(step: Step) -> Scalar:
        now, low, turn = as_time(step, start, warmup_steps)
        late = after(jnp.maximum(now - turn, 0))
        share = progress(now, jnp.zeros_like(now), turn)
        return (1 - share) * low + share * late

    return Schedule(warmed, _sum(warmup_steps, after.steps))


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
    """Warm up, stay, decay: a line up to peak, then peak, and in the last decay_steps of all steps down to floor.

    Down along a line, a half cosine, or 1 - √progress ("rsqrt"). ConfigError unless rates are >= 0 and
    0 <= warmup_steps, decay_steps with warmup_steps + decay_steps <= steps [Zhai et al. 2022, arXiv:2106.04560;
    Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392].
    """
    expect_rates("wsd", peak=peak, floor=floor)
    expect_warmup("wsd", warmup_steps, steps)
    checks.number("wsd decay_steps", decay_steps, "[0, inf)")
    checks.choice("wsd shape", shape, SHAPES)
    numbers = warmup_steps, decay_steps, steps
    if all(map(checks.is_concrete, numbers)) and float(warmup_steps) + float(decay_steps) > float(
        steps
    ):
        room = f"at most steps - warmup_steps = {steps - warmup_steps}"
        raise ConfigError("wsd decay_steps", room, decay_steps, "decay later or train longer")

    def schedule(step: Step) -> Scalar:
        now, top, turn, decay, end, bottom = as_time(
            step, peak, warmup_steps, decay_steps, steps, floor
        )
        share = progress(now, end - decay, end)
        falling = {
            "linear": lambda: (1 - share) * top + share * bottom,
            "cosine": lambda: ease(top, bottom, share),
            "rsqrt": lambda: bottom + (top - bottom) * (1 - _root(share)),
        }[shape]()
        return jnp.where(now < turn, top * progress(now, jnp.zeros_like(turn), turn), falling)

    return Schedule(schedule, steps)


@maker
def join(schedules: Sequence[Rate], *, boundaries: Sequence[Number]) -> Schedule:
    """One schedule after the other: number i runs from boundaries[i - 1] on, where it begins with its step 0.

    ConfigError unless there is one more of them than of boundaries, and boundaries increase.
    """
    if len(schedules) != len(boundaries) + 1:
        wanted = f"one more than the {len(boundaries)} boundaries"
        raise ConfigError(
            "join schedules",
            wanted,
            len(schedules),
            "give the step at which each but the first begins",
        )
    parts = [
        as_schedule(f"join schedules {place}", schedule) for place, schedule in enumerate(schedules)
    ]
    expect_increasing("join boundaries", boundaries)

    def joined(step: Step) -> Scalar:
        now, *begins = as_time(step, *boundaries)
        value = parts[0](now)
        for part, begin in zip(parts[1:], begins, strict=True):
            value = jnp.where(now >= begin, part(jnp.maximum(now - begin, 0)), value)
        return value

    return Schedule(joined, _sum(*boundaries[-1:], parts[-1].steps))


@maker
def table(rates: Any) -> Schedule:
    """Any rates at all, an array (steps,): rate(t) = rates[t], and the last one from then on.

    The gradient through a run reaches every entry. ShapeError for what is no row of numbers, ConfigError for a
    rate below 0.
    """
    if not hasattr(rates, "dtype"):
        raise DTypeError(
            "table rates", "an array of rates (steps,)", type(rates).__name__, "use jax.numpy.array"
        )
    if rates.ndim != 1 or rates.size == 0:
        raise ShapeError(
            "table rates", "one axis, of at least one step", rates.shape, "give one rate a step"
        )
    if checks.is_concrete(rates) and not (np.asarray(rates) >= 0).all():
        raise ConfigError(
            "table rates", "rates >= 0", np.asarray(rates).min(), "choose rates that descend"
        )

    def schedule(step: Step) -> Scalar:
        values = jnp.asarray(rates, jnp.result_type(float))
        return values[jnp.clip(jnp.asarray(step).astype(jnp.int32), 0, len(values) - 1)]

    return Schedule(schedule, len(rates) - 1)


def _sum(*steps: Number | None) -> Number | None:
    """The steps together; None where some are not known, as those of a schedule without end."""
    if any(own is None or not checks.is_concrete(own) for own in steps):
        return None
    return sum(float(own) for own in steps if own is not None)


def _root(x: Scalar) -> Scalar:
    """√x, whose derivative at 0 is taken as 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
