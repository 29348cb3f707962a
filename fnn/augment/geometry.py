"""Moves of the pixels of one image."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.augment.images import draw_below, expect_image
from fnn.errors import ShapeError
from fnn.types import Augmentation, Image, Number, RandomKey

MODES = ("reflect", "symmetric", "edge", "wrap", "constant")


def flip_lr(chance: Number = 0.5) -> Augmentation:
    """Left and right change places, with the given chance. ConfigError unless 0 <= chance <= 1."""
    checks.number("flip_lr chance", chance, "[0, 1]")

    def augmentation(key: RandomKey, image: Image) -> Image:
        expect_image("flip_lr", key, image)
        return jnp.where(jax.random.bernoulli(key, chance), image[:, ::-1], image)

    return augmentation


def random_crop(*, padding: int = 4, mode: str = "reflect", size: int | tuple[int, int] | None = None) -> Augmentation:
    """Pad by `padding` pixels on every side, then keep a window at whole offsets, each as likely as any.

    The window is as large as the image unless a size is given; mode is one of numpy.pad's, "constant" padding with 0.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image [He et al. 2016].
    """
    checks.whole("random_crop padding", padding, 0)
    checks.choice("random_crop mode", mode, MODES)
    window = None if size is None else checks.pair("random_crop size", size)

    def augmentation(key: RandomKey, image: Image) -> Image:
        expect_image("random_crop", key, image)
        sizes = window or image.shape[:2]
        room = [n + 2 * padding - w for n, w in zip(image.shape[:2], sizes, strict=True)]
        if min(room) < 0:
            padded = tuple(n + 2 * padding for n in image.shape[:2])
            raise ShapeError(
                "random_crop", f"an image of at least {sizes} after padding", padded, "crop less or pad more"
            )
        offsets = draw_below(key, *(spare + 1 for spare in room))
        for axis in (0, 1):
            image = _window(image, axis, offsets[axis], sizes[axis])
        return image

    def _window(image: Image, axis: int, offset: jax.Array, size: int) -> Image:
        # Pads and shifts the pixels' places instead of the pixels: no padded copy, and the moves fuse into one gather.
        outside = {"constant_values": image.shape[axis]} if mode == "constant" else {}
        places = jnp.pad(jnp.arange(image.shape[axis]), padding, mode, **outside)
        shown = jax.lax.dynamic_slice_in_dim(places, offset, size)
        return jnp.take(image, shown, axis, mode="fill", fill_value=0)

    return augmentation
