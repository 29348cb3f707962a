"""From stored numbers to what a network takes in."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fnn.errors import ShapeError


def to_float(x: jax.Array) -> jax.Array:
    """Bytes 0..255 as floats x / 255 in [0, 1]; any other dtype passes unchanged."""
    x = jnp.asarray(x)
    return x.astype(jnp.result_type(float)) / 255 if x.dtype == jnp.uint8 else x


def standardize(train_inputs: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The map x -> (to_float(x) - mean) / std, with each channel's mean and std over the training inputs alone.

    train_inputs (n, ..., channels), x (..., channels). A constant channel counts as of std 1, so it becomes 0. Give the
    map to `train.run(..., prepare=...)`, which applies it to training and validation alike. ShapeError for no examples.
    """
    stored = np.asarray(train_inputs)
    if stored.size == 0:
        raise ShapeError("standardize train_inputs", "at least one example", stored.shape, "fit on the training inputs")
    scale = 255 if stored.dtype == np.uint8 else 1
    axes = tuple(range(stored.ndim - 1))
    mean, std = (statistic(stored, axes, dtype=np.float64) / scale for statistic in (np.mean, np.std))
    std = np.where(std > 0, std, 1)

    def prepare(x: jax.Array) -> jax.Array:
        x = to_float(x)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return (x - jnp.asarray(mean, x.dtype).reshape(shape)) / jnp.asarray(std, x.dtype).reshape(shape)

    return prepare
