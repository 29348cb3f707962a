"""Parts of the image that are hidden."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment.images import draw_below, expect_image
from fnn.types import Augmentation, Image, Number, RandomKey


def cutout(size: Number) -> Augmentation:
    """A square of size x size pixels becomes 0; its center is any pixel, each as likely, so edges may cut it off.

    A fraction of a pixel does not count. ConfigError for a negative size [DeVries & Taylor 2017, arXiv:1708.04552].
    """
    checks.number("cutout size", size, "[0, inf)")

    def augmentation(key: RandomKey, image: Image) -> Image:
        expect_image("cutout", key, image)
        centers = draw_below(key, *image.shape[:2])
        rows, columns = (_hidden(length, center) for length, center in zip(image.shape[:2], centers, strict=True))
        return jnp.where((rows[:, None] & columns[None, :])[..., None], jnp.zeros((), image.dtype), image)

    def _hidden(length: int, center: jax.Array) -> jax.Array:
        pixels = jnp.asarray(size).astype(jnp.int32)
        distance = jnp.arange(length, dtype=jnp.int32) - (center - pixels // 2)
        return (distance >= 0) & (distance < pixels)

    return augmentation
