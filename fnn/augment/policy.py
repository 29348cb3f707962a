"""What an augmentation is: something drawn, the steps that it comes to, and doing them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.execute import rendered
from fnn.augment.ops import Paint, Steps
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Augmentation, Image, ImageShape, RandomKey
from fnn.xla import materialize

CHANNELS = (1, 3, 4)  # gray, color, color and alpha
OFF_SCALE = 1.5  # floats above were meant for 0..255

Drawn = Any  # a pytree of arrays


@dataclass(
    frozen=True, eq=False, slots=True, weakref_slot=True
)  # jax.jit copies a __dict__: its own `lower` is meant
class Policy:
    """An augmentation (key, image) -> image, in three phases that can be had one by one.

    words:   how many random words one drawing takes
    read:    (words, shape) -> drawn, what they mean in the operation's own units: angles, offsets, factors
    lower:   (drawn, shape) -> the steps that this comes to, in image terms: moves, recolors, paints
    reshape: (shape) -> shape of the image that comes out
    options: of a policy that draws `count` times from several, these
    shares:  how likely each of them is; None where that is traced
    """

    words: int
    read: Callable[[Array, ImageShape], Drawn]
    lower: Callable[[Drawn, ImageShape], Steps]
    reshape: Callable[[ImageShape], ImageShape] = lambda shape: shape
    options: "tuple[Policy, ...]" = ()
    shares: np.ndarray | None = None
    count: int = 1

    def __call__(self, key: RandomKey, image: Image) -> Image:
        """The image as it is seen with this key."""
        expect_image("augmentation", key, image)
        return self.apply(self.draw(key, shape_of(image)), image)

    def draw(self, key: RandomKey, shape: ImageShape) -> Drawn:
        """What is drawn for an image of this shape: a pytree of arrays, to be looked at, stored, applied again."""
        return self.read(random.words(checks.key("augmentation key", key), self.words), shape)

    def apply(self, drawn: Drawn, image: Image) -> Image:
        """The image as it is seen with what was drawn."""
        return rendered(self.lower(materialize(drawn), shape_of(image)), jnp.asarray(image))


def shape_of(image: Image) -> ImageShape:
    height, width, channels = image.shape
    return height, width, channels


def simple(steps: Callable[[Drawn, ImageShape], Steps], **read: Callable[[Array], Array]) -> Policy:
    """A policy that reads one word for each named number of its drawing."""

    def name(words: Array, shape: ImageShape) -> Drawn:
        return {own: reader(words[place]) for place, (own, reader) in enumerate(read.items())}

    return Policy(len(read), name, steps)


def as_policy(where: str, augmentation: Augmentation) -> Policy:
    """The augmentation as a policy; a plain function (key, image) -> image is one that draws its key."""
    if isinstance(augmentation, Policy):
        return augmentation
    if not callable(augmentation):
        raise ConfigError(
            where, "an augmentation (key, image) -> image", repr(augmentation), "call its maker"
        )

    def lower(drawn: Drawn, shape: ImageShape) -> Steps:
        return (
            Paint(
                lambda image: augmentation(random.own_key(drawn["key"]), image),
                late=True,
                moves=True,
                unbounded=True,
            ),
        )

    def reshape(shape: ImageShape) -> ImageShape:
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(augmentation, jax.random.key(0), image).shape

    return Policy(2, lambda words, shape: {"key": words}, lower, reshape)


def expect_image(where: str, key: RandomKey, image: Image) -> None:
    """Raise unless given a key and one image (height, width, channels), of bytes or of floats in [0, 1]."""
    checks.key(f"{where} key", key)
    if image.ndim != 3:
        raise ShapeError(
            where,
            "one image (height, width, channels)",
            image.shape,
            "for a batch use augment.per_image",
        )
    if image.shape[0] in CHANNELS and image.shape[-1] not in CHANNELS:
        raise ShapeError(
            where,
            "channels last (height, width, channels)",
            image.shape,
            "move the channel axis last",
        )
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise DTypeError(
            where, "uint8, or floats in [0, 1]", image.dtype, "convert the image first"
        )
    if image.dtype != jnp.uint8 and image.size and checks.is_concrete(image):
        levels = np.asarray(
            image
        )  # for what is known may be looked at inside a traced function, too
        low, high = float(levels.min()), float(levels.max())
        if low >= 0 and high > OFF_SCALE:
            raise ConfigError(
                f"{where} image", "[0, 1]", f"max {high:g}", "keep it uint8, or divide by 255"
            )
