"""One image and many: how an augmentation of an image becomes one of a batch, and what takes the batch as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.types import Augmentation, Augmentations, Images, RandomKey, Step
from fnn.values import maker


@dataclass(frozen=True, eq=False)
class BatchPolicy:
    """An augmentation of a whole batch: (key, images, targets=None, examples=None, epoch=None) -> (images, targets).

    It may mix images, and then their targets too. examples are the images' numbers in the data set; what is drawn for
    an image by itself follows from its number, wherever it stands. epoch is the number of the pass over the data set,
    from 0. In a run over arrays both are told, for a batch of a stream neither.
    """

    apply: Callable[[RandomKey, Images, Any, jax.Array | None, Step | int | None], tuple[Images, Any]]

    def __call__(
        self,
        key: RandomKey,
        images: Images,
        targets: Any = None,
        examples: jax.Array | None = None,
        epoch: Step | int | None = None,
    ) -> tuple[Images, Any]:
        """The batch as it is seen with this key."""
        return self.apply(checks.key("augmentation key", key), images, targets, examples, epoch)


@maker
def per_image(augmentation: Augmentation) -> Augmentations:
    """The augmentation of every image of a batch, each with a key of its own.

    (key, images, examples) -> images; image i draws from fold_in(key, examples[i]), so what it gets depends
    neither on its place in the batch nor on the batch size. Without examples they are 0, 1, 2, ...
    """

    def augmentations(key: RandomKey, images: Images, examples: jax.Array | None = None) -> Images:
        return jax.vmap(augmentation)(keys_of(key, images.shape[0], examples), images)

    return augmentations


@maker
def batched(augmentation: Augmentation | BatchPolicy) -> BatchPolicy:
    """An augmentation of either kind as one of a batch: that of an image is done to every image, see `per_image`."""
    if isinstance(augmentation, BatchPolicy):
        return augmentation
    mapped = per_image(augmentation)
    return BatchPolicy(lambda key, images, targets, examples, epoch: (mapped(key, images, examples), targets))


@maker
def batch_chain(*policies: Augmentation | BatchPolicy) -> BatchPolicy:
    """One after another on a batch: augmentations of an image for each image, those of a batch for all.

    Part i draws from fold_in(key, i). ConfigError for what is no augmentation.
    """
    for place, policy in enumerate(policies):
        if not callable(policy):
            raise ConfigError(f"batch_chain {place}", "an augmentation", repr(policy), "call its maker")

    def apply(
        key: RandomKey, images: Images, targets: Any, examples: jax.Array | None, epoch: Step | int | None
    ) -> tuple[Images, Any]:
        for place, policy in enumerate(policies):
            images, targets = batched(policy)(jax.random.fold_in(key, place), images, targets, examples, epoch)
        return images, targets

    return BatchPolicy(apply)


def keys_of(key: RandomKey, count: int, examples: jax.Array | None) -> jax.Array:
    """A key for each example, by its number."""
    checks.key("augmentation key", key)
    examples = jnp.arange(count) if examples is None else examples
    return jax.vmap(jax.random.fold_in, (None, 0))(key, examples)
