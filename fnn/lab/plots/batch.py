"""What the network saw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError
from fnn.lab.plots.class_names import shortened
from fnn.lab.plots.figure import Place, write
from fnn.lab.plots.image_grid import expect_pictures, sheet, visible
from fnn.train.epoch import batch_at
from fnn.train.inputs import enter
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import steps_per_epoch
from fnn.types import Data, RandomKey, TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.05  # of a class in a mixed target, from which on it is named


def plot_batch(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    path: Place | None = None,
    *,
    batch_size: int,
    step: int = 0,
    names: Sequence[str] | None = None,
    count: int = 32,
) -> "Figure":
    """A picture of the batch that a run of this key sees at that step: augmented, prepared, each with its target.

    key, recipe, data and batch_size are those of `fit`. What goes beyond [0, 1], as standardized images do, is
    stretched to the range of the batch. names: of the classes, else numbers. It is the figure, which a notebook shows,
    and is written to path if one is given. ShapeError where prepared inputs are no images; ConfigError and DTypeError
    as of fit, for a suffix that names no picture format, or a folder that is not there. Needs matplotlib: fnn[plot].
    """
    inputs, targets = batch_seen(key, recipe, data, batch_size=batch_size, step=step)
    images = visible(expect_pictures("seen inputs", inputs))[: checks.whole("seen count", count)]
    titles = [_title(target, names) for target in np.asarray(targets)[:count]]
    caption = f"what step {step} sees: {len(images)} of {len(inputs)}"
    figure, target = sheet("seen", path, images, titles, caption)
    return write(figure, target)


def batch_seen(
    key: RandomKey, recipe: Recipe, data: Data, *, batch_size: int, step: int
) -> tuple[jax.Array, Any]:
    """The batch of a step of a run, as its network gets it, and the targets."""
    checks.key("key", key)
    expect_recipe("seen", recipe, trains=False)
    data = enter("data", data)
    steps_per_epoch(data, batch_size)
    moment = jnp.int32(checks.whole("seen step", step, 0))
    # Only key and step tell what is seen: nothing else of the train state is asked for.
    return batch_at(recipe, TrainState((), (), (), moment, key), data, batch_size)


def _title(target: np.ndarray, names: Sequence[str] | None) -> str:
    """The class, or those of a mixed target with their shares; nothing where the target is of no class."""
    if target.ndim == 0 and target.dtype.kind in "iu":
        return _name(int(target), names)
    if target.ndim == 1 and target.dtype.kind == "f":
        most = [place for place in np.argsort(-target)[:2] if target[place] >= SHARE]
        return "\n".join(f"{_name(place, names)} {target[place]:.0%}" for place in most)
    return ""


def _name(place: int, names: Sequence[str] | None) -> str:
    if names is None:
        return str(place)
    if not 0 <= place < len(names):
        raise ConfigError(
            "seen names",
            f"a name for class {place}",
            repr(names),
            "give one for each class, in order",
        )
    return shortened(str(names[place]))
