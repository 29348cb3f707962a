"""Contact sheet of augmented images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment import per_image
from fnn.errors import ConfigError
from fnn.lab.plots.figure import FilePath, create_figure, save_figure
from fnn.lab.plots.image_grid import draw_image, expect_images, to_displayable
from fnn.train.scale import MAX_IMAGE_LEVEL
from fnn.types import Augmentation, Images, RandomKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In inches.
IMAGE_WIDTH = 1.1
NAME_WIDTH = 1.3  # of the names on the left
TITLE_HEIGHT = 0.2

Policies = Augmentation | Mapping[str, Augmentation]


def plot_augmentations(
    augmentation: Policies,
    images: Images,
    path: FilePath | None = None,
    *,
    key: RandomKey | None = None,
    draws: int = 6,
) -> "Figure":
    """Plot a contact sheet of augmentations: in each row the original image, then random draws.

    Needs matplotlib: pip install '.[plot]'.

    Args:
        augmentation: An augmentation, with one row for each image; or several by name, with one row
            for each, which take the images in turn.
        images: (n, height, width, channels), bytes or floats in [0, 1]. Results beyond [0, 1], as
            of `augment.normalize`, are stretched to it.
        path: The file to write, such as "sheet.png"; not written if None.
        key: Random key of the draws; jax.random.key(0) if None.
        draws: Number of draws in each row.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ConfigError: `augmentation` is not an augmentation, `draws` is not a whole number >= 1, the
            suffix of `path` is not a picture format, its folder does not exist, or matplotlib is
            not installed.
        ShapeError: `images` are not (n, height, width, channels).
        DTypeError: `key` is not a random key.
    """
    # Everything is checked before the first draw, which may take long.
    rows = _rows(augmentation, images)
    key = jax.random.key(0) if key is None else checks.key("plot_augmentations key", key)
    count = checks.whole("plot_augmentations draws", draws)
    aspect = images.shape[1] / images.shape[2]
    has_names = bool(rows[0][0])
    width = (count + 1) * IMAGE_WIDTH + has_names * NAME_WIDTH
    height = len(rows) * IMAGE_WIDTH * aspect + TITLE_HEIGHT
    figure, target = create_figure("plot_augmentations", path, figsize=(width, height))
    cells = figure.subplots(len(rows), count + 1, squeeze=False)
    for index, (name, policy, image) in enumerate(rows):
        # One program draws a whole row.
        augment = jax.jit(per_image(policy))
        row_key = jax.random.fold_in(key, index)
        copies = jnp.repeat(image[None], count, 0)  # (draws, height, width, channels)
        augmented = augment(row_key, copies)
        for axes, one in zip(cells[index], [image, *augmented], strict=True):
            draw_image(axes, to_displayable(one))
        if name:
            cells[index][0].set_ylabel(name, rotation=0, ha="right", va="center")
    cells[0][0].set_title("original", fontsize="medium")
    return save_figure(figure, target)


def _rows(augmentation: Policies, images: Images) -> list[tuple[str, Augmentation, jax.Array]]:
    """Return the name, augmentation and image of each row."""
    images = jnp.asarray(expect_images("plot_augmentations images", images))
    if jnp.issubdtype(images.dtype, jnp.floating):
        low, high = float(images.min()), float(images.max())
        # As for the images of a run: a policy would clip them to black and white.
        if low >= 0 and high > MAX_IMAGE_LEVEL:
            advice = "keep them uint8, or divide by 255"
            raise ConfigError("plot_augmentations images", "[0, 1]", f"max {high:g}", advice)
    named = augmentation if isinstance(augmentation, Mapping) else {"": augmentation}
    if not named:
        expected = "an augmentation, or some by name"
        raise ConfigError("plot_augmentations", expected, "none", "name one or more")
    for name, policy in named.items():
        if not callable(policy):
            raise ConfigError(
                f"plot_augmentations {name}".strip(),
                "an augmentation",
                repr(policy),
                "call its maker",
            )
    if not isinstance(augmentation, Mapping):
        return [("", augmentation, image) for image in images]
    rows = []
    for index, (name, policy) in enumerate(named.items()):
        rows.append((name, policy, images[index % len(images)]))
    return rows
