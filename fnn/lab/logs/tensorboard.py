"""Log into event files of TensorBoard."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.lab.logs.log import Log, RunInfo, iterate_steps, not_begun_error
from fnn.lab.plots.image_grid import tile_images
from fnn.types import TrainState

EVENT_FILES = "events.out.tfevents.*"
BINS = 64  # of a histogram; TensorBoard draws about half as many
FLUSH_SECONDS = 10  # maximum delay until an open page can show a figure


def tensorboard_log(directory: str | os.PathLike[str], *, histograms: bool = True) -> Log:
    """Log into event files, for `tensorboard --logdir`. Needs the extra `tensorboard`.

    Figures are scalars, the settings of the run are in the table of hyperparameters, and the first
    batch is an image. When a run resumes, TensorBoard discards the events of later steps.

    Args:
        directory: Folder of one run. Put the folders of several runs into one folder to compare
            them.
        histograms: Whether to write, after each epoch, a histogram of the finite values of each
            array of params and state.

    Raises:
        ConfigError: `directory` is a file, or tensorboardX is not installed. Also raised when a
            run begins and the directory already holds events.
    """
    target = Path(directory)
    make_writer = _writer_class()
    checks.flag("tensorboard_log histograms", histograms)
    if target.exists() and not target.is_dir():
        raise ConfigError(
            "tensorboard_log directory",
            "a folder, or a path that does not exist",
            target,
            "name another",
        )
    writer: Any = None
    session_end: Any = None

    def begin(info: RunInfo) -> None:
        nonlocal writer, session_end
        close()
        existing = list(target.glob(EVENT_FILES))
        if existing and info.is_new:
            raise ConfigError(
                "tensorboard_log directory",
                "a folder without events when a run begins",
                target,
                "name a new directory for each run",
            )
        images = info.images()
        image = None if images is None else tile_images(images)
        # TensorBoard discards events from `purge_step` on, but not for the first such mark of a
        # directory. So every session writes one, also the first.
        # The suffix is needed because tensorboardX names files by the second: two sessions within
        # one second would write to one file.
        writer = make_writer(
            str(target),
            purge_step=info.step + 1,
            filename_suffix=f".{len(existing):04}",
            flush_secs=FLUSH_SECONDS,
        )
        experiment, session_start, session_end = _hparams_summaries(info)
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(session_start)
        if image is not None:
            writer.add_image("first_batch", image, info.step, dataformats="HWC")

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        if writer is None:
            raise not_begun_error("tensorboard_log", steps)
        for step, row in iterate_steps(steps, figures):
            for name, value in row.items():
                writer.add_scalar(name, value, step)

    def on_state(step: int, train_state: TrainState) -> None:
        arrays = {"params": train_state.params, "state": train_state.state}
        for path, leaf in trees.named_leaves(arrays).items():
            # A run that diverged has NaN, which a histogram cannot hold.
            finite = _finite_values(leaf)
            if finite.size:
                writer.add_histogram(path, finite, step, bins=BINS)

    def close() -> None:
        nonlocal writer
        if writer is not None:
            writer.file_writer.add_summary(session_end)
            writer.close()
        writer = None

    if not histograms:
        return Log(begin, write, close=close)
    return Log(begin, write, on_state, close)


def _finite_values(leaf: jax.Array) -> np.ndarray:
    """Return the finite values of an array of floats, (n,); of other dtypes, none."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.array([])
    values = np.asarray(leaf, float)
    return values[np.isfinite(values)]


def _writer_class() -> Callable[..., Any]:
    """Import the writer of tensorboardX, or raise ConfigError where it is not installed."""
    # tensorboardX draws images with pillow, but does not depend on it.
    if not (find_spec("tensorboardX") and find_spec("PIL")):
        raise ConfigError(
            "tensorboard_log",
            "the packages tensorboardX and pillow",
            "no such packages",
            "pip install '.[tensorboard]' in the checkout of fnn",
        )
    from tensorboardX import SummaryWriter

    return SummaryWriter


def _hparams_summaries(info: RunInfo) -> tuple[Any, Any, Any]:
    """Make the summaries of the hyperparameter table: experiment, session start, session end."""
    from tensorboardX.summary import hparams

    settings = {}
    for name, value in info.settings.items():
        is_plain = isinstance(value, str | int | float)
        settings[name] = value if is_plain else str(value)
    return hparams(settings, dict.fromkeys(info.names))
