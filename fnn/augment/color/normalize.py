"""Normalization of levels by mean and standard deviation, as the last part of a policy."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fnn import checks
from fnn.augment.intensity import max_level, to_float
from fnn.augment.ops import Ops, PixelOp
from fnn.augment.policy import Drawn, Policy
from fnn.errors import ConfigError, ShapeError
from fnn.types import Image, ImageShape
from fnn.values import maker


@maker
def normalize(
    mean: Sequence[float] | Array,
    std: Sequence[float] | Array,
    *,
    dtype: DTypeLike = jnp.float32,
) -> Policy:
    """Normalize each channel: (x - mean) / std, with levels x in [0, 1].

    Bytes are divided by 255. The results are not levels, so only operations that accept any values
    may follow, such as geometric ones and Cutout.

    Args:
        mean: One number per channel, (channels,), on the scale of [0, 1].
        std: One number > 0 per channel, (channels,), on the same scale.
        dtype: Floating-point dtype of the result.

    Raises:
        ConfigError: `mean` and `std` differ in length, a std is not positive, an operation on
            levels follows, or the policy is a part of `maybe` or `one_of`.
        ShapeError: The image has another number of channels.
    """
    means = _numbers(mean)
    stds = _numbers(std)
    if len(means) != len(stds):
        expected = f"{len(means)} numbers, as many as mean"
        raise ConfigError(
            "normalize std",
            expected,
            len(stds),
            "give one per channel",
        )
    for number in means:
        checks.number("normalize mean", number, "(-inf, inf)")
    for number in stds:
        checks.number("normalize std", number, "(0, inf)")

    def change(image: Image) -> Image:
        height, width = image.shape[:2]
        x = to_float(image)
        # (width * channels,): XLA vectorizes loops over such long rows, but not over three
        # channels.
        mean_row = jnp.tile(_stack(means, x.dtype), width)
        std_row = jnp.tile(_stack(stds, x.dtype), width)
        rows = x.reshape(height, -1)
        # One multiplication and one subtraction for each pixel.
        scaled = rows * (1 / (max_level(image) * std_row))[None]
        normalized = scaled - (mean_row / std_row)[None]
        return normalized.astype(dtype).reshape(image.shape)

    # The number of channels is known only with an image.
    def lower(drawn: Drawn, shape: ImageShape) -> Ops:
        if shape[2] != len(means):
            expected = f"{len(means)} channels, one for each mean"
            raise ShapeError(
                "normalize",
                expected,
                shape,
                "give one mean per channel",
            )
        return (PixelOp(change, normalizes=True),)

    return Policy(0, lambda words, shape: {}, lower)


def _numbers(row: Sequence[float] | Array) -> list[Any]:
    """Return the numbers of a row as a list, whose elements may be traced."""
    if isinstance(row, Sequence):
        return [*row]
    return list(jnp.asarray(row))


def _stack(numbers: list[Any], dtype: DTypeLike) -> Array:
    return jnp.stack([jnp.asarray(number, dtype) for number in numbers])
