"""Policies of whole batches: one image at a time, several in turn, or alternating flips."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

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

    apply: Callable[
        [RandomKey, Images, Any, jax.Array | None, Step | int | None], tuple[Images, Any]
    ]

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
    return BatchPolicy(
        lambda key, images, targets, examples, epoch: (mapped(key, images, examples), targets)
    )


@maker
def batch_chain(*policies: Augmentation | BatchPolicy) -> BatchPolicy:
    """One after another on a batch: augmentations of an image for each image, those of a batch for all.

    Part i draws from fold_in(key, i). ConfigError for what is no augmentation.
    """
    for place, policy in enumerate(policies):
        if not callable(policy):
            raise ConfigError(
                f"batch_chain {place}", "an augmentation", repr(policy), "call its maker"
            )

    def apply(
        key: RandomKey,
        images: Images,
        targets: Any,
        examples: jax.Array | None,
        epoch: Step | int | None,
    ) -> tuple[Images, Any]:
        for place, policy in enumerate(policies):
            images, targets = batched(policy)(
                jax.random.fold_in(key, place), images, targets, examples, epoch
            )
        return images, targets

    return BatchPolicy(apply)


def keys_of(key: RandomKey, count: int, examples: jax.Array | None) -> jax.Array:
    """A key for each example, by its number."""
    checks.key("augmentation key", key)
    examples = jnp.arange(count) if examples is None else examples
    return jax.vmap(jax.random.fold_in, (None, 0))(key, examples)


HALVES = 2404_00498  # any number will do: of the key that tells the two halves apart


@maker
def alternate(augmentation: Augmentation) -> BatchPolicy:
    """The augmentation of an image in every second epoch: of one half in even epochs, of the other half in odd ones.

    With alternate(flip_lr(1.0)) two epochs in a row show both mirror images of every example; flips drawn anew show
    both of every second one. Which half an example is in is a random bit of fold_in(a fixed key, its number), so it is
    the same in every epoch, batch and run. ConfigError for an augmentation of a batch, for one that changes an image's
    size or dtype, and where examples and epoch are not told, as on a stream [Jordan 2024, arXiv:2404.00498].
    """
    if isinstance(augmentation, BatchPolicy) or not callable(augmentation):
        advice = "alternate it alone, and put the batch's beside it by batch_chain"
        raise ConfigError(
            "alternate", "an augmentation of an image, as flip_lr(1.0)", repr(augmentation), advice
        )
    done_to = per_image(augmentation)

    def apply(
        key: RandomKey,
        images: Images,
        targets: Any,
        examples: Array | None,
        epoch: Step | int | None,
    ) -> tuple[Images, Any]:
        if examples is None or epoch is None:
            missing = " and ".join(
                name for name, value in (("examples", examples), ("epoch", epoch)) if value is None
            )
            advice = "train on arrays, since a stream has neither, or give both to the call"
            raise ConfigError(
                "alternate", "the examples' numbers and the epoch", f"no {missing}", advice
            )
        done = done_to(key, images, examples)
        if (done.shape, done.dtype) != (images.shape, images.dtype):
            got = f"{done.dtype}{list(done.shape[1:])}"
            raise ConfigError(
                "alternate",
                f"images {images.dtype}{list(images.shape[1:])} again",
                got,
                "do it in every epoch",
            )
        turns = (_halves(examples) + epoch) % 2 == 0
        return jnp.where(turns[:, None, None, None], done, images), targets

    return BatchPolicy(apply)


def _halves(examples: Array) -> Array:
    """0 or 1 for each example (batch,), int32."""
    key = jax.random.key(
        HALVES, impl="threefry2x32"
    )  # of which a mapped draw is the draw, whatever JAX is set to
    keys = keys_of(key, examples.shape[0], examples)
    return jax.vmap(lambda own: jax.random.bits(own, (), jnp.uint32) & 1)(keys).astype(jnp.int32)
