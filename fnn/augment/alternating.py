"""Done to an image in every second epoch."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.batches import BatchPolicy, keys_of, per_image
from fnn.errors import ConfigError
from fnn.types import Augmentation, Images, RandomKey, Step
from fnn.values import maker

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
        raise ConfigError("alternate", "an augmentation of an image, as flip_lr(1.0)", repr(augmentation), advice)
    done_to = per_image(augmentation)

    def apply(
        key: RandomKey, images: Images, targets: Any, examples: Array | None, epoch: Step | int | None
    ) -> tuple[Images, Any]:
        if examples is None or epoch is None:
            missing = " and ".join(name for name, value in (("examples", examples), ("epoch", epoch)) if value is None)
            advice = "train on arrays, since a stream has neither, or give both to the call"
            raise ConfigError("alternate", "the examples' numbers and the epoch", f"no {missing}", advice)
        done = done_to(key, images, examples)
        if (done.shape, done.dtype) != (images.shape, images.dtype):
            got = f"{done.dtype}{list(done.shape[1:])}"
            raise ConfigError(
                "alternate", f"images {images.dtype}{list(images.shape[1:])} again", got, "do it in every epoch"
            )
        turns = (_halves(examples) + epoch) % 2 == 0
        return jnp.where(turns[:, None, None, None], done, images), targets

    return BatchPolicy(apply)


def _halves(examples: Array) -> Array:
    """0 or 1 for each example (batch,), int32."""
    key = jax.random.key(HALVES, impl="threefry2x32")  # of which a mapped draw is the draw, whatever JAX is set to
    keys = keys_of(key, examples.shape[0], examples)
    return jax.vmap(lambda own: jax.random.bits(own, (), jnp.uint32) & 1)(keys).astype(jnp.int32)
