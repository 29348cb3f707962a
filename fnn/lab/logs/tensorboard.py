"""Log into event files of TensorBoard."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.data.sets.dataset import file_path
from fnn.diagnose import Findings
from fnn.diagnose.layer_statistics import HISTOGRAM, HISTOGRAM_EDGES, LEVELS, QUANTILES
from fnn.errors import ConfigError
from fnn.lab.disk import make_folder, write_errors
from fnn.lab.logs.log import Log, RunInfo, iterate_steps, not_begun_error
from fnn.lab.plots.image_grid import tile_images
from fnn.types import TrainState

EVENT_FILES = "events.out.tfevents.*"
BINS = 64  # of a histogram; TensorBoard draws about half as many


def tensorboard_log(directory: str | os.PathLike[str], *, histograms: bool = True) -> Log:
    """Log into event files, for `tensorboard --logdir`. Needs the extra `tensorboard`.

    Figures are scalars, the settings of the run are in the table of hyperparameters, and the first
    batch is an image. Statistics of `diagnose.instruments` are scalars such as
    "relu_1/dead_share", and histograms in the tier full. Findings are texts. When a run resumes,
    TensorBoard discards the events of later steps.

    Args:
        directory: Folder of one run. Put the folders of several runs into one folder to compare
            them.
        histograms: Whether to write, after each epoch, a histogram of the finite values of each
            array of params and state.

    Raises:
        ConfigError: `directory` is a file, or tensorboardX is not installed. Also raised when a
            run begins and the directory already holds events.
    """
    target = file_path("tensorboard_log directory", directory)
    _expect_packages()
    checks.flag("tensorboard_log histograms", histograms)
    if target.exists() and not target.is_dir():
        raise ConfigError(
            "tensorboard_log directory",
            "a folder, or a path that does not exist",
            target,
            "name another",
        )
    events: EventFile | None = None
    session_end: Any = None
    columns: Mapping[str, tuple[str, ...]] = {}

    def begin(info: RunInfo) -> None:
        nonlocal events, session_end, columns
        close()
        columns = info.columns
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
        events = EventFile(target, session=len(existing), first_step=info.step + 1)
        experiment, session_start, session_end = _hparams_summaries(info)
        events.add(experiment)
        events.add(session_start)
        if image is not None:
            events.add(summaries().image("first_batch", image, dataformats="HWC"), info.step)
        events.flush()

    def write(steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        if events is None:
            raise not_begun_error("tensorboard_log", steps)
        scalar = summaries().scalar
        for step, row in iterate_steps(steps, figures):
            for name, value in row.items():
                events.add(scalar(name, value), step)
        events.flush()

    def on_state(step: int, train_state: TrainState) -> None:
        assert events is not None
        arrays = {"params": train_state.params, "state": train_state.state}
        for path, leaf in trees.named_leaves(arrays).items():
            # A run that diverged has NaN, which a histogram cannot hold.
            finite = _finite_values(leaf)
            if finite.size:
                events.add(summaries().histogram(path, finite, bins=BINS), step)
        events.flush()

    def write_arrays(steps: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        if events is None:
            raise not_begun_error("tensorboard_log", steps)
        for row, step in enumerate(steps.tolist()):
            for name, values in arrays.items():
                for summary in _array_summaries(name, columns[name], values[row]):
                    events.add(summary, step)
        events.flush()

    def on_findings(step: int, findings: Findings) -> None:
        assert events is not None
        for finding in findings:
            events.add(summaries().text(f"findings/{finding.id}", str(finding)), step)
        events.flush()

    def close() -> None:
        nonlocal events
        if events is not None:
            # Forgotten first: on a full disk, a second attempt would fail as well.
            open_events, events = events, None
            with closing(open_events):
                open_events.add(session_end)

    if not histograms:
        return Log(begin, write, close=close, write_arrays=write_arrays, on_findings=on_findings)
    return Log(
        begin,
        write,
        on_state,
        close,
        write_arrays,
        on_findings,
    )


def _array_summaries(name: str, columns: Sequence[str], values: np.ndarray) -> Iterator[Any]:
    """Yield summaries of one array (columns, ...) of instruments at one step.

    Tags are those of layers, such as "relu_1/dead_share". Values that are not finite are left out,
    such as the share of dead units of a layer that has none.
    """
    for column, value in zip(columns, values, strict=True):
        tag = f"{column}/{name}"
        if not np.isfinite(value).all():
            continue
        if name == HISTOGRAM:
            yield _histogram_summary(tag, value)
        elif name == QUANTILES:
            for level, quantile in zip(LEVELS, value, strict=True):
                yield summaries().scalar(f"{tag}/{level:.2f}", quantile)
        else:
            yield summaries().scalar(tag, value)


def _histogram_summary(tag: str, shares: np.ndarray) -> Any:
    """Return the histogram of these shares of the bins between HISTOGRAM_EDGES."""
    # The outer bins are open; their limits here are for the drawing alone.
    limits = np.append(HISTOGRAM_EDGES, 2 * HISTOGRAM_EDGES[-1])
    lower = np.insert(HISTOGRAM_EDGES, 0, 2 * HISTOGRAM_EDGES[0])
    centers = (lower + limits) / 2
    return summaries().histogram_raw(
        tag,
        min=lower[0],
        max=limits[-1],
        num=1.0,
        sum=float(shares @ centers),
        sum_squares=float(shares @ centers**2),
        bucket_limits=limits.tolist(),
        bucket_counts=shares.tolist(),
    )


def _finite_values(leaf: jax.Array) -> np.ndarray:
    """Return the finite values of an array of floats, (n,); of other dtypes, none."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.array([])
    values = np.asarray(leaf, float)
    return values[np.isfinite(values)]


