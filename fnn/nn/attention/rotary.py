"""Where in a sequence a vector stands, told by turning it."""

import jax
import jax.numpy as jnp

from fnn import trees


def rotate(x: jax.Array, positions: jax.Array, *, base: float = 10_000.0) -> jax.Array:
    """Turn each pair of neighboring numbers, seen as one complex number, by an angle in proportion to its position.

    (y_2i + j y_(2i+1)) = (x_2i + j x_(2i+1)) exp(j t base^(-2i / width)) for x (batch, time, heads, width), width
    even, and its positions t (time,). So the product of two turned vectors tells how far apart they stand, not where
    [Su et al. 2021, arXiv:2104.09864, eq. 34].
    """
    wide, width = trees.wide(x), x.shape[-1]
    frequency = base ** (-jnp.arange(0, width, 2).astype(wide) / width)
    angle = (positions.astype(wide)[:, None] * frequency[None])[None, :, None]  # (1, time, 1, width / 2)
    even, odd = x[..., ::2].astype(wide), x[..., 1::2].astype(wide)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
