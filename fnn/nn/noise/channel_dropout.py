"""Noise on whole channels."""

from fnn.errors import ShapeError
from fnn.nn.noise.dropping import dropping
from fnn.types import Layer, Number, Shape
from fnn.values import maker


@maker
def channel_dropout(drop_rate: Number) -> Layer:
    """In training an example's channels are dropped by chance, each with all its places: y = x m / (1 - drop_rate).

    x (batch, ..., channels); m ~ Bernoulli(1 - drop_rate), drawn for every example and channel; with train=False y = x.
    Neighbors in an image tell of each other, so that to drop them one by one hides little. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Tompson et al. 2015, arXiv:1411.4280, as spatial dropout].
    """
    return dropping("channel_dropout", drop_rate, _one_a_channel)


def _one_a_channel(shape: Shape) -> Shape:
    if not shape:
        raise ShapeError("channel_dropout", "a shape (..., channels)", shape, "give each example a channel axis")
    return (1,) * (len(shape) - 1) + shape[-1:]
