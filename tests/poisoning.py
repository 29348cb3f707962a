"""Data of which one image makes the step that meets it not finite."""

import jax.numpy as jnp

from fnn import data


def poisoned(images):
    """A copy of the images in which one alone has a first pixel of 255."""
    images = images.copy()
    images[:, 0, 0] = 0
    images[17, 0, 0] = 255
    return images


def poison(x):
    """As `prepare`: images whose first pixel is 255 become NaN."""
    x = data.to_float(x)
    return jnp.where(x[:, :1, :1] == 1, jnp.nan, x)
