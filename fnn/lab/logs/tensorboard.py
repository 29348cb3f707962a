"""A log that TensorBoard shows."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.lab.logs.log import Begun, Log, each, not_begun
from fnn.lab.plots.image_grid import tiled
from fnn.types import TrainState

EVENTS = "events.out.tfevents.*"
BINS = 64  # of a histogram; TensorBoard draws about half as many
SECONDS = 10  # at the longest until a page that looks on can see a figure


def tensorboard_log(directory: str | os.PathLike[str], *, histograms: bool = True) -> Log:
    """A log into event files, which `tensorboard --logdir` shows: one directory a run, side by side in a folder.

    Figures are scalars; settings stand in the table of hyperparameters; the first batch is an image; histograms after
    each epoch tell of every array of params and of state what is finite in it. When a run resumes, TensorBoard forgets
    what was told of later steps. ConfigError where a run begins and the directory holds events already, and without
    tensorboardX. Needs fnn[tensorboard].
    """
    target, make = Path(directory), _maker()
    checks.flag("tensorboard_log histograms", histograms)
    if target.exists() and not target.is_dir():
        raise ConfigError(
            "tensorboard_log directory", "a folder, or nothing yet", target, "name another"
        )
    writer: Any = None
    ending: Any = None

    def begin(begun: Begun) -> None:
        nonlocal writer, ending
        close()
        past = len(list(target.glob(EVENTS)))
        if past and begun.is_new:
            advice = "name a directory of its own for each run"
            raise ConfigError(
                "tensorboard_log directory", "no events yet, as the run begins", target, advice
            )
        images = begun.images()
        image = None if images is None else tiled(images)
        # TensorBoard purges what was told of this step and later ones, but not at the first mark of the kind, so each
        # run needs one. tensorboardX names a file by the second, and of two in one second would make one.
        writer = make(
            str(target),
            purge_step=begun.step + 1,
            filename_suffix=f".{past:04}",
            flush_secs=SECONDS,
        )
        experiment, start, ending = _settings(begun)
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(start)
        if image is not None:
            writer.add_image("first_batch", image, begun.step, dataformats="HWC")

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        if writer is None:
            raise not_begun("tensorboard_log", steps)
        for step, own in each(steps, figures):
            for name, value in own.items():
                writer.add_scalar(name, value, step)

    def look(step: int, train_state: TrainState) -> None:
        leaves = trees.named_leaves({"params": train_state.params, "state": train_state.state})
        for path, leaf in leaves.items():
            values = (
                np.asarray(leaf, float)
                if jnp.issubdtype(leaf.dtype, jnp.floating)
                else np.array([])
            )
            finite = values[np.isfinite(values)]
            if finite.size:
                writer.add_histogram(path, finite, step, bins=BINS)

    def close() -> None:
        nonlocal writer
        if writer is not None:
            writer.file_writer.add_summary(ending)
            writer.close()
        writer = None

    return Log(begin, write, look, close) if histograms else Log(begin, write, close=close)


def _maker() -> Callable[..., Any]:
    if not (
        find_spec("tensorboardX") and find_spec("PIL")
    ):  # it draws images with pillow, but does not bring it
        advice = "pip install 'fnn[tensorboard]'"
        raise ConfigError(
            "tensorboard_log", "tensorboardX and pillow to write with", "no such packages", advice
        )
    from tensorboardX import SummaryWriter

    return SummaryWriter


def _settings(begun: Begun) -> tuple[Any, Any, Any]:
    """What stands in the table of hyperparameters: the experiment, that a session begins, that it ends."""
    from tensorboardX.summary import hparams

    settings = {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in begun.settings.items()
    }
    return hparams(settings, dict.fromkeys(begun.names))
