"""Images mixed with others of the batch, and their targets by as much."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment.batch import BatchPolicy, keys_of
from fnn.augment.intensity import is_float, loose
from fnn.errors import ConfigError, ShapeError
from fnn.types import Images, Number, RandomKey, Step
from fnn.values import maker

PER = ("image", "batch")


@maker
def mixup(
    alpha: Number = 0.2,
    *,
    classes: int | None = None,
    probability: Number = 1.0,
    per: str = "image",
) -> BatchPolicy:
    """λ x + (1 - λ) x', with x' the image before it in the batch and λ of Beta(α, α); targets likewise.

    Integer labels become rows of `classes` probabilities; floats are mixed as they are. λ is drawn for each image, or
    once for the batch; with 1 - probability it is 1. Bytes are rounded. ConfigError for an option out of range,
    and where
    labels are mixed without `classes` [Zhang et al. 2018, arXiv:1710.09412; partner and rule as in
    torchvision].
    """

    def mix(keys: Array, shares: Array, images: Images, others: Images) -> tuple[Images, Array]:
        share = shares[:, None, None, None]
        blend = share * loose(images) + (1 - share) * loose(others)
        return (blend if is_float(images) else jnp.round(blend)).astype(images.dtype), shares

    return _mixing("mixup", mix, alpha, classes, probability, per)


@maker
def cutmix(
    alpha: Number = 1.0,
    *,
    classes: int | None = None,
    probability: Number = 1.0,
    per: str = "image",
) -> BatchPolicy:
    """A box of the image before it in the batch, of about a part 1 - λ of the area, with λ of Beta(α, α).

    Its center is any pixel and the edges may cut it off; the targets are mixed by the exact area that is shown. See
    `mixup` for the rest [Yun et al. 2019, arXiv:1905.04899].
    """

    def mix(keys: Array, shares: Array, images: Images, others: Images) -> tuple[Images, Array]:
        sizes = images.shape[1:3]
        centers = jax.vmap(lambda key: jax.random.uniform(key, (2,), jnp.float32))(keys)
        inside = [_box(size, centers[:, axis], shares) for axis, size in enumerate(sizes)]
        hidden = inside[0][:, :, None] & jnp.repeat(inside[1], images.shape[3], 1)[:, None, :]
        # As (batch, height, width * channels): a loop over so long a row is vectorized.
        theirs, own = (array.reshape(*array.shape[:2], -1) for array in (others, images))
        area = inside[0].sum(1) * inside[1].sum(1)
        kept = 1 - area.astype(jnp.float32) / (sizes[0] * sizes[1])
        return jnp.where(hidden, theirs, own).reshape(images.shape), kept

    return _mixing("cutmix", mix, alpha, classes, probability, per)


def _box(size: int, center: Array, shares: Array) -> Array:
    """Which of the rows or columns (batch, size) lie in the box."""
    middle = jnp.floor(center * size)[:, None]
    half = jnp.floor(0.5 * jnp.sqrt(1 - shares) * size)[:, None]
    place = jnp.arange(size, dtype=jnp.float32)[None]
    return (place >= middle - half) & (place < middle + half)


Mix = Callable[[Array, Array, Images, Images], tuple[Images, Array]]


def _mixing(
    name: str, mix: Mix, alpha: Number, classes: int | None, probability: Number, per: str
) -> BatchPolicy:
    checks.number(f"{name} alpha", alpha, "(0, inf)")
    checks.number(f"{name} probability", probability, "[0, 1]")
    checks.choice(f"{name} per", per, PER)
    if classes is not None:
        checks.whole(f"{name} classes", classes, 2)

    def apply(
        key: RandomKey,
        images: Images,
        targets: Any,
        examples: Array | None,
        epoch: Step | int | None,
    ) -> tuple[Images, Any]:
        if images.ndim != 4:
            raise ShapeError(
                name,
                "a batch of images (batch, height, width, channels)",
                images.shape,
                "add a batch axis",
            )
        keys = keys_of(
            key,
            images.shape[0],
            examples if per == "image" else jnp.zeros(images.shape[0], jnp.int32),
        )
        parts = jax.vmap(lambda own: jax.random.split(own, 3))(keys)
        exponent = jnp.asarray(alpha, jnp.float32)
        shares = jax.vmap(lambda own: jax.random.beta(own, exponent, exponent))(parts[:, 0])
        happens = (
            jax.vmap(lambda own: jax.random.uniform(own, (), jnp.float32))(parts[:, 1])
            < probability
        )
        mixed, kept = mix(
            parts[:, 2], jnp.where(happens, shares, 1), images, jnp.roll(images, 1, 0)
        )
        return mixed, None if targets is None else jax.tree.map(
            lambda own: _mixed(name, own, kept, classes), targets
        )

    return BatchPolicy(apply)


def _mixed(name: str, targets: Array, kept: Array, classes: int | None) -> Array:
    """Targets mixed with those before them in the batch, of which a part 1 - kept comes."""
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        if classes is None:
            raise ConfigError(
                f"{name} classes", "how many there are, to mix labels", None, f"{name}(classes=10)"
            )
        targets = jax.nn.one_hot(targets, classes, dtype=jnp.float32)
    share = kept.astype(targets.dtype).reshape(-1, *(1,) * (targets.ndim - 1))
    return share * targets + (1 - share) * jnp.roll(targets, 1, 0)
