"""Images side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fnn.errors import ShapeError
from fnn.lab.plots.figure import Place, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE, TITLE = 1.25, 0.2  # inches: of an image's longer side, of a line of its title
TILE, FRAME, GRAY = (
    64,
    1,
    128,
)  # in one array of all: of an image's width at least, around it, and how bright that is


def expect_pictures(where: str, images: Any) -> np.ndarray:
    """The images (n, height, width, channels) on the host; ShapeError for another shape or none."""
    array = np.asarray(images)
    if array.ndim != 4 or not array.size:
        advice = "add a batch axis, image[None], or a channel axis, images[..., None]"
        raise ShapeError(where, "(n, height, width, channels)", array.shape, advice)
    return array


def visible(images: Any) -> np.ndarray:
    """Images (..., height, width, channels) as bytes, or floats in [0, 1] of 1, 3 or 4 channels.

    What goes beyond [0, 1] is stretched to its own range, what is not finite is black, and other channels are averaged.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = _stretched(images.astype(np.float32))
    if images.shape[-1] not in (1, 3, 4):
        images = images.mean(-1, keepdims=True).astype(images.dtype)
    return images


def _stretched(images: np.ndarray) -> np.ndarray:
    finite = np.isfinite(images)
    low, high = images.min(where=finite, initial=np.inf), images.max(where=finite, initial=-np.inf)
    if low < 0 or high > 1:
        images = (images - low) / max(high - low, 1e-12)
    return np.where(finite, images, 0)


def tiled(images: Any, *, columns: int = 8, rows: int = 4) -> np.ndarray:
    """The first images of a batch as one of bytes, in rows from the left, small ones made larger by whole pixels."""
    images = visible(images)[: columns * rows]
    images = images if images.dtype == np.uint8 else (255 * images + 0.5).astype(np.uint8)
    times = -(-TILE // images.shape[2])
    large = images.repeat(times, 1).repeat(times, 2)
    framed = np.pad(large, ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=GRAY)
    columns = min(columns, len(framed))
    rows = -(-len(framed) // columns)
    count, height, width, channels = framed.shape
    full = np.pad(
        framed, ((0, rows * columns - count), (0, 0), (0, 0), (0, 0)), constant_values=GRAY
    )
    sheet = full.reshape(rows, columns, height, width, channels).swapaxes(
        1, 2
    )  # (rows, height, columns, width, c)
    return sheet.reshape(rows * height, columns * width, channels)


def show(axes: "Axes", image: np.ndarray) -> None:
    """Draw one visible image, without a frame."""
    axes.imshow(
        image,
        cmap="gray",
        vmin=0,
        vmax=255 if image.dtype == np.uint8 else 1,
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def sheet(
    where: str, path: Place | None, images: np.ndarray, titles: Sequence[str], caption: str
) -> tuple["Figure", Path | None]:
    """A figure of visible images with a title each, about twice as wide as it is high, and a caption above."""
    columns = max(4, round((2 * len(images)) ** 0.5))
    rows = -(-len(images) // columns)
    tall = min(2.0, max(0.5, images.shape[1] / images.shape[2]))
    lines = max((title.count("\n") + bool(title) for title in titles), default=0)
    size = (columns * SIDE, rows * (SIDE * tall + lines * TITLE) + 2 * TITLE)
    figure, target = blank(where, path, figsize=size)
    places = figure.subplots(max(rows, 1), columns, squeeze=False).ravel()
    for axes in places[len(images) :]:
        axes.remove()
    for axes, image, title in zip(places, images, titles, strict=False):
        show(axes, image)
        axes.set_title(title, fontsize="small")
    figure.suptitle(caption, fontsize="medium")
    return figure, target
