"""A picture of rates over time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.figure import PALETTE, Place, blank, write
from fnn.types import ScheduleFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")


Schedules = ScheduleFunction | Mapping[str, ScheduleFunction]


def plot_schedule(schedule: Schedules, path: Place | None = None, *, steps: int) -> "Figure":
    """A picture of a schedule, or of several by name, over so many steps.

    It is the figure, which a notebook shows, and is written to path if one is given. ConfigError for what is no
    schedule, for a suffix that names no picture format, or a folder that is not there. Needs matplotlib: fnn[plot].
    """
    named = schedule if isinstance(schedule, Mapping) else {"": schedule}
    for name, one in named.items():
        if not callable(one):
            advice = "call its maker, as in optim.cosine(0.1, steps=100)"
            raise ConfigError(
                f"plot_schedule {name}".strip(), "a function step -> rate", repr(one), advice
            )
    time = jnp.arange(checks.whole("plot_schedule steps", steps) + 1, dtype=jnp.int32)
    figure, target = blank("plot_schedule", path, figsize=(8, 4))
    axes = figure.subplots()
    for place, (name, one) in enumerate(named.items()):
        color, style = PALETTE[place % len(PALETTE)], STYLES[place // len(PALETTE) % len(STYLES)]
        axes.plot(time, np.asarray(jax.vmap(one)(time)), color=color, linestyle=style, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("rate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if isinstance(schedule, Mapping):
        figure.legend(loc="outside right upper", frameon=False)
    return write(figure, target)
