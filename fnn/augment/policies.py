"""Augmentations made of augmentations."""

import jax

from fnn.errors import ConfigError
from fnn.types import Augmentation, Image, RandomKey


def chain(*policies: Augmentation) -> Augmentation:
    """One augmentation after another; number i draws from fold_in(key, i). ConfigError for what is none."""
    for place, policy in enumerate(policies):
        if not callable(policy):
            raise ConfigError(f"chain {place}", "an augmentation (key, image) -> image", repr(policy), "call its maker")

    def augmentation(key: RandomKey, image: Image) -> Image:
        for place, policy in enumerate(policies):
            image = policy(jax.random.fold_in(key, place), image)
        return image

    return augmentation
