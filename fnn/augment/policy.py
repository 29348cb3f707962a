"""Image augmentation in three phases: draw parameters, lower them to ops, execute the ops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks
from fnn.augment import random
from fnn.augment.execute import execute, needs_levels
from fnn.augment.ops import GeometricOp, Op, Ops, PixelOp
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Augmentation, Image, ImageShape, RandomKey
from fnn.xla import materialize

CHANNELS = (1, 3, 4)  # gray, RGB, RGB and alpha
OFF_SCALE = 1.5  # a maximum of floats above this suggests levels in [0, 255]

Drawn = Any  # the random parameters of one draw, a pytree of arrays


# With slots, because jax.jit copies the __dict__ of a callable: a field `lower` there would replace
# the method `lower` of the jitted function.
@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Policy:
    """An image augmentation, (key, image) -> image, whose phases can be called one by one.

    Attributes:
        words: Number of random 32-bit words that one draw reads.
        read: (words, shape) -> drawn, the random parameters in the units of the operation: angles,
            offsets, factors.
        lower: (drawn, shape) -> the ops of these parameters, see `fnn.augment.ops`.
        reshape: (shape) -> shape of the augmented image.
        options: The policies from which the policy draws `count` times. Empty if it does not
            choose.
        shares: Probability of each option. None where it is traced.
        count: Number of draws from the options.
    """

    words: int
    read: Callable[[Array, ImageShape], Drawn]
    lower: Callable[[Drawn, ImageShape], Ops]
    reshape: Callable[[ImageShape], ImageShape] = lambda shape: shape
    options: "tuple[Policy, ...]" = ()
    shares: np.ndarray | None = None
    count: int = 1

    def __call__(self, key: RandomKey, image: Image) -> Image:
        """Augment an image.

        Args:
            key: From `jax.random.key`.
            image: (height, width, channels), bytes or floats in [0, 1].

        Raises:
            ShapeError: The image is a batch, or its channels are not the last axis.
            DTypeError: The image holds neither bytes nor floats, or the key is not a key.
            ConfigError: The image holds floats that look like levels in [0, 255]; or negative
                floats, and the policy changes levels, which are in [0, 1]. Traced images cannot be
                checked: their levels are clipped.
        """
        expect_image("augmentation", key, image)
        expect_levels("augmentation image", self, image)
        return self.apply(self.draw(key, shape_of(image)), image)

    def draw(self, key: RandomKey, shape: ImageShape) -> Drawn:
        """Draw the random parameters for an image of this shape: a pytree of arrays for `apply`."""
        words = random.words(checks.key("augmentation key", key), self.words)
        return self.read(words, shape)

    def apply(self, drawn: Drawn, image: Image) -> Image:
        """Augment an image with the random parameters of a draw."""
        ops = self.lower(materialize(drawn), shape_of(image))
        return execute(ops, jnp.asarray(image))


def shape_of(image: Image) -> ImageShape:
    height, width, channels = image.shape
    return height, width, channels


def moves_pixels(policy: Policy, shape: ImageShape) -> bool:
    """Whether the policy is known to move pixels of images of this shape."""

    def moves(op: Op) -> bool:
        if isinstance(op, PixelOp):
            # A plain function is assumed to move pixels, but it is not known.
            return op.moves_pixels and not op.unbounded
        return isinstance(op, GeometricOp)

    return any(map(moves, _traced_ops(policy, shape)))


def expect_levels(where: str, policy: Policy, images: Any) -> None:
    """Raise if the policy changes levels of (..., height, width, channels) with negative floats."""
    is_float = jnp.issubdtype(images.dtype, jnp.floating)
    if not is_float or not images.size or not checks.is_concrete(images):
        return
    low = float(np.asarray(images).min())
    if low >= 0:
        return
    height, width, channels = images.shape[-3:]
    if any(map(needs_levels, _traced_ops(policy, (height, width, channels)))):
        advice = "augment first and standardize afterwards, in prepare="
        raise ConfigError(where, "levels in [0, 1]", f"min {low:g}", advice)


def _traced_ops(policy: Policy, shape: ImageShape) -> Ops:
    """The ops of the policy, whose kinds no random number changes; their arrays have no values."""
    ops: list[Op] = []

    def lower() -> None:
        words = jnp.zeros(policy.words, jnp.uint32)
        ops.extend(policy.lower(policy.read(words, shape), shape))

    jax.eval_shape(lower)
    return ops


def simple_policy(
    lower: Callable[[Drawn, ImageShape], Ops], **readers: Callable[[Array], Array]
) -> Policy:
    """A policy with one random word for each named parameter, and a reader (word) -> parameter."""

    def read(words: Array, shape: ImageShape) -> Drawn:
        # One word per parameter, in the order of the arguments.
        drawn = {}
        for k, (name, reader) in enumerate(readers.items()):
            drawn[name] = reader(words[k])
        return drawn

    return Policy(len(readers), read, lower)


def as_policy(where: str, augmentation: Augmentation) -> Policy:
    """Convert a plain function (key, image) -> image to a policy, whose draw is the key."""
    if isinstance(augmentation, Policy):
        return augmentation
    if not callable(augmentation):
        expected = "an augmentation (key, image) -> image"
        raise ConfigError(where, expected, repr(augmentation), "call its maker")

    def read(words: Array, shape: ImageShape) -> Drawn:
        return {"key": words}

    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        def change(image: Image) -> Image:
            return augmentation(random.key_from_words(drawn["key"]), image)

        # The function is opaque, so it is assumed to do everything that an op can do.
        return (PixelOp(change, spatial=True, moves_pixels=True, unbounded=True),)

    def reshape(shape: ImageShape) -> ImageShape:
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(augmentation, jax.random.key(0), image).shape

    return Policy(2, read, lower, reshape)


def expect_image(
    where: str,
    key: RandomKey,
    image: Image,
) -> None:
    """Raise unless `image` is one image (height, width, channels), bytes or floats in [0, 1]."""
    checks.key(f"{where} key", key)
    if image.ndim != 3:
        expected = "one image (height, width, channels)"
        raise ShapeError(where, expected, image.shape, "for a batch use augment.per_image")
    if image.shape[0] in CHANNELS and image.shape[-1] not in CHANNELS:
        expected = "channels last (height, width, channels)"
        raise ShapeError(where, expected, image.shape, "move the channel axis last")
    if image.dtype == jnp.uint8:
        return
    if not jnp.issubdtype(image.dtype, jnp.floating):
        expected = "uint8, or floats in [0, 1]"
        raise DTypeError(where, expected, image.dtype, "convert the image first")
    if image.size and checks.is_concrete(image):
        # NumPy, because a concrete array can be read inside of a traced function too.
        levels = np.asarray(image)
        low = float(levels.min())
        high = float(levels.max())
        # Images with negative values are standardized ones, whose maximum may be above 1.
        if low >= 0 and high > OFF_SCALE:
            got = f"max {high:g}"
            advice = "keep it uint8, or divide by 255"
            raise ConfigError(f"{where} image", "[0, 1]", got, advice)
