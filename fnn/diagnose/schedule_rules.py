"""Rules on the length of a run: schedules and averages that do not fit it."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, optim
from fnn.diagnose.findings import WARNING, Finding, Rule
from fnn.train.recipe import Recipe
from fnn.types import Schedule
from fnn.values import Made

SCHEDULE_SAMPLES = 65  # steps at which a schedule is evaluated
NEGLIGIBLE = 1e-3  # rates below this share of the largest rate train nothing

LENGTH = Rule(
    "P19",
    "schedule_length",
    "fnn",
    ("the number of steps or the batch size was changed",),
    (),
    "plot the schedule up to the last step",
)
SNAPSHOT = Rule(
    "P20",
    "late_average",
    "fnn",
    ("the number of steps was changed",),
    ("lower start or every of the average, or train longer",),
    "compare the steps of the run with the first snapshot",
)


def schedule_findings(recipe: Recipe, total: int) -> Iterator[Finding]:
    """Find schedules longer than the run, or nearly 0 before its end, and averages that are late.

    Args:
        recipe: From `train.recipe`.
        total: Number of steps of the run.
    """
    for schedule in _schedules(recipe.optimizer):
        # A schedule has no length where it never ends, and a traced one within jit.
        if schedule.steps is not None and checks.is_concrete(schedule.steps):
            yield from _length_findings(schedule, int(schedule.steps), total)
    yield from _snapshot_findings(recipe.optimizer, total)


def _length_findings(schedule: Schedule, end: int, total: int) -> Iterator[Finding]:
    measured = {"schedule": end, "run": total}
    if end > total:
        yield LENGTH.finding(
            WARNING,
            f"the run ends at step {total:,} of a schedule of {end:,} steps",
            measured,
            "schedule longer than the run",
            advice=(f"give it steps={total}, or train longer",),
        )
    # The last step of a run may have a rate of 0.
    elif 0 < end < total - 1 and _ends_at_zero(schedule, end):
        yield LENGTH.finding(
            WARNING,
            f"the schedule's rate is 0 from step {end:,} of {total:,} on",
            measured,
            f"last rate <= {NEGLIGIBLE:g} of the largest",
            advice=(f"give it steps={total}",),
        )


def _snapshot_findings(value: Any, total: int) -> Iterator[Finding]:
    """Find an average of snapshots whose first one is after the end of the run."""
    if not isinstance(value, Made):
        return
    if value.maker in (optim.swa, optim.lawa, optim.swag):
        numbers = value.arguments
        every = numbers.get("every", 1)
        start = numbers.get("start", 0)
        # Traced numbers are not known yet.
        if checks.is_concrete(start) and checks.is_concrete(every):
            first = math.ceil(start) or math.ceil(every)
            if first > total:
                yield SNAPSHOT.finding(
                    WARNING,
                    f"the run ends at step {total:,} before the first snapshot at step {first:,}",
                    {"first": first, "run": total},
                    "first snapshot after the last step",
                )
    for child in value.children:
        yield from _snapshot_findings(child, total)


def _schedules(value: Any) -> Iterator[Schedule]:
    """Yield the outermost schedules among the arguments of a made value."""
    if isinstance(value, Schedule):
        yield value
    elif isinstance(value, Made):
        for child in value.children:
            yield from _schedules(child)


def _ends_at_zero(schedule: Schedule, end: int) -> bool:
    """Return whether the last rate is negligible compared to the largest."""
    samples = jnp.linspace(0, end, SCHEDULE_SAMPLES)
    steps = samples.astype(jnp.int32)
    rates = jax.vmap(schedule)(steps)
    last = rates[-1]
    largest = rates.max()
    # A rate may approach 0 without reaching it, as one that decays exponentially.
    is_negligible = last <= NEGLIGIBLE * largest
    return bool(is_negligible)
