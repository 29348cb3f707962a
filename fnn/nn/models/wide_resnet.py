"""Wide residual networks."""

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations.pointwise import relu
from fnn.nn.combinators.chain import chain
from fnn.nn.combinators.residual import residual
from fnn.nn.convolution.conv import conv
from fnn.nn.linear.dense import dense
from fnn.nn.noise.dropout import dropout
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling.windows import global_avg_pool
from fnn.types import Layer, Number
from fnn.values import maker

STEM = 16  # channels


@maker
def wide_resnet(depth: int = 28, width: int = 10, *, classes: int = 10, drop_rate: Number | None = None) -> Layer:
    """The residual network of depth 6 n + 4, so many times wider, for images of some 32 x 32: WRN-depth-width.

    x (batch, height, width, channels) -> logits (batch, classes); three stages of n blocks, of 16, 32 and 64 times
    width channels. What is normalized comes before each convolution, and drop_rate, if given, drops between the two of
    a block. ConfigError for another depth [Zagoruyko & Komodakis 2016, arXiv:1605.07146; He et al. 2016,
    arXiv:1603.05027].
    """
    if checks.whole("wide_resnet depth", depth, 10) % 6 != 4:
        raise ConfigError("wide_resnet depth", "6 n + 4", depth, "choose 10, 16, 22, 28 or 40")
    checks.whole("wide_resnet width", width)
    checks.whole("wide_resnet classes", classes)
    blocks, parts, inputs = (depth - 4) // 6, {"stem": _conv(STEM)}, STEM
    for stage in range(3):
        channels, stride = STEM * width * 2**stage, 1 if stage == 0 else 2
        first = _equal if (inputs, stride) == (channels, 1) else _changed
        stages = [first(channels, stride, drop_rate), *(_equal(channels, 1, drop_rate) for _ in range(1, blocks))]
        parts[f"stage_{stage + 1}"] = chain(**{f"block_{place}": block for place, block in enumerate(stages)})
        inputs = channels
    return chain(**parts, norm=batch_norm(), relu=relu(), pool=global_avg_pool(), head=dense(classes))


def _equal(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    return chain(sum=residual(chain(norm=batch_norm(), relu=relu(), body=_body(channels, stride, drop_rate))))


def _changed(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    """A block that ends in another shape; what is normalized goes both ways."""
    ways = residual(_body(channels, stride, drop_rate), _conv(channels, 1, stride))
    return chain(norm=batch_norm(), relu=relu(), sum=ways)


def _body(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    drop = {} if drop_rate is None else {"dropout": dropout(drop_rate)}
    return chain(conv_1=_conv(channels, 3, stride), norm=batch_norm(), relu=relu(), **drop, conv_2=_conv(channels))


def _conv(channels: int, kernel: int = 3, stride: int = 1) -> Layer:
    return conv(channels, kernel, stride=stride, padding=kernel // 2, use_bias=False)
