"""Plot of learning rate schedules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.types import ScheduleFunction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_STYLES = ("-", "--", ":", "-.")  # the next one after all colors are used

Schedules = ScheduleFunction | Mapping[str, ScheduleFunction]


def plot_schedule(
    schedule: Schedules,
    path: FilePath | None = None,
    *,
    steps: int,
) -> "Figure":
    """Plot a schedule, or several by name, from step 0 on.

    Needs matplotlib: pip install '.[plot]'.

    Args:
        schedule: A schedule, a function step -> rate; or several by name.
        path: The file to write, such as "schedule.png"; not written if None.
        steps: The last step.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `schedule` is not a schedule, `steps` is not a whole number >= 1, the suffix of
            `path` is not a picture format, its folder does not exist, or matplotlib is not
            installed.
    """
    named = schedule if isinstance(schedule, Mapping) else {"": schedule}
    for name, function in named.items():
        if not callable(function):
            raise ConfigError(
                f"plot_schedule {name}".strip(),
                "a function step -> rate",
                repr(function),
                "call its maker, as in optim.cosine(0.1, steps=100)",
            )
    # int32, as the step of a train state.
    time = jnp.arange(checks.whole("plot_schedule steps", steps) + 1, dtype=jnp.int32)
    figure, target = create_figure("plot_schedule", path, figsize=(8, 4))
    axes = figure.subplots()
    for index, (name, function) in enumerate(named.items()):
        # Seven colors, then the same colors with another line style.
        repetition, color_index = divmod(index, len(PALETTE))
        color = PALETTE[color_index]
        style = LINE_STYLES[repetition % len(LINE_STYLES)]
        # All steps in one call: a schedule is a function of a traced step.
        rates = np.asarray(jax.vmap(function)(time))
        axes.plot(time, rates, color=color, linestyle=style, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("rate")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if isinstance(schedule, Mapping):
        figure.legend(loc="outside right upper", frameon=False)
    return save_figure(figure, target)
