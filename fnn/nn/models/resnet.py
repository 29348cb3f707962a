"""Residual networks: ResNet for ImageNet and CIFAR, and wide ResNet."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations import relu
from fnn.nn.combinators.chain import chain, residual
from fnn.nn.convolution.conv import conv
from fnn.nn.core.stateless import plain
from fnn.nn.dropout import dropout
from fnn.nn.initializers.fixed import zeros
from fnn.nn.linear import dense
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import global_avg_pool, max_pool
from fnn.types import Layer, Number
from fnn.values import maker

Body = Callable[[int, int], Layer]
Shortcut = Callable[[int, int, int], Layer]

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
WIDER = 4  # a bottleneck ends so many times wider than its middle


@maker
def resnet(depth: int, classes: int = 1000, *, width: int = 64) -> Layer:
    """The residual network of depth 18, 34, 50, 101 or 152 for images of some 224 x 224.

    x (batch, height, width, channels) -> logits (batch, classes); four stages of width, 2, 4 and 8 times width
    channels. From depth 50 on blocks are bottlenecks, whose 3 x 3 convolution has the stride, as in torchvision. Each
    block begins as its shortcut, since its last scale begins at 0 [Goyal et al. 2017, arXiv:1706.02677].
    lab.load_weights reads weights of torchvision and timm into it. ConfigError for another depth [He et al. 2016,
    arXiv:1512.03385].
    """
    if checks.whole("resnet depth", depth) not in STAGES:
        raise ConfigError(
            "resnet depth", f"one of {list(STAGES)}", depth, "take nn.resnet_cifar for small images"
        )
    checks.whole("resnet width", width)
    checks.whole("resnet classes", classes)
    body, wider = (_basic, 1) if depth < 50 else (_bottleneck, WIDER)
    stem = _convolved(width, 7, 2) | {"relu": relu(), "pool": max_pool(3, stride=2, padding=1)}
    return _network(stem, body, _projected, STAGES[depth], width, wider, classes)


@maker
def resnet_cifar(depth: int = 20, classes: int = 10, *, width: int = 16) -> Layer:
    """The residual network of depth 6 n + 2 for images of some 32 x 32: 20, 32, 44, 56, 110.

    x (batch, height, width, channels) -> logits (batch, classes); three stages of n blocks, of width, 2 and 4 times
    width channels. The shortcuts hold no parameters: they take every second pixel, and zeros for the new channels.
    ConfigError for another depth [He et al. 2016, arXiv:1512.03385, section 4.2].
    """
    if checks.whole("resnet_cifar depth", depth, 8) % 6 != 2:
        raise ConfigError("resnet_cifar depth", "6 n + 2", depth, "choose 20, 32, 44, 56 or 110")
    checks.whole("resnet_cifar width", width)
    checks.whole("resnet_cifar classes", classes)
    blocks = (depth - 2) // 6
    return _network(
        _convolved(width, 3, 1) | {"relu": relu()},
        _basic,
        _padded,
        (blocks,) * 3,
        width,
        1,
        classes,
    )


def _network(
    stem: dict[str, Layer],
    body: Body,
    shortcut: Shortcut,
    stages: Sequence[int],
    width: int,
    wider: int,
    classes: int,
) -> Layer:
    parts, inputs = {"stem": chain(**stem)}, width
    for stage, blocks in enumerate(stages):
        outputs, stride = wider * width * 2**stage, 1 if stage == 0 else 2
        changed = shortcut(inputs, outputs, stride) if (inputs, stride) != (outputs, 1) else None
        first = _block(body(width * 2**stage, stride), changed)
        others = [_block(body(width * 2**stage, 1), None) for _ in range(1, blocks)]
        parts[f"stage_{stage + 1}"] = chain(
            **{f"block_{i}": block for i, block in enumerate([first, *others])}
        )
        inputs = outputs
    return chain(**parts, pool=global_avg_pool(), head=dense(classes))


def _block(body: Layer, shortcut: Layer | None) -> Layer:
    return chain(sum=residual(body, shortcut), relu=relu())


def _basic(channels: int, stride: int) -> Layer:
    first, last = _convolved(channels, 3, stride, "_1"), _convolved(channels, 3, 1, "_2", last=True)
    return chain(**first, relu_1=relu(), **last)


def _bottleneck(channels: int, stride: int) -> Layer:
    first, middle = _convolved(channels, 1, 1, "_1"), _convolved(channels, 3, stride, "_2")
    last = _convolved(WIDER * channels, 1, 1, "_3", last=True)
    return chain(**first, relu_1=relu(), **middle, relu_2=relu(), **last)


def _projected(inputs: int, channels: int, stride: int) -> Layer:
    return chain(**_convolved(channels, 1, stride))


def _padded(inputs: int, channels: int, stride: int) -> Layer:
    def pad(x):
        return jnp.pad(x, ((0, 0),) * 3 + ((0, channels - inputs),))

    return chain(
        subsample=max_pool(1, stride=stride),
        pad=plain("pad", lambda shape: (*shape[:-1], channels), pad),
    )


def _convolved(
    channels: int, kernel: int, stride: int, name: str = "", *, last: bool = False
) -> dict[str, Layer]:
    # Padded alike on both sides, as in torch: "SAME" would put the odd pixel of a stride after the image.
    convolution = conv(channels, kernel, stride=stride, padding=kernel // 2, use_bias=False)
    return {
        f"conv{name}": convolution,
        f"norm{name}": batch_norm(scale_init=zeros() if last else None),
    }


STEM = 16  # channels


@maker
def wide_resnet(
    depth: int = 28, width: int = 10, *, classes: int = 10, drop_rate: Number | None = None
) -> Layer:
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
        stages = [
            first(channels, stride, drop_rate),
            *(_equal(channels, 1, drop_rate) for _ in range(1, blocks)),
        ]
        parts[f"stage_{stage + 1}"] = chain(
            **{f"block_{place}": block for place, block in enumerate(stages)}
        )
        inputs = channels
    return chain(
        **parts, norm=batch_norm(), relu=relu(), pool=global_avg_pool(), head=dense(classes)
    )


def _equal(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    return chain(
        sum=residual(chain(norm=batch_norm(), relu=relu(), body=_body(channels, stride, drop_rate)))
    )


def _changed(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    """A block that ends in another shape; what is normalized goes both ways."""
    ways = residual(_body(channels, stride, drop_rate), _conv(channels, 1, stride))
    return chain(norm=batch_norm(), relu=relu(), sum=ways)


def _body(channels: int, stride: int, drop_rate: Number | None) -> Layer:
    drop = {} if drop_rate is None else {"dropout": dropout(drop_rate)}
    return chain(
        conv_1=_conv(channels, 3, stride),
        norm=batch_norm(),
        relu=relu(),
        **drop,
        conv_2=_conv(channels),
    )


def _conv(channels: int, kernel: int = 3, stride: int = 1) -> Layer:
    return conv(channels, kernel, stride=stride, padding=kernel // 2, use_bias=False)
