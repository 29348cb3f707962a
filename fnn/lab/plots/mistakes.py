"""Plot of the most confident mistakes of a classifier."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ShapeError
from fnn.lab.plots.class_names import MAX_LENGTH, class_names, shorten_all, true_classes
from fnn.lab.plots.figure import FilePath, save_figure
from fnn.lab.plots.image_grid import (
    describe_nonfinite,
    describe_stretch,
    draw_grid,
    expect_images,
    to_displayable,
)
from fnn.types import Images, Labels, Logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_mistakes(
    images: Images,
    logits: Logits,
    labels: Labels,
    path: FilePath | None = None,
    *,
    names: Sequence[str] | None = None,
    count: int = 16,
) -> "Figure":
    """Plot the most confident mistakes: image, predicted class, its probability, and true class.

    Needs matplotlib: pip install '.[plot]'.

    Args:
        images: (n, height, width, channels). Floats beyond [0, 1] are stretched to
            it from their 1st to their 99th percentile, all alike.
        logits: (n, classes), as from `train.predict`.
        labels: True classes (n,), or their probabilities (n, classes).
        path: The file to write, such as "mistakes.png"; not written if None.
        names: Name of each class; its number if None.
        count: Number of images at most.

    Returns:
        The figure, which a notebook shows.

    Raises:
        LabelError: A label is outside of 0 <= label < classes.
        ShapeError: `images`, `logits` and `labels` do not fit.
        DTypeError: `labels` are not integers or probabilities.
        NonFiniteError: `logits` are not finite.
        ConfigError: There is not one name for each class, `count` is not a whole number >= 1, the
            suffix of `path` is not a picture format, its folder does not exist, or matplotlib is
            not installed.
    """
    pictures = expect_images("plot_mistakes images", images)
    logits = jnp.asarray(logits)
    truth = true_classes("plot_mistakes", logits, labels)
    # Per-pixel logits do not have one class for each image.
    if truth.shape != pictures.shape[:1]:
        raise ShapeError(
            "plot_mistakes logits",
            f"(n, classes), n = {len(pictures)}",
            logits.shape,
            "give one row an image",
        )
    full_names = class_names("plot_mistakes", names, logits.shape[-1])
    classes = shorten_all(full_names, MAX_LENGTH)
    # float32 for logits of bfloat16.
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    confidence = np.asarray(probabilities.max(-1))
    predicted = np.asarray(logits.argmax(-1))
    wrong = np.flatnonzero(predicted != truth)
    # The most confident first; a stable sort keeps the order of the data among equals.
    order = np.argsort(-confidence[wrong], kind="stable")
    worst = wrong[order][: checks.whole("plot_mistakes count", count)]
    titles = []
    for index in worst:
        guess = classes[predicted[index]]
        true = classes[truth[index]]
        titles.append(f"says {guess}, {confidence[index]:.0%}\nis {true}")
    # A figure without images is still drawn, with this caption.
    if len(wrong):
        caption = f"{len(wrong)} of {len(pictures)} are wrong; the {len(worst)} surest"
    else:
        caption = f"no mistakes among {len(pictures)} images"
    caption += describe_stretch(pictures[worst]) + describe_nonfinite(pictures[worst])
    figure, file = draw_grid(
        "plot_mistakes", path, to_displayable(pictures[worst]), titles, caption
    )
    return save_figure(figure, file)
