"""Residual networks: ResNet for ImageNet and CIFAR, and wide ResNet."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations import relu
from fnn.nn.combinators.chain import chain, residual
from fnn.nn.convolution.conv import conv
from fnn.nn.core.stateless import stateless
from fnn.nn.dropout import dropout
from fnn.nn.initializers.fixed import zeros
from fnn.nn.linear import dense
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import avg_pool, global_avg_pool, max_pool
from fnn.types import Layer, Number, Shape
from fnn.values import maker

Body = Callable[[int, int], Layer]  # of channels and stride
Shortcut = Callable[[int, int, int], Layer]  # of inputs, channels and stride

# Blocks in each stage by depth: table 1 of He et al. 2016.
STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_EXPANSION = 4  # output channels of a bottleneck by those of its middle
WIDE_STEM_CHANNELS = 16
VARIANTS = ("B", "D")


@maker
def resnet(
    depth: int,
    classes: int = 1000,
    *,
    width: int = 64,
    variant: str = "B",
) -> Layer:
    """ResNet for images of about 224 x 224 [He et al. 2016, arXiv:1512.03385].

    x (batch, height, width, channels) -> logits (batch, classes). The four stages have width, 2, 4
    and 8 times width channels. From depth 50 on the blocks are bottlenecks with the stride in the
    3 x 3 convolution, as in torchvision. Each block begins as its shortcut, since its last scale
    begins at 0 [Goyal et al. 2017, arXiv:1706.02677]. lab.load_weights reads weights of torchvision
    and timm.

    ResNet-D keeps information that strides would skip: its stem has three convolutions of 3 x 3, of
    half, half and all of the width, and its shortcuts average 2 x 2 pixels before a projection
    without a stride [He et al. 2019, arXiv:1812.01187, section 4]. In timm it is resnet50d and
    others.

    Args:
        depth: Number of convolutions and dense layers: 18, 34, 50, 101 or 152.
        classes: Number of classes.
        width: Channels of the first stage.
        variant: "B", the ResNet of torchvision, or "D". For "D" the width is even.

    Raises:
        ConfigError: An option is out of range.
    """
    checks.choice("resnet variant", variant, VARIANTS)
    if checks.whole("resnet depth", depth) not in STAGES:
        raise ConfigError(
            "resnet depth",
            f"one of {list(STAGES)}",
            depth,
            "take nn.resnet_cifar for small images",
        )
    checks.whole("resnet width", width)
    checks.whole("resnet classes", classes)
    # From 50 layers on, 1 x 1 convolutions around each 3 x 3 one save computation.
    is_basic = depth < 50
    body = _basic_body if is_basic else _bottleneck_body
    expansion = 1 if is_basic else BOTTLENECK_EXPANSION
    # The stem reduces 224 x 224 to 56 x 56.
    if variant == "D":
        stem = _deep_stem(width)
        shortcut = _averaged_shortcut
    else:
        stem = _conv_norm(width, 7, 2)
        shortcut = _projection_shortcut
    stem["relu"] = relu()
    stem["pool"] = max_pool(3, stride=2, padding=1)
    stages = _stages(body, shortcut, STAGES[depth], width, expansion)
    return _classifier(stem, stages, classes)


@maker
def resnet_cifar(
    depth: int = 20,
    classes: int = 10,
    *,
    width: int = 16,
) -> Layer:
    """ResNet for images of about 32 x 32 [He et al. 2016, arXiv:1512.03385, section 4.2].

    x (batch, height, width, channels) -> logits (batch, classes). The three stages have n blocks
    each, of width, 2 and 4 times width channels. The shortcuts have no parameters: they take every
    second pixel, and zeros for the new channels.

    Args:
        depth: Number of convolutions and dense layers, 6 n + 2: 20, 32, 44, 56 or 110 in the paper.
        classes: Number of classes.
        width: Channels of the first stage.

    Raises:
        ConfigError: An option is out of range.
    """
    if checks.whole("resnet_cifar depth", depth, 8) % 6 != 2:
        raise ConfigError(
            "resnet_cifar depth",
            "6 n + 2",
            depth,
            "choose 20, 32, 44, 56 or 110",
        )
    checks.whole("resnet_cifar width", width)
    checks.whole("resnet_cifar classes", classes)
    # Two convolutions in each block of three stages, the stem and the head.
    blocks = (depth - 2) // 6
    stem = _conv_norm(width, 3, 1)
    stem["relu"] = relu()
    stages = _stages(_basic_body, _padding_shortcut, (blocks,) * 3, width, 1)
    return _classifier(stem, stages, classes)


@maker
def wide_resnet(
    depth: int = 28,
    width: int = 10,
    *,
    classes: int = 10,
    drop_rate: Number | None = None,
) -> Layer:
    """Wide ResNet (WRN-depth-width) for images of about 32 x 32.

    x (batch, height, width, channels) -> logits (batch, classes). The three stages have n blocks
    each, of 16, 32 and 64 times width channels. Normalization and activation come before each
    convolution [Zagoruyko & Komodakis 2016, arXiv:1605.07146; He et al. 2016, arXiv:1603.05027].

    Args:
        depth: Number of convolutions, with those of the shortcuts: 6 n + 4.
        width: Factor of the channels.
        classes: Number of classes.
        drop_rate: Rate of dropout between the two convolutions of a block, in [0, 1); no dropout if
            None.

    Raises:
        ConfigError: An option is out of range.
    """
    if checks.whole("wide_resnet depth", depth, 10) % 6 != 4:
        raise ConfigError(
            "wide_resnet depth",
            "6 n + 4",
            depth,
            "choose 10, 16, 22, 28 or 40",
        )
    checks.whole("wide_resnet width", width)
    checks.whole("wide_resnet classes", classes)
    # Two convolutions in each block of three stages, the stem and three projections.
    count = (depth - 4) // 6
    inputs = WIDE_STEM_CHANNELS
    parts = {"stem": _conv(inputs)}
    for stage in range(3):
        channels = WIDE_STEM_CHANNELS * width * 2**stage
        stride = 1 if stage == 0 else 2
        # The first block of a stage changes the shape, except for the first stage at width 1.
        keeps_shape = stride == 1 and inputs == channels
        first = _wide_block if keeps_shape else _wide_block_projected
        blocks = {"block_0": first(channels, stride, drop_rate)}
        for index in range(1, count):
            blocks[f"block_{index}"] = _wide_block(channels, 1, drop_rate)
        parts[f"stage_{stage + 1}"] = chain(**blocks)
        inputs = channels
    return chain(
        **parts,
        # The last block ends without a norm and activation, since they come first.
        norm=batch_norm(),
        relu=relu(),
        pool=global_avg_pool(),
        head=dense(classes),
    )


def _stages(
    body: Body,
    shortcut: Shortcut,
    counts: Sequence[int],
    width: int,
    expansion: int,
) -> dict[str, Layer]:
    """Make the stages of a ResNet, each with half the size and twice the channels of the last.

    Args:
        body: The body of a block.
        shortcut: The shortcut of a block that changes the shape.
        counts: Number of blocks in each stage.
        width: Channels of the first stage and of the stem.
        expansion: Output channels of a block by the channels of its body.
    """
    inputs = width
    stages = {}
    for stage, count in enumerate(counts):
        channels = width * 2**stage
        outputs = expansion * channels
        stride = 1 if stage == 0 else 2
        # A shortcut with params only where the shape changes.
        keeps_shape = stride == 1 and inputs == outputs
        first_shortcut = None if keeps_shape else shortcut(inputs, outputs, stride)
        blocks = {"block_0": _block(body(channels, stride), first_shortcut)}
        for index in range(1, count):
            blocks[f"block_{index}"] = _block(body(channels, 1), None)
        stages[f"stage_{stage + 1}"] = chain(**blocks)
        inputs = outputs
    return stages


def _classifier(stem: dict[str, Layer], stages: dict[str, Layer], classes: int) -> Layer:
    return chain(
        stem=chain(**stem),
        **stages,
        pool=global_avg_pool(),
        head=dense(classes),
    )


def _block(body: Layer, shortcut: Layer | None) -> Layer:
    # The activation comes after the sum.
    return chain(sum=residual(body, shortcut), relu=relu())


def _basic_body(channels: int, stride: int) -> Layer:
    return chain(
        **_conv_norm(channels, 3, stride, "_1"),
        relu_1=relu(),
        **_conv_norm(channels, 3, 1, "_2", zero_scale=True),
    )


def _bottleneck_body(channels: int, stride: int) -> Layer:
    outputs = BOTTLENECK_EXPANSION * channels
    return chain(
        **_conv_norm(channels, 1, 1, "_1"),
        relu_1=relu(),
        **_conv_norm(channels, 3, stride, "_2"),
        relu_2=relu(),
        **_conv_norm(outputs, 1, 1, "_3", zero_scale=True),
    )


def _projection_shortcut(inputs: int, channels: int, stride: int) -> Layer:
    return chain(**_conv_norm(channels, 1, stride))


def _deep_stem(width: int) -> dict[str, Layer]:
    if width % 2:
        raise ConfigError("resnet width", "an even number for the variant D", width, "choose 64")
    return {
        **_conv_norm(width // 2, 3, 2, "_1"),
        "relu_1": relu(),
        **_conv_norm(width // 2, 3, 1, "_2"),
        "relu_2": relu(),
        **_conv_norm(width, 3, 1, "_3"),
    }


def _averaged_shortcut(inputs: int, channels: int, stride: int) -> Layer:
    projection = _conv_norm(channels, 1, 1)
    if stride == 1:
        return chain(**projection)
    # An odd image has a last row and column of windows that are cut off.
    pool = avg_pool(2, stride=stride, ceil_mode=True)
    return chain(pool=pool, **projection)


def _padding_shortcut(inputs: int, channels: int, stride: int) -> Layer:
    def out_shape(shape: Shape) -> Shape:
        return (*shape[:-1], channels)

    def pad(x: jax.Array) -> jax.Array:
        # (batch, height, width, inputs) -> (batch, height, width, channels)
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - inputs)))

    # A max pool with a window of one pixel only takes every stride-th pixel.
    subsample = max_pool(1, stride=stride)
    return chain(subsample=subsample, pad=stateless("pad", out_shape, pad))


def _conv_norm(
    channels: int,
    kernel: int,
    stride: int,
    suffix: str = "",
    *,
    zero_scale: bool = False,
) -> dict[str, Layer]:
    # A last scale of 0 lets a block begin as its shortcut.
    scale_init = zeros() if zero_scale else None
    return {
        f"conv{suffix}": _conv(channels, kernel, stride),
        f"norm{suffix}": batch_norm(scale_init=scale_init),
    }


def _conv(channels: int, kernel: int = 3, stride: int = 1) -> Layer:
    # Symmetric padding, as in torch: "SAME" would pad a strided image on one side only.
    return conv(channels, kernel, stride=stride, padding=kernel // 2, use_bias=False)


def _wide_block(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    """Make a block that keeps the shape; the shortcut is the identity."""
    body = _wide_body(channels, stride, drop_rate)
    # The shortcut goes past the norm: x passes through unchanged.
    return chain(sum=residual(chain(norm=batch_norm(), relu=relu(), body=body)))


def _wide_block_projected(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    """Make a block that changes the shape; body and shortcut both get the normalized input."""
    body = _wide_body(channels, stride, drop_rate)
    shortcut = _conv(channels, 1, stride)
    return chain(norm=batch_norm(), relu=relu(), sum=residual(body, shortcut))


def _wide_body(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    layers = {
        "conv_1": _conv(channels, 3, stride),
        "norm": batch_norm(),
        "relu": relu(),
    }
    if drop_rate is not None:
        layers["dropout"] = dropout(drop_rate)
    return chain(**layers, conv_2=_conv(channels))
