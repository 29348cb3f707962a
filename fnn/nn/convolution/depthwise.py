"""Depthwise and depthwise separable convolution layers."""

from typing import Any

from fnn import checks
from fnn.nn.convolution.conv import conv, convolution
from fnn.nn.core.composite import Go, Parts, composite
from fnn.nn.core.windows import Padding, Sizes, make_windows
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
    """Depthwise convolution: each channel of an image with `multiplier` kernels of its own.

    y[n,p,o] = Σ x[n, s p + d t, ⌊o / m⌋] W[t,0,o] + b[o], with stride s, dilation d, multiplier m.
    x (batch, height, width, inputs) -> y (batch, height', width', m inputs). The params are
    `kernel` W (height, width, 1, m inputs) and `bias` b (m inputs,), zeros at first. It equals
    `conv` with one group a channel.

    Args:
        kernel: Size of the kernels in pixels: one int, or (height, width).
        multiplier: Output channels for each input channel.
        stride: Pixels from one window to the next: one int, or (height, width).
        padding: "SAME", "VALID", an int, or ((top, bottom), (left, right)), as in `conv`.
        dilation: Pixels from one tap of a kernel to the next: one int, or (height, width).
        use_bias: Whether to add b.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv`.
    """
    windows = make_windows("depthwise_conv", 2, kernel, stride, padding, dilation)
    checks.whole("depthwise_conv multiplier", multiplier)

    def width(shape: Shape) -> tuple[int, int]:
        inputs = shape[-1]
        # At least one group, so that x without channels reaches the check of the kernel's shape.
        return inputs * multiplier, max(inputs, 1)

    return convolution(windows, width, use_bias, kernel_init)


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
    """Depthwise separable convolution: depthwise_conv(kernel), then conv(channels, 1).

    x (batch, height, width, inputs) -> y (batch, height', width', channels). The params are dicts
    of `depthwise`, which has no bias, and `pointwise`. With kernels of k x k it needs
    1 / channels + 1 / k² of the multiplications of `conv` [Chollet 2017, arXiv:1610.02357].

    Args:
        channels: Output channels.
        kernel: Size of the depthwise kernels in pixels: one int, or (height, width).
        multiplier: Channels after the depthwise convolution for each input channel.
        stride: Pixels from one depthwise window to the next: one int, or (height, width).
        padding: Padding of the depthwise convolution, as in `conv`.
        dilation: Pixels from one depthwise tap to the next: one int, or (height, width).
        use_bias: Whether the pointwise convolution adds a bias.
        kernel_init: Initializer of both kernels; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv`.
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
    def forward(go: Go, x: Any) -> Any:
        return go("pointwise", go("depthwise", x))

    # Shapes and arrays take the same path.
    return composite("separable_conv", parts, forward, forward)
