"""U-Net."""

from collections.abc import Sequence

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.activations import relu
from fnn.nn.combinators.chain import chain
from fnn.nn.combinators.parallel import parallel
from fnn.nn.convolution.conv import conv
from fnn.nn.convolution.transposed import conv_transpose
from fnn.nn.core.stateless import stateless
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import max_pool
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def unet(channels: Sequence[int], outputs: int) -> Layer:
    """U-Net: an encoder and a decoder with skip connections, which gives outputs for every pixel.

    x (batch, height, width, inputs) -> y (batch, height, width, outputs). A level is two
    convolutions, the level below at half the size, concatenated with a skip connection past it, and
    two more convolutions. Unlike in the paper, and as is usual today, the image keeps its size and
    convolutions are followed by batch normalization [Ronneberger et al. 2015, arXiv:1505.04597].

    Args:
        channels: Channels of each level, from the full size down.
        outputs: Numbers for each pixel, such as the logits of classes.

    Raises:
        ConfigError: `channels` is not a sequence of two or more whole numbers >= 1, or `outputs` is
            not a whole number >= 1.
        ShapeError: Height or width of the image cannot be halved for every level.
        DTypeError: x is not of floating point.
    """
    if not isinstance(channels, Sequence) or len(channels) < 2:
        raise ConfigError(
            "unet channels",
            "a sequence of two or more",
            repr(channels),
            "as in (16, 32, 64)",
        )
    checks.whole("unet outputs", outputs)
    widths = [checks.whole("unet channels", width) for width in channels]
    # Each level below the first halves height and width.
    reduction = 2 ** (len(widths) - 1)
    return chain(
        whole=_expect_multiples(reduction),
        levels=_level(widths),
        head=conv(outputs, 1),
    )


def _level(channels: Sequence[int]) -> Layer:
    """Make a level and all levels below it."""
    width, *below = channels
    # The lowest level has no way through another one, hence no skip connection.
    if not below:
        return _two_convs(width)
    through = chain(
        down=max_pool(),
        level=_level(below),
        up=conv_transpose(width, 2, stride=2),
    )
    return chain(
        before=_two_convs(width),
        # The channels of both ways are concatenated, those of the skip connection first.
        around=parallel(past=chain(), through=through),
        after=_two_convs(width),
    )


def _two_convs(channels: int) -> Layer:
    layers: dict[str, Layer] = {}
    for index in (1, 2):
        # The bias would be removed by the normalization.
        layers[f"conv_{index}"] = conv(channels, use_bias=False)
        layers[f"norm_{index}"] = batch_norm()
        layers[f"relu_{index}"] = relu()
    return chain(**layers)


def _expect_multiples(size: int) -> Layer:
    """Make an identity layer that raises unless height and width are multiples of `size`."""

    def expect(shape: Shape) -> Shape:
        height, width, _ = checks.image_shape("unet", shape)
        if height % size or width % size:
            raise ShapeError(
                "unet x",
                f"height and width in multiples of {size}",
                shape,
                "pad or resize the images",
            )
        return shape

    def identity(x: jax.Array) -> jax.Array:
        checks.image_batch("unet x", x)
        # The check comes before the first pool, whose output would not fit the decoder.
        expect(x.shape[1:])
        return x

    return stateless("whole", expect, identity)
