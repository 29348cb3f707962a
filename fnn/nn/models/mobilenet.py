"""MobileNet."""

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations import relu6
from fnn.nn.combinators.chain import chain, residual
from fnn.nn.convolution.conv import conv
from fnn.nn.convolution.depthwise import depthwise_conv
from fnn.nn.dropout import dropout
from fnn.nn.linear import dense
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import global_avg_pool
from fnn.types import Layer, Number
from fnn.values import maker

# Expansion, channels, blocks and stride of each stage: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
STEM, LAST = 32, 1280  # channels
MULTIPLE = 8  # of so many channels, for the hardware


@maker
def mobilenet_v2(classes: int = 1000, *, width: float = 1.0, drop_rate: Number = 0.2) -> Layer:
    """MobileNetV2: blocks that are narrow at their ends and wide, but convolved channel by channel, in their middle.

    x (batch, height, width, channels) -> logits (batch, classes). All widths but the last are multiplied by `width`, a
    static number, and rounded to multiples of 8, as in torchvision. ConfigError for a width of 0 or less
    [Sandler et al. 2018, arXiv:1801.04381].
    """
    if not checks.is_concrete(checks.number("mobilenet_v2 width", width, "(0, inf)")):
        raise ConfigError(
            "mobilenet_v2 width",
            "a static number",
            "a traced one",
            "it shapes arrays, so is no knob",
        )
    checks.whole("mobilenet_v2 classes", classes)
    parts, inputs = {"stem": chain(**_bent(_scaled(STEM, width), 3, 2))}, _scaled(STEM, width)
    for stage, (expansion, channels, blocks, stride) in enumerate(STAGES, 1):
        outputs, stages = _scaled(channels, width), {}
        for place in range(blocks):
            stages[f"block_{place}"] = _block(
                inputs, outputs, expansion, stride if place == 0 else 1
            )
            inputs = outputs
        parts[f"stage_{stage}"] = chain(**stages)
    last = chain(**_bent(_scaled(LAST, max(1.0, width)), 1, 1))
    return chain(
        **parts, last=last, pool=global_avg_pool(), dropout=dropout(drop_rate), head=dense(classes)
    )


def _block(inputs: int, channels: int, expansion: int, stride: int) -> Layer:
    wide = _bent(expansion * inputs, 1, 1, "_1") if expansion > 1 else {}
    middle = depthwise_conv(3, stride=stride, padding=1, use_bias=False)
    narrow = {"conv_3": conv(channels, 1, use_bias=False), "norm_3": batch_norm()}
    body = chain(**wide, conv_2=middle, norm_2=batch_norm(), relu_2=relu6(), **narrow)
    return chain(sum=residual(body)) if (inputs, stride) == (channels, 1) else chain(body=body)


def _bent(channels: int, kernel: int, stride: int, name: str = "") -> dict[str, Layer]:
    convolution = conv(channels, kernel, stride=stride, padding=kernel // 2, use_bias=False)
    return {f"conv{name}": convolution, f"norm{name}": batch_norm(), f"relu{name}": relu6()}


def _scaled(channels: int, width: float) -> int:
    """The nearest multiple of 8, but never more than a tenth below."""
    exact = channels * width
    rounded = max(MULTIPLE, int(exact + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < 0.9 * exact else rounded
