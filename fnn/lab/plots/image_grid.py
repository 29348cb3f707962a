"""Grids of images, as a figure and as one array."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import checks
from fnn.errors import ShapeError
from fnn.lab.plots.class_names import text_width
from fnn.lab.plots.figure import FilePath, create_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PERCENTILES = (1, 99)  # the range of values that are drawn between black and white

# In a figure, in inches.
IMAGE_WIDTH = 1.25
COLUMN_WIDTH = 0.078  # of a letter of a title
LINE_HEIGHT = 0.2  # of a line of a title

# In an array of tiles.
MIN_TILE_WIDTH = 64  # pixels; smaller images are enlarged
FRAME = 1  # pixels around each tile
GRAY = 128  # level of the frames
MAGENTA = np.array([1, 0, 1], np.float32)  # pixels that are not finite


def expect_images(where: str, images: Any) -> np.ndarray:
    """Return images (n, height, width, channels) on the host; ShapeError for others or none."""
    array = np.asarray(checks.as_array(where, images))
    if array.ndim != 4 or not array.size:
        raise ShapeError(
            where,
            "(n, height, width, channels)",
            array.shape,
            "add a batch axis, image[None], or a channel axis, images[..., None]",
        )
    return array


def to_displayable(images: Any) -> np.ndarray:
    """Return images as bytes or as floats in [0, 1], of 1 or 3 channels.

    Images (..., height, width, channels) of floats beyond [0, 1] are stretched to it, all alike,
    from the 1st to the 99th percentile: a single outlier would make all others black. A fourth
    channel, the opacity, is left out, since a network gets the colors whatever it is. Other numbers
    of channels are averaged. Pixels that are not finite become magenta, and all images then have 3
    channels.
    """
    images = np.asarray(images)
    if images.shape[-1] == 4:
        images = images[..., :3]
    if images.dtype == np.uint8:
        finite = np.array(True)
    else:
        images = images.astype(np.float32)
        finite = np.isfinite(images).all(-1)  # (..., height, width)
        images = _stretch(images)
    if images.shape[-1] not in (1, 3):
        images = images.mean(-1, keepdims=True).astype(images.dtype)
    if not finite.all():
        images = np.where(finite[..., None], images, MAGENTA)
    return images


def describe_nonfinite(images: Any) -> str:
    """Return a note for the caption on images (n, ...) that are not finite, or "" for none."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return ""
    rows = images.astype(np.float32).reshape(len(images), -1)
    count = int((~np.isfinite(rows)).any(1).sum())
    return f"; magenta: not finite, in {count} images" if count else ""


def describe_stretch(images: Any) -> str:
    """Return a note for the caption on the values that are black and white, or "" if unchanged."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return ""
    ends = _stretched_range(images[..., :3] if images.shape[-1] == 4 else images)
    return "" if ends is None else f"; black is {ends[0]:.3g}, white is {ends[1]:.3g}"


def _stretch(images: np.ndarray) -> np.ndarray:
    finite = np.isfinite(images)
    ends = _stretched_range(images)
    if ends is not None:
        low, high = ends
        # The lower bound of the range is for constant images.
        images = np.clip((images - low) / max(high - low, 1e-12), 0, 1)
    return np.where(finite, images, 0)


def _stretched_range(images: np.ndarray) -> tuple[float, float] | None:
    """Return the values that become black and white; None if all are in [0, 1]."""
    finite = images[np.isfinite(images)]
    if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
        return None
    low, high = np.percentile(finite.astype(np.float32), PERCENTILES)
    return float(low), float(high)


def tile_images(
    images: Any,
    *,
    columns: int = 8,
    rows: int = 4,
) -> np.ndarray:
    """Return the first images of a batch as one image of bytes, in rows from the left.

    Images narrower than 64 pixels are enlarged by a whole factor.
    """
    images = to_displayable(images)[: columns * rows]
    if images.dtype != np.uint8:
        images = (255 * images + 0.5).astype(np.uint8)
    factor = -(-MIN_TILE_WIDTH // images.shape[2])
    large = images.repeat(factor, 1).repeat(factor, 2)
    framed = np.pad(large, ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=GRAY)
    columns = min(columns, len(framed))
    rows = -(-len(framed) // columns)
    # Gray tiles fill the last row.
    count, height, width, channels = framed.shape
    missing = rows * columns - count
    full = np.pad(framed, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=GRAY)
    # (rows, columns, height, width, channels) -> (rows, height, columns, width, channels)
    grid = full.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def draw_image(axes: "Axes", image: np.ndarray) -> None:
    """Draw one displayable image, without a frame."""
    white = 255 if image.dtype == np.uint8 else 1
    axes.imshow(image, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_grid(
    where: str,
    path: FilePath | None,
    images: np.ndarray,
    titles: Sequence[str],
    caption: str,
) -> tuple["Figure", Path | None]:
    """Draw displayable images, each with a title, in a figure about twice as wide as high.

    Args:
        where: Name of the plot, for errors.
        path: The file to write later, or None.
        images: (n, height, width, channels).
        titles: One for each image; may have several lines.
        caption: Title of the figure.

    Returns:
        The figure, and the file to write it to.
    """
    columns = max(4, round((2 * len(images)) ** 0.5))
    rows = -(-len(images) // columns)
    # Extreme images do not fill their cells, so that the figure keeps a readable shape.
    aspect = min(2.0, max(0.5, images.shape[1] / images.shape[2]))
    lines = max((title.count("\n") + bool(title) for title in titles), default=0)
    row_height = IMAGE_WIDTH * aspect + lines * LINE_HEIGHT
    # A title must not run into the next one.
    longest = max((text_width(line) for title in titles for line in title.split("\n")), default=0)
    column_width = max(IMAGE_WIDTH, COLUMN_WIDTH * (longest + 2))
    size = (columns * column_width, rows * row_height + 2 * LINE_HEIGHT)
    figure, target = create_figure(where, path, figsize=size)
    cells = figure.subplots(max(rows, 1), columns, squeeze=False).ravel()
    for axes in cells[len(images) :]:
        axes.remove()
    for axes, image, title in zip(cells, images, titles, strict=False):
        draw_image(axes, image)
        axes.set_title(title, fontsize="small")
    figure.suptitle(caption, fontsize="medium")
    return figure, target
