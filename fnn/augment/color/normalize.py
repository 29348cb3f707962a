"""From levels to what a network takes in, as the last part of a policy."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from fnn import checks
from fnn.augment.intensity import loose, top
from fnn.augment.ops import Paint, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.errors import ConfigError, ShapeError
from fnn.types import Image, ImageShape
from fnn.values import maker


@maker
def normalize(
    mean: Sequence[float] | Array, std: Sequence[float] | Array, *, dtype: DTypeLike = jnp.float32
) -> Policy:
    """(x - mean) / std for each channel, with x in [0, 1], bytes divided by 255; the result is of this dtype.

    What comes out are no levels, so only moves and what covers pixels may come after it: ConfigError for others, inside
    of `maybe` and `one_of`, and unless there is a mean and a positive std for each; ShapeError for an image of other
    channels.
    """
    means, stds = (
        [*numbers] if isinstance(numbers, Sequence) else list(jnp.asarray(numbers))
        for numbers in (mean, std)
    )
    if len(means) != len(stds):
        raise ConfigError(
            "normalize std",
            f"{len(means)} numbers, as many as mean",
            len(stds),
            "give one a channel",
        )
    for own in means:
        checks.number("normalize mean", own, "(-inf, inf)")
    for own in stds:
        checks.number("normalize std", own, "(0, inf)")

    def change(image: Image) -> Image:
        x = loose(image)
        center, spread = (
            jnp.tile(jnp.stack([jnp.asarray(own, x.dtype) for own in numbers]), image.shape[1])
            for numbers in (means, stds)
        )
        # As (height, width * channels): a loop over so long a row is vectorized, one over three channels is not.
        scaled = (
            x.reshape(image.shape[0], -1) * (1 / (top(image) * spread))[None]
            - (center / spread)[None]
        )
        return scaled.astype(dtype).reshape(image.shape)

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        if shape[2] != len(means):
            raise ShapeError(
                "normalize", f"{len(means)} channels, one a mean", shape, "give one mean a channel"
            )
        return (Paint(change, normalizes=True),)

    return Policy(0, lambda words, shape: {}, steps)
