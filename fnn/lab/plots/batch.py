"""Plot of a batch as the network gets it in training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.class_names import MAX_LENGTH, shorten_all
from fnn.lab.plots.figure import FilePath, save_figure
from fnn.lab.plots.image_grid import (
    describe_nonfinite,
    describe_stretch,
    draw_grid,
    expect_images,
    to_displayable,
)
from fnn.train.arrays import validate_data
from fnn.train.epoch import next_batch
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 6  # classes of a multi-label target; more would leave no room for the images
MIN_SHARE = 0.05  # share of a class in a mixed target below which it is not named


def plot_batch(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    path: FilePath | None = None,
    *,
    batch_size: int,
    step: int = 0,
    names: Sequence[str] | None = None,
    count: int = 32,
) -> "Figure":
    """Plot the batch of one training step, augmented and prepared, with the target of each image.

    Images beyond [0, 1], such as standardized ones, are stretched to it, all alike, from their
    1st to their 99th percentile. Needs matplotlib: pip install '.[plot]'.

    Args:
        key: The random key of the run, as for `fit`.
        recipe: The recipe of the run, as for `fit`.
        data: (inputs, targets), as for `fit`.
        path: The file to write, such as "batch.png"; not written if None.
        batch_size: Examples in a batch, as for `fit`.
        step: Number of the step, from 0 on.
        names: Name of each class; its number if None.
        count: Number of images at most.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: An option is out of range, a class has no name, the suffix of `path` is not a
            picture format, its folder does not exist, or matplotlib is not installed.
        ShapeError: The prepared inputs are not images (n, height, width, channels).
        DTypeError: `key` is not a random key, or the data have a dtype that `fit` does not take.
    """
    inputs, targets = batch_at_step(key, recipe, data, batch_size=batch_size, step=step)
    # All of them together, so that the stretched range does not depend on `count`.
    all_images = expect_images("plot_batch inputs", inputs)
    displayable = to_displayable(all_images)
    images = displayable[: checks.whole("plot_batch count", count)]
    short_names = None if names is None else shorten_all([str(name) for name in names], MAX_LENGTH)
    all_targets = np.asarray(targets)
    # A row with a single 1 has the title of its batch.
    multi_label = any(target.ndim == 1 and is_multi_label(target) for target in all_targets)
    titles = [_title(target, short_names, multi_label) for target in all_targets[:count]]
    caption = f"batch of step {step}: {len(images)} of {len(inputs)} images"
    caption += describe_stretch(all_images) + describe_nonfinite(all_images)
    figure, file = draw_grid("plot_batch", path, images, titles, caption)
    return save_figure(figure, file)


def batch_at_step(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    batch_size: int,
    step: int,
) -> tuple[jax.Array, Any]:
    """Return the inputs that the network of a run gets at a step, and the targets."""
    checks.key("key", key)
    expect_recipe("plot_batch", recipe, trains=False)
    data = validate_data("data", data)
    steps_per_epoch(data, batch_size)  # raises for a batch size that does not fit
    step_array = jnp.int32(checks.whole("plot_batch step", step, 0))
    # A batch depends on the key and the step of a train state alone: the other fields stay empty.
    train_state = TrainState((), (), (), step_array, key)
    return next_batch(recipe, train_state, data, batch_size)


def _title(target: np.ndarray, names: Sequence[str] | None, multi_label: bool) -> str:
    """Return the class, the main classes of a mixed target, or those of a multi-label target.

    Other targets have no title.

    Args:
        target: Of one image.
        names: Name of each class, or None.
        multi_label: Whether the batch has multi-label targets.
    """
    # A label; a regression target is a float and has no title.
    if target.ndim == 0 and target.dtype.kind in "iu":
        return _class_name(int(target), names)
    if target.ndim == 1 and multi_label:
        classes = [_class_name(int(index), names) for index in np.flatnonzero(target)]
        if len(classes) > MAX_LINES:
            rest = len(classes) - MAX_LINES + 1
            classes = [*classes[: MAX_LINES - 1], f"and {rest} more"]
        return "\n".join(classes) or "no class"
    if target.ndim == 1 and target.dtype.kind == "f":
        # Probabilities of classes, as from mixup: mixtures are of two classes.
        lines = []
        for index in np.argsort(-target)[:2]:
            if target[index] >= MIN_SHARE:
                lines.append(f"{_class_name(index, names)} {target[index]:.0%}")
        return "\n".join(lines)
    return ""


def is_multi_label(target: np.ndarray) -> bool:
    """Return whether a target has 0 or 1 for each class, and not a single 1."""
    is_binary = bool(np.isin(target, (0, 1)).all())
    is_one_hot = target.dtype.kind == "f" and target.sum() == 1
    return is_binary and not is_one_hot


def _class_name(index: int, names: Sequence[str] | None) -> str:
    if names is None:
        return str(index)
    if not 0 <= index < len(names):
        raise ConfigError(
            "plot_batch names",
            f"a name for class {index}",
            repr(names),
            "give one for each class, in order",
        )
    return names[index]
