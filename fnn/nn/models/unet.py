"""The U-Net."""

from collections.abc import Sequence

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.activations import relu
from fnn.nn.combinators.chain import chain
from fnn.nn.combinators.parallel import parallel
from fnn.nn.convolution.conv import conv
from fnn.nn.convolution.transposed import conv_transpose
from fnn.nn.core.stateless import plain
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import max_pool
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def unet(channels: Sequence[int], outputs: int) -> Layer:
    """Levels of so many channels, each at half the size of the one above, down and up again: a label a pixel.

    x (batch, height, width, inputs) -> y (batch, height, width, outputs). A level is two convolutions, the way through
    the level below set beside the way past it, and two convolutions more. As today: the image keeps its size, and
    convolutions are normalized. ConfigError for fewer than two levels; ShapeError where the levels do not divide the
    image [Ronneberger et al. 2015, arXiv:1505.04597].
    """
    if not isinstance(channels, Sequence) or len(channels) < 2:
        raise ConfigError(
            "unet channels", "a sequence of two or more", repr(channels), "as in (16, 32, 64)"
        )
    checks.whole("unet outputs", outputs)
    widths = [checks.whole("unet channels", width) for width in channels]
    return chain(whole=_whole(2 ** (len(widths) - 1)), levels=_level(widths), head=conv(outputs, 1))


def _level(channels: Sequence[int]) -> Layer:
    width, *below = channels
    if not below:
        return _convolved(width)
    way = chain(down=max_pool(), level=_level(below), up=conv_transpose(width, 2, stride=2))
    return chain(
        before=_convolved(width),
        around=parallel(past=chain(), through=way),
        after=_convolved(width),
    )


def _convolved(channels: int) -> Layer:
    parts = (
        {
            f"conv_{i}": conv(channels, use_bias=False),
            f"norm_{i}": batch_norm(),
            f"relu_{i}": relu(),
        }
        for i in (1, 2)
    )
    return chain(**{name: part for both in parts for name, part in both.items()})


def _whole(size: int) -> Layer:
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

    def through(x):
        expect(checks.image_batch("unet x", x).shape[1:])
        return x

    return plain("whole", expect, through)
