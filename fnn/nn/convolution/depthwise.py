"""Convolutions that keep the channels apart."""

from typing import Any

from fnn import checks
from fnn.nn.convolution.conv import conv, convolution
from fnn.nn.core.composite import Go, Parts, composite
from fnn.nn.core.windows import Padding, Sizes, windows
from fnn.types import Initializer, Layer, Shape
from fnn.values import maker


@maker
def depthwise_conv(
    kernel: Sizes = 3,
    *,
    multiplier: int = 1,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """A convolution of each channel by its own kernels, y[n,p,o] = Σ x[n, s p + d t, ⌊o / m⌋] W[t,0,o] + b[o].

    x (batch, height, width, inputs) -> y (batch, height', width', m inputs) with m the multiplier; `kernel` W
    (height, width, 1, m inputs). It is `conv` with a group a channel. ConfigError for an option out of range.
    """
    sliding = windows("depthwise_conv", 2, kernel, stride, padding, dilation)
    checks.whole("depthwise_conv multiplier", multiplier)

    def width(shape: Shape) -> tuple[int, int]:
        return shape[-1] * multiplier, max(shape[-1], 1)

    return convolution(sliding, width, use_bias, kernel_init)


@maker
def separable_conv(
    channels: int,
    kernel: Sizes = 3,
    *,
    multiplier: int = 1,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """A convolution in space and then one across channels, depthwise_conv(kernel) and conv(channels, 1).

    x (batch, height, width, inputs) -> y (batch, height', width', channels). The params are dicts of `depthwise`, which
    has no bias, and `pointwise`. For one kernel of k x k it takes 1 / channels + 1 / k² of the multiplications of a
    full convolution. ConfigError for an option out of range [Chollet 2017, arXiv:1610.02357].
    """
    depthwise = depthwise_conv(
        kernel,
        multiplier=multiplier,
        stride=stride,
        padding=padding,
        dilation=dilation,
        use_bias=False,
        kernel_init=kernel_init,
    )
    pointwise = conv(channels, 1, use_bias=use_bias, kernel_init=kernel_init)
    return _separable({"depthwise": depthwise, "pointwise": pointwise})


def _separable(parts: Parts) -> Layer:
    def through(go: Go, x: Any) -> Any:
        return go("pointwise", go("depthwise", x))

    return composite("separable_conv", parts, through, through)