def _expect_packages() -> None:
    """Raise ConfigError where tensorboardX is not installed."""
    # tensorboardX draws images with pillow, but does not depend on it.
    if not (find_spec("tensorboardX") and find_spec("PIL")):
        raise ConfigError(
            "tensorboard_log",
            "the packages tensorboardX and pillow",
            "no such packages",
            "pip install '.[tensorboard]' in the checkout of fnn",
        )


def summaries() -> Any:
    """Return the functions of tensorboardX that make summaries."""
    from tensorboardX import summary

    return summary


class EventFile:
    """A file of events.

    tensorboardX's own SummaryWriter writes from a thread. On a full disk the thread ends, and the
    run would wait for it forever. This class writes where it is called, so that errors are raised.

    Args:
        directory: The folder, which is made if it does not exist.
        session: Number of files that are in the folder already.
        first_step: TensorBoard discards earlier events of this step and of later ones.
    """

    def __init__(self, directory: Path, session: int, first_step: int):
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        self._event = Event
        self._directory = directory
        # The number of the session keeps two sessions within one second apart.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{session:04}"
        with self._write_errors():
            make_folder(directory)
            self._writer = RecordWriter(str(directory / name))
        # TensorBoard discards events from this mark on, but not for the first one of a directory.
        # So every session writes one, also the first.
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=start))

    def add(self, summary: Any, step: int = 0) -> None:
        """Write a summary of a step."""
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Make all events visible to other programs."""
        with self._write_errors():
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        with self._write_errors():
            self._writer.close()

    def _write(self, event: Any) -> None:
        with self._write_errors():
            self._writer.write(event.SerializeToString())

    def _write_errors(self) -> AbstractContextManager[None]:
        return write_errors("events", self._directory)


def _hparams_summaries(info: RunInfo) -> tuple[Any, Any, Any]:
    """Make the summaries of the hyperparameter table: experiment, session start, session end."""
    from tensorboardX.summary import hparams

    settings = {}
    for name, value in info.settings.items():
        is_plain = isinstance(value, str | int | float)
        settings[name] = value if is_plain else str(value)
    return hparams(settings, dict.fromkeys(info.names))
