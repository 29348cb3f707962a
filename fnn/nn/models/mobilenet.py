"""MobileNetV2."""

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
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
DIVISOR = 8  # channels are multiples of it, for the hardware


@maker
def mobilenet_v2(
    classes: int = 1000,
    *,
    width: float = 1.0,
    drop_rate: Number = 0.2,
) -> Layer:
    """MobileNetV2: inverted residual blocks, with depthwise convolutions between 1 x 1 ones.

    x (batch, height, width, channels) -> logits (batch, classes)
    [Sandler et al. 2018, arXiv:1801.04381].

    Args:
        classes: Number of classes.
        width: Factor of all channels, > 0, a static number; the results are rounded to multiples of
            8, as in torchvision. The last convolution never has less than 1280 channels.
        drop_rate: Rate of dropout before the last layer, in [0, 1).

    Raises:
        ConfigError: An option is out of range, or `width` is traced.
    """
    checks.number("mobilenet_v2 width", width, "(0, inf)")
    if not checks.is_concrete(width):
        raise ConfigError(
            "mobilenet_v2 width",
            "a static number",
            "a traced one",
            "it determines the shapes of arrays",
        )
    checks.whole("mobilenet_v2 classes", classes)
    inputs = _scaled(STEM_CHANNELS, width)
    parts = {"stem": chain(**_conv_norm_relu(inputs, 3, 2))}
    for stage, (expansion, channels, count, stride) in enumerate(STAGES, 1):
        outputs = _scaled(channels, width)
        blocks = {}
        for index in range(count):
            # The first block of a stage changes the size and the channels.
            block_stride = stride if index == 0 else 1
            blocks[f"block_{index}"] = _block(inputs, outputs, expansion, block_stride)
            inputs = outputs
        parts[f"stage_{stage}"] = chain(**blocks)
    # The features of the classifier do not shrink with the width.
    last_channels = _scaled(LAST_CHANNELS, max(1.0, width))
    return chain(
        **parts,
        last=chain(**_conv_norm_relu(last_channels, 1, 1)),
        pool=global_avg_pool(),
        dropout=dropout(drop_rate),
        head=dense(classes),
    )


def _block(inputs: int, channels: int, expansion: int, stride: int) -> Layer:
    """Make an inverted residual block; its narrow output has no activation."""
    # As in the paper, an expansion of 1 has no convolution.
    expand = _conv_norm_relu(expansion * inputs, 1, 1, "_1") if expansion > 1 else {}
    body = chain(
        **expand,
        conv_2=depthwise_conv(3, stride=stride, padding=1, use_bias=False),
        norm_2=batch_norm(),
        relu_2=relu6(),
        conv_3=conv(channels, 1, use_bias=False),
        norm_3=batch_norm(),
    )
    # A shortcut only where the shape stays, as in the paper.
    if stride == 1 and inputs == channels:
        return chain(sum=residual(body))
    return chain(body=body)


def _conv_norm_relu(channels: int, kernel: int, stride: int, suffix: str = "") -> dict[str, Layer]:
    # Symmetric padding, as in torch: "SAME" would pad a strided image on one side only.
    padding = kernel // 2
    return {
        f"conv{suffix}": conv(channels, kernel, stride=stride, padding=padding, use_bias=False),
        f"norm{suffix}": batch_norm(),
        f"relu{suffix}": relu6(),
    }


def _scaled(channels: int, width: float) -> int:
    """Return the multiple of 8 nearest to channels * width, but not below 90% of it."""
    exact = channels * width
    rounded = max(DIVISOR, int(exact + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * exact else rounded
