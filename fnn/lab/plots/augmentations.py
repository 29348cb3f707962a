"""A contact sheet: what an augmentation makes of images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment import per_image
from fnn.errors import ConfigError
from fnn.lab.plots.figure import Place, blank, write
from fnn.lab.plots.image_grid import expect_pictures, show, visible
from fnn.types import Augmentation, Images, RandomKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, LABEL, TITLE = (
    1.1,
    1.3,
    0.2,
)  # inches: of an image's width, of a name beside it, of the title above


Policies = Augmentation | Mapping[str, Augmentation]


def plot_augmentations(
    augmentation: Policies,
    images: Images,
    path: Place | None = None,
    *,
    key: RandomKey | None = None,
    draws: int = 6,
) -> "Figure":
    """A contact sheet: in each row an image as it is, then so many draws.

    It is the figure, which a notebook shows, and is written to path if one is given. images (n, height, width,
    channels), of bytes or of floats in [0, 1]. Several augmentations by name have a row each, of the images in
    turn. What comes out beyond [0, 1], as of `augment.normalize`, is stretched to its own range. key: the draws', 0
    if none. ConfigError for no augmentation, for a suffix that names no picture format, or a folder that is not
    there. Needs matplotlib: fnn[plot].
    """
    rows = _rows(augmentation, images)
    key = jax.random.key(0) if key is None else checks.key("plot_augmentations key", key)
    count = checks.whole("plot_augmentations draws", draws)
    tall = images.shape[1] / images.shape[2]
    size = ((count + 1) * SIDE + bool(rows[0][0]) * LABEL, len(rows) * SIDE * tall + TITLE)
    figure, target = blank("gallery", path, figsize=size)
    sheet = figure.subplots(len(rows), count + 1, squeeze=False)
    for place, (name, one, image) in enumerate(rows):
        seen = jax.jit(per_image(one))(
            jax.random.fold_in(key, place), jnp.repeat(image[None], count, 0)
        )
        for axes, shown in zip(sheet[place], [image, *seen], strict=True):
            show(axes, visible(shown))
        if name:
            sheet[place][0].set_ylabel(name, rotation=0, ha="right", va="center")
    sheet[0][0].set_title("as it is", fontsize="medium")
    return write(figure, target)


def _rows(augmentation: Policies, images: Images) -> list[tuple[str, Augmentation, jax.Array]]:
    """What each row shows: a name, an augmentation, an image."""
    images = jnp.asarray(expect_pictures("plot_augmentations images", images))
    named = augmentation if isinstance(augmentation, Mapping) else {"": augmentation}
    for name, one in named.items():
        if not callable(one):
            raise ConfigError(
                f"plot_augmentations {name}".strip(), "an augmentation", repr(one), "call its maker"
            )
    if isinstance(augmentation, Mapping):
        return [
            (name, one, images[place % len(images)])
            for place, (name, one) in enumerate(named.items())
        ]
    return [("", augmentation, image) for image in images]
