"""A chain of augmentations is their composition, each with a key of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import augment


def add_noise(key, image):
    return image + jax.random.normal(key, image.shape)


def test_a_chain_is_the_composition_with_keys_by_place():
    image, key = jnp.ones((3, 3, 1)), jax.random.key(0)
    first = add_noise(jax.random.fold_in(key, 0), image)
    both = add_noise(jax.random.fold_in(key, 1), first)
    np.testing.assert_array_equal(augment.chain(add_noise, add_noise)(key, image), both)


def test_an_empty_chain_is_the_identity():
    image = jnp.arange(9.0).reshape(3, 3, 1)
    np.testing.assert_array_equal(augment.chain()(jax.random.key(0), image), image)
