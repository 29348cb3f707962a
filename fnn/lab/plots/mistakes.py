"""The images that a network is wrong about, and how sure it is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ShapeError
from fnn.lab.plots.class_names import class_names, shortened, true_classes
from fnn.lab.plots.figure import Place, write
from fnn.lab.plots.image_grid import expect_pictures, sheet, visible
from fnn.types import Images, Labels, Logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NONE = "no mistakes among {} images"


def plot_mistakes(
    images: Images,
    logits: Logits,
    labels: Labels,
    path: Place | None = None,
    *,
    names: Sequence[str] | None = None,
    count: int = 16,
) -> "Figure":
    """A picture of the most confident mistakes: each image, what it was taken for, how probable, and what it is.

    images (n, height, width, channels), logits (n, classes), labels (n,); names: of the classes, else numbers.
    Images of floats beyond [0, 1] are stretched, all alike. It is the figure, which a notebook shows, and is
    written to path if one is given. ShapeError or DTypeError where the three do not fit; NonFiniteError for logits
    that are no numbers; ConfigError for other names, for a suffix that names no picture format, or a folder that is
    not there. Needs matplotlib: fnn[plot].
    """
    shown, logits = expect_pictures("plot_mistakes images", images), jnp.asarray(logits)
    truth = true_classes("mistakes", logits, labels)
    if truth.shape != shown.shape[:1]:
        raise ShapeError(
            "plot_mistakes logits",
            f"(n, classes), n = {len(shown)}",
            logits.shape,
            "give one row an image",
        )
    classes = [shortened(name) for name in class_names("mistakes", names, logits.shape[-1])]
    sure = np.asarray(jax.nn.softmax(logits.astype(jnp.float32)).max(-1))
    guess = np.asarray(logits.argmax(-1))
    wrong = np.flatnonzero(guess != truth)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][
        : checks.whole("plot_mistakes count", count)
    ]
    titles = [
        f"says {classes[guess[one]]}, {sure[one]:.0%}\nis {classes[truth[one]]}" for one in worst
    ]
    caption = (
        f"{len(wrong)} of {len(shown)} are wrong; the {len(worst)} surest"
        if len(wrong)
        else NONE.format(len(shown))
    )
    figure, target = sheet("mistakes", path, visible(shown[worst]), titles, caption)
    return write(figure, target)
