"""One image and many: what an augmentation may be given, and how one for an image becomes one for a batch."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import DTypeError, ShapeError
from fnn.types import Augmentation, Augmentations, Image, Images, RandomKey

CHANNELS = (1, 3, 4)  # gray, color, color and alpha


def per_image(augmentation: Augmentation) -> Augmentations:
    """The augmentation of every image of a batch, each with a key of its own.

    (key, images, examples) -> images; image i draws from fold_in(key, examples[i]), so what it gets depends
    neither on its place in the batch nor on the batch size. Without examples they are 0, 1, 2, ...
    """

    def augmentations(key: RandomKey, images: Images, examples: jax.Array | None = None) -> Images:
        checks.key("augmentation key", key)
        examples = jnp.arange(images.shape[0]) if examples is None else examples
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, examples)
        return jax.vmap(augmentation)(keys, images)

    return augmentations


def draw_below(key: RandomKey, *limits: int) -> jax.Array:
    """A whole number from 0 up to each limit, each as likely as any to within 1 in 2²³."""
    # One draw for all: jax.random.randint makes three, which compile and run three times as long.
    return jnp.floor(jax.random.uniform(key, (len(limits),), jnp.float32) * jnp.array(limits, jnp.float32)).astype(
        jnp.int32
    )


def expect_image(where: str, key: RandomKey, image: Image) -> None:
    """Raise unless given a key and one image (height, width, channels), of bytes or of floats in [0, 1]."""
    checks.key(f"{where} key", key)
    if image.ndim != 3:
        raise ShapeError(where, "one image (height, width, channels)", image.shape, "for a batch use augment.per_image")
    if image.shape[0] in CHANNELS and image.shape[-1] not in CHANNELS:
        raise ShapeError(where, "channels last (height, width, channels)", image.shape, "move the channel axis last")
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise DTypeError(where, "uint8, or floats in [0, 1]", image.dtype, "convert the image first")
