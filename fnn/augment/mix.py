"""Batch policies that mix each image, and its targets, with another image of the batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment.batch import Batch, BatchPolicy, example_keys
from fnn.augment.intensity import is_float, to_float
from fnn.errors import ConfigError, ShapeError
from fnn.types import Images, Number, RandomKey
from fnn.values import maker

PER = ("image", "batch")

# (keys, shares, images, partners) -> (mixed images, share of each image in its mixture)
Mix = Callable[[Array, Array, Images, Images], tuple[Images, Array]]


@maker
def mixup(
    alpha: Number = 0.2,
    *,
    classes: int | None = None,
    probability: Number = 1.0,
    per: str = "image",
) -> BatchPolicy:
    """Mixup: convex combinations of pairs of images and of their targets.

    mixed = λ x + (1 - λ) x', with λ of the distribution Beta(α, α). The partner x' is the previous
    image of the batch, as in torchvision. Mixed bytes are rounded [Zhang et al. 2018,
    arXiv:1710.09412].

    Args:
        alpha: α > 0. Small values give λ near 0 or 1.
        classes: Number of classes, to convert integer labels to rows of probabilities (batch,
            classes) before they are mixed. Targets of floats are mixed as they are.
        probability: Probability that an image is mixed, in [0, 1]; otherwise λ is 1.
        per: "image": draw λ for each image. "batch": draw it once for the batch.

    Raises:
        ConfigError: An option is out of range, or targets are integers and `classes` is None.
        ShapeError: The images are not a batch (batch, height, width, channels).
    """

    def mix(
        keys: Array,
        shares: Array,
        images: Images,
        partners: Images,
    ) -> tuple[Images, Array]:
        share = shares[:, None, None, None]  # (batch, 1, 1, 1)
        kept = share * to_float(images)
        added = (1 - share) * to_float(partners)
        blend = kept + added
        if not is_float(images):
            blend = jnp.round(blend)
        return blend.astype(images.dtype), shares

    return _mixing("mixup", mix, alpha, classes, probability, per)


@maker
def cutmix(
    alpha: Number = 1.0,
    *,
    classes: int | None = None,
    probability: Number = 1.0,
    per: str = "image",
) -> BatchPolicy:
    """CutMix: replace a box of each image by the same box of another image, and mix the targets.

    The box has a fraction 1 - λ of the area, with λ of the distribution Beta(α, α). Its center is
    uniform over the image, so that the border may cut it off. Targets are mixed by the exact area
    that remains. The partner is the previous image of the batch [Yun et al. 2019,
    arXiv:1905.04899].

    Args:
        alpha: α > 0. With 1, λ is uniform.
        classes: Number of classes, to convert integer labels to rows of probabilities (batch,
            classes) before they are mixed. Targets of floats are mixed as they are.
        probability: Probability that an image is mixed, in [0, 1].
        per: "image": draw a box for each image. "batch": draw one box for the batch.

    Raises:
        ConfigError: An option is out of range, or targets are integers and `classes` is None.
        ShapeError: The images are not a batch (batch, height, width, channels).
    """

    def draw_center(key: RandomKey) -> Array:
        return jax.random.uniform(key, (2,), jnp.float32)

    def mix(
        keys: Array,
        shares: Array,
        images: Images,
        partners: Images,
    ) -> tuple[Images, Array]:
        height, width, channels = images.shape[1:]
        centers = jax.vmap(draw_center)(keys)  # (batch, 2)
        rows = _box(height, centers[:, 0], shares)  # (batch, height)
        columns = _box(width, centers[:, 1], shares)  # (batch, width)
        # As (batch, height, width * channels): XLA vectorizes loops over such long rows.
        in_rows = rows[:, :, None]
        in_columns = jnp.repeat(columns, channels, 1)[:, None, :]
        in_box = in_rows & in_columns
        partner_rows = partners.reshape(*partners.shape[:2], -1)
        image_rows = images.reshape(*images.shape[:2], -1)
        area = rows.sum(1) * columns.sum(1)
        kept = 1 - area.astype(jnp.float32) / (height * width)
        mixed = jnp.where(in_box, partner_rows, image_rows)
        return mixed.reshape(images.shape), kept

    return _mixing("cutmix", mix, alpha, classes, probability, per)


def _box(
    size: int,
    center: Array,
    shares: Array,
) -> Array:
    """Mask of the rows or columns inside of the box: (batch, size), bool."""
    middle = jnp.floor(center * size)[:, None]
    # The side, as a fraction of the image's, is the root of the area.
    side = jnp.sqrt(1 - shares)
    half = jnp.floor(0.5 * side * size)[:, None]
    index = jnp.arange(size, dtype=jnp.float32)[None]
    return (index >= middle - half) & (index < middle + half)


def _mixing(
    name: str,
    mix: Mix,
    alpha: Number,
    classes: int | None,
    probability: Number,
    per: str,
) -> BatchPolicy:
    """The batch policy that mixes each image with the previous one."""
    checks.number(f"{name} alpha", alpha, "(0, inf)")
    checks.number(f"{name} probability", probability, "[0, 1]")
    checks.choice(f"{name} per", per, PER)
    if classes is not None:
        checks.whole(f"{name} classes", classes, 2)

    def draw_share(key: RandomKey) -> Array:
        exponent = jnp.asarray(alpha, jnp.float32)
        return jax.random.beta(key, exponent, exponent)

    def draw_unit(key: RandomKey) -> Array:
        return jax.random.uniform(key, (), jnp.float32)

    def apply(key: RandomKey, batch: Batch) -> Batch:
        images = batch.images
        if images.ndim != 4:
            expected = "a batch of images (batch, height, width, channels)"
            raise ShapeError(name, expected, images.shape, "add a batch axis")
        size = images.shape[0]
        # Equal indices give equal keys, and so one draw for the whole batch.
        examples = batch.examples
        if per == "batch":
            examples = jnp.zeros(size, jnp.int32)
        keys = example_keys(key, size, examples)
        parts = jax.vmap(lambda key: jax.random.split(key, 3))(keys)  # (batch, 3)
        shares = jax.vmap(draw_share)(parts[:, 0])
        applies = jax.vmap(draw_unit)(parts[:, 1]) < probability
        mix_keys = parts[:, 2]
        # A share of 1 leaves the image as it is.
        shares = jnp.where(applies, shares, 1)
        partners = jnp.roll(images, 1, 0)
        mixed, kept = mix(mix_keys, shares, images, partners)
        batch = batch._replace(images=mixed)
        if batch.targets is None:
            return batch
        mix_leaf = partial(_mix_targets, name, classes, kept)
        targets = jax.tree.map(mix_leaf, batch.targets)
        return batch._replace(targets=targets)

    return BatchPolicy(apply)


def _mix_targets(
    name: str,
    classes: int | None,
    kept: Array,
    targets: Any,
) -> Array:
    """Mix targets with those of the previous example, by the share that each image kept."""
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        if classes is None:
            where = f"{name} classes"
            expected = "the number of classes, to mix labels"
            raise ConfigError(where, expected, None, f"{name}(classes=10)")
        targets = jax.nn.one_hot(targets, classes, dtype=jnp.float32)
    # (batch,) -> (batch, 1, ...), to broadcast over the other axes of the targets.
    ones = (1,) * (targets.ndim - 1)
    share = kept.astype(targets.dtype).reshape(-1, *ones)
    remaining = share * targets
    added = (1 - share) * jnp.roll(targets, 1, 0)
    return remaining + added
