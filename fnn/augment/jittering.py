"""Brightness, contrast, saturation and hue together, in an order drawn for each image."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import drawing, matrices
from fnn.augment.colors import turned_colors
from fnn.augment.levels import GRAY, loose, on_colors, painted, top
from fnn.augment.policy import Drawn, Policy
from fnn.augment.sampling.batching import apart
from fnn.augment.steps import Paint, Steps
from fnn.types import Image, ImageShape, Number

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NAMES = ("brightness", "contrast", "saturation", "hue")


def jitter(
    *, brightness: Number = 0.0, contrast: Number = 0.0, saturation: Number = 0.0, hue: Number | None = None
) -> Policy:
    """Color jitter: factors drawn from [max(0, 1 - s), 1 + s] for each strength s, a hue from [-hue, hue], in turns.

    They are done in an order drawn for each image, as by torchvision's ColorJitter for a batch. All before the hue are
    one 3 x 4 matrix and so are all after it, so that levels are clipped before the hue and at the end, not after each
    change. ConfigError for a negative strength, or a hue beyond 1/2.
    """
    strengths = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": 0.0 if hue is None else hue,
    }
    for name, strength in strengths.items():
        checks.number(f"jitter {name}", strength, "[0, 0.5]" if name == "hue" else "[0, inf)")

    def read(words: Array, shape: ImageShape) -> Drawn:
        drawn = {}
        for name, word in zip(NAMES, words[:4], strict=True):
            strength = jnp.asarray(strengths[name], jnp.float32)
            lowest = -strength if name == "hue" else jnp.maximum(0, 1 - strength)
            drawn[name] = drawing.between(word, lowest, strength if name == "hue" else 1 + strength)
        # The order of four random numbers: place[k] is when change number k has its turn.
        earlier = words[4:][None, :] < words[4:][:, None]
        return drawn | {"place": earlier.sum(1).astype(jnp.int32)}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (Paint(on_colors(partial(_jittered, drawn, hue is not None), gray=True)),)

    return Policy(8, read, steps)


def _jittered(drawn: Drawn, with_hue: bool, image: Image) -> Image:
    place = drawn["place"]
    if not with_hue:
        return painted(_through, image, _matrix(drawn, image, place >= 0))
    turned = painted(_turned, image, _matrix(drawn, image, place < place[HUE]), drawn["hue"])
    return painted(_through, turned, _matrix(drawn, turned, place > place[HUE]))


def _turned(colors: Sequence[Array], matrix: Array, hue: Array) -> list[Array]:
    clipped = [jnp.clip(channel, 0, 1) for channel in _through(colors, matrix)]
    return turned_colors(clipped, hue.astype(colors[0].dtype))


def _through(colors: Sequence[Array], matrix: Array) -> list[Array]:
    """Three colors through a matrix (3, 4), whose last column is added."""
    m = matrix.astype(colors[0].dtype)
    return [row[0] * colors[0] + row[1] * colors[1] + row[2] * colors[2] + row[3] for row in m]


def _mean(image: Image) -> Array:
    """The mean color, and 1: (4,)."""
    # Down the columns first, for a loop over the sums of a long row is vectorized; XLA would make two sums one.
    sums = loose(image.reshape(image.shape[0], -1)).sum(0)
    color = jnp.tile(jnp.eye(3, dtype=sums.dtype), (image.shape[1], 1)) / (image.shape[0] * image.shape[1] * top(image))
    return jnp.append(jnp.matmul(sums, color, precision=jax.lax.Precision.HIGHEST), 1).astype(jnp.float32)


EYE = np.eye(4, dtype=np.float32)
TO_BLACK = np.diag(np.array([0, 0, 0, 1], np.float32))
TO_GRAY = np.array([[*GRAY, 0]] * 3 + [[0, 0, 0, 1]], np.float32)


def _matrix(drawn: Drawn, pixels: Array, now: Array) -> Array:
    """Those of brightness, contrast and saturation that are to be done now, in their order, as one matrix (3, 4)."""
    place = drawn["place"]
    before = _two(drawn, now & (place < place[CONTRAST]))
    level = matrices.product(jnp.asarray(TO_GRAY[0]), before, apart(_mean)(pixels))
    to_mean = jnp.zeros((4, 4), jnp.float32).at[:3, 3].set(level) + TO_BLACK
    after = _two(drawn, now & (place > place[CONTRAST]))
    return matrices.product(after, _toward(to_mean, drawn["contrast"], now[CONTRAST]), before)[:3]


def _two(drawn: Drawn, now: Array) -> Array:
    """Brightness and saturation, each if it is to be done now, the earlier one first."""
    darken = _toward(TO_BLACK, drawn["brightness"], now[BRIGHTNESS])
    fade = _toward(TO_GRAY, drawn["saturation"], now[SATURATION])
    first = drawn["place"][BRIGHTNESS] < drawn["place"][SATURATION]
    return jnp.where(first, matrices.product(fade, darken), matrices.product(darken, fade))


def _toward(end: Array | np.ndarray, factor: Array, now: Array) -> Array:
    """end + factor (1 - end) as a matrix, if it is to be done now, else 1."""
    return jnp.asarray(EYE) + (jnp.where(now, factor, 1) - 1) * (EYE - end)
