"""Random images for the tests of augmentations, and policies applied to many of them at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.augment import Policy


def pictures(count: int, shape: tuple[int, int, int] = (12, 10, 3), seed: int = 0) -> np.ndarray:
    """Images of bytes with random ranges of levels: the first has all levels, the second one."""
    draw = np.random.default_rng(seed)
    low, high = np.sort(draw.integers(0, 256, (2, count, 1, 1, shape[2])), 0)
    low[:1], high[:1], high[1:2] = 0, 255, low[1:2]
    return draw.integers(low, high + 1, (count, *shape)).astype(np.uint8)


def smooth(count: int, shape: tuple[int, int, int] = (12, 10, 3), seed: int = 0) -> np.ndarray:
    """Floats in [0, 1] (count, *shape), each channel a sum of slow waves."""
    draw = np.random.default_rng(seed)
    rows, columns = (np.arange(n)[None, :, None] / max(shape) for n in shape[:2])
    total = np.zeros((count, *shape))
    for _ in range(4):
        along, across, phase = (draw.uniform(-6, 6, (count, 1, shape[2])) for _ in range(3))
        total += np.sin((along * rows)[:, :, None] + (across * columns)[:, None] + phase[:, None])
    return ((total + 4) / 8).astype(np.float32)


def as_floats(images: np.ndarray) -> np.ndarray:
    return (images / 255).astype(np.float32)


def augmented(policy: Callable[..., Any], images: np.ndarray, seed: int = 1) -> np.ndarray:
    """Each image augmented with another key."""
    keys = jax.random.split(jax.random.key(seed), len(images))
    return np.asarray(jax.jit(jax.vmap(policy))(keys, jnp.asarray(images)))


def augmented_at(
    maker: Callable[..., Policy], images: np.ndarray, magnitudes: np.ndarray, seed: int = 1
) -> np.ndarray:
    """Each image augmented at another magnitude, in one program."""

    def one(key: jax.Array, image: jax.Array, magnitude: jax.Array) -> jax.Array:
        return maker(magnitude)(key, image)

    keys = jax.random.split(jax.random.key(seed), len(images))
    magnitudes = jnp.asarray(magnitudes, jnp.float32)
    return np.asarray(jax.jit(jax.vmap(one))(keys, jnp.asarray(images), magnitudes))


def draws(
    policy: Policy, count: int, shape: tuple[int, int, int] = (12, 10, 3), seed: int = 1
) -> Any:
    """The draws of a policy for several images: a pytree with a leading axis."""
    keys = jax.random.split(jax.random.key(seed), count)
    drawn = jax.jit(jax.vmap(lambda key: policy.draw(key, shape)))(keys)
    return jax.tree.map(np.asarray, drawn)


def apply_draws(policy: Policy, drawn: Any, images: np.ndarray) -> np.ndarray:
    """Each image augmented with the given draw."""
    drawn = jax.tree.map(jnp.asarray, drawn)
    return np.asarray(jax.jit(jax.vmap(policy.apply))(drawn, jnp.asarray(images)))
