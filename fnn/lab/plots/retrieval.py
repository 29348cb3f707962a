"""Plot of retrieved images: each query with its nearest neighbors."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.lab.plots.figure import PALETTE, FilePath, create_figure, save_figure
from fnn.lab.plots.image_grid import (
    IMAGE_WIDTH,
    LINE_HEIGHT,
    draw_image,
    expect_images,
    to_displayable,
)
from fnn.transfer.neighbors import Neighbors, Retrieved
from fnn.types import Images, Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = PALETTE[0], PALETTE[1]
FRAME_WIDTH = 2.5  # points


def plot_retrieval(
    queries: Images,
    bank: Images,
    found: Retrieved | Neighbors,
    path: FilePath | None = None,
    *,
    query_labels: Labels | None = None,
    bank_labels: Labels | None = None,
    count: int = 8,
) -> "Figure":
    """Plot queries, each at the left of a row, and their nearest neighbors to the right.

    With labels, a neighbor of the class of its query has a solid frame and a check mark, one of
    another class a dashed frame and a cross, which do not rely on color. The caption has the share
    of neighbors of the right class. Needs matplotlib: pip install '.[plot]'.

    Args:
        queries: Images (queries, height, width, channels).
        bank: Images (n, height, width, channels).
        found: From `transfer.retrieve` or `transfer.nearest_neighbors`, of features of these.
        path: The file to write, such as "retrieval.png"; not written if None.
        query_labels: Classes of the queries, (queries,); or None.
        bank_labels: Classes of the bank, (n,); both are given or none.
        count: Number of queries to show at most.

    Returns:
        The figure, which a notebook shows.

    Raises:
        ShapeError: Images, labels and `found` do not fit.
        ConfigError: One kind of labels is given alone, `found` is of another type, `count` is not a
            whole number >= 1, the suffix of `path` is not a picture format, its folder does not
            exist, or matplotlib is not installed.
    """
    where = "plot_retrieval"
    left = expect_images(f"{where} queries", queries)
    right = expect_images(f"{where} bank", bank)
    indices, similarities = _expect_found(found, left, right)
    is_right = _compare_labels(query_labels, bank_labels, left, right, indices)
    rows = min(checks.whole(f"{where} count", count), len(left))
    columns = indices.shape[1] + 1
    aspect = min(2.0, max(0.5, left.shape[1] / left.shape[2]))
    row_height = IMAGE_WIDTH * aspect + LINE_HEIGHT
    size = (max(columns, 3) * IMAGE_WIDTH, rows * row_height + 2 * LINE_HEIGHT)
    figure, target = create_figure(where, path, figsize=size)
    cells = figure.subplots(rows, columns, squeeze=False)
    shown_queries = to_displayable(left[:rows])
    # (rows, k, height, width, channels)
    shown = to_displayable(right[indices[:rows]])
    for row in range(rows):
        label = "" if query_labels is None else f", {np.asarray(query_labels)[row]}"
        _draw(cells[row, 0], shown_queries[row], f"query {row}{label}", None)
        for rank, index in enumerate(indices[row]):
            title = f"{similarities[row, rank]:#.3g}"
            own = None if is_right is None else bool(is_right[row, rank])
            if own is not None:
                title = f"{'✓' if own else '✗'} {np.asarray(bank_labels)[index]}, {title}"
            _draw(cells[row, rank + 1], shown[row, rank], title, own)
    caption = f"{rows} of {len(left)} queries with their {columns - 1} nearest of {len(right)}"
    if is_right is not None:
        caption += f"; {is_right.mean():.1%} of all neighbors have the class of the query"
    figure.suptitle(caption, fontsize="medium", wrap=True)
    return save_figure(figure, target)


def _draw(axes: "Axes", image: np.ndarray, title: str, is_right: bool | None) -> None:
    """Draw a displayable image, with a frame that shows whether it is right if this is known."""
    draw_image(axes, image)
    axes.set_title(title, fontsize="small")
    for spine in axes.spines.values():
        spine.set_visible(is_right is not None)
        if is_right is not None:
            spine.set_color(RIGHT if is_right else WRONG)
            spine.set_linewidth(FRAME_WIDTH)
            spine.set_linestyle("-" if is_right else (0, (3, 2)))


def _expect_found(
    found: Any, queries: np.ndarray, bank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and similarities; an error unless they are those of these images."""
    if not isinstance(found, Retrieved | Neighbors):
        advice = "give the result of transfer.retrieve(queries, bank, k=5)"
        got = checks.show(found)
        raise ConfigError("plot_retrieval found", "Retrieved or Neighbors", got, advice)
    indices = np.asarray(found.indices)
    if len(indices) != len(queries) or indices.max(initial=0) >= len(bank):
        expected = f"indices of {len(bank)} images for {len(queries)} queries"
        got = f"indices up to {indices.max(initial=0)} for {len(indices)}"
        raise ShapeError("plot_retrieval found", expected, got, "give the images of the features")
    return indices, np.asarray(found.similarities)


def _compare_labels(
    query_labels: Any,
    bank_labels: Any,
    queries: np.ndarray,
    bank: np.ndarray,
    indices: np.ndarray,
) -> np.ndarray | None:
    """Return whether each neighbor has the class of its query, or None without labels."""
    if query_labels is None and bank_labels is None:
        return None
    labels = {"query_labels": (query_labels, queries), "bank_labels": (bank_labels, bank)}
    for name, (given, images) in labels.items():
        if given is None:
            advice = "give both or none"
            raise ConfigError(f"plot_retrieval {name}", "labels", None, advice)
        if np.shape(given) != (len(images),):
            expected = f"one label an image, ({len(images)},)"
            raise ShapeError(f"plot_retrieval {name}", expected, np.shape(given), "give one each")
    return np.asarray(bank_labels)[indices] == np.asarray(query_labels)[:, None]
