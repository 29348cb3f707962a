"""Data with one image that makes a step nonfinite."""

import jax.numpy as jnp

from fnn import data


def poisoned(images):
    """A copy of the images in which exactly one has a first pixel of 255."""
    images = images.copy()
    images[:, 0, 0] = 0
    images[17, 0, 0] = 255
    return images


def poison(x):
    """For `prepare`: images whose first pixel is 255 become NaN."""
    x = data.to_float(x)
    return jnp.where(x[:, :1, :1] == 1, jnp.nan, x)
