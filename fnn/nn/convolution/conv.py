"""Convolution layers."""

from collections.abc import Callable

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.affine import add_bias, expect_affine, for_groups, init_affine
from fnn.nn.core.windows import Padding, Sizes, Windows, make_windows
from fnn.nn.initializers.random import he_normal
from fnn.nn.kernels.convolution import convolve
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def conv(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    in_channels: int | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Convolution of images, channels last.

    y[n,i,j,o] = Σ x[n, s i + d k, s j + d l, c] W[k,l,c,o] + b[o], with stride s and dilation d.
    x (batch, height, width, inputs) -> y (batch, height', width', channels). The params are
    `kernel` W (height, width, inputs / groups, channels) and `bias` b (channels,), zeros at first.

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Size of the kernel in pixels: one int, or (height, width).
        stride: Pixels from one window to the next: one int, or (height, width).
        padding: "SAME" for ⌈size / stride⌉ outputs an axis, "VALID" for none, an int for every
            side, or ((top, bottom), (left, right)).
        dilation: Pixels from one tap of the kernel to the next: one int, or (height, width).
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b; not needed before a normalization.
        in_channels: Expected channels of x, checked if given. Without it, training refuses images
            that seem to have channels first.
        kernel_init: Initializer of the kernel; he_normal if None, for the ReLU that mostly follows.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank or other channels, or is smaller than the kernel.
        DTypeError: x is not floating-point.
        TreeMismatchError: The params are of another layer.
    """
    windows = make_windows("conv", 2, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups, in_channels)
    is_declared = in_channels is not None
    return convolution(windows, width, use_bias, kernel_init, is_declared=is_declared)


@maker
def conv_1d(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    in_channels: int | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Convolution of signals, y[n,i,o] = Σ x[n, s i + d k, c] W[k,c,o] + b[o], channels last.

    x (batch, length, inputs) -> y (batch, length', channels). The params are `kernel` W
    (length, inputs / groups, channels) and `bias` b (channels,), zeros at first. It is causal, so
    that no output depends on a later x, with padding=[((kernel - 1) * dilation, 0)].

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Length of the kernel.
        stride: Steps from one window to the next.
        padding: "SAME" for ⌈length / stride⌉ outputs, "VALID" for none, an int for both ends, or
            one pair [(low, high)].
        dilation: Steps from one tap of the kernel to the next.
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b.
        in_channels: Expected channels of x, checked if given.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv`.
    """
    windows = make_windows("conv_1d", 1, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups, in_channels)
    is_declared = in_channels is not None
    return convolution(windows, width, use_bias, kernel_init, is_declared=is_declared)


@maker
def conv_3d(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    in_channels: int | None = None,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Convolution of volumes, channels last.

    y[n,p,o] = Σ x[n, s p + d t, c] W[t,c,o] + b[o], where the positions p and the taps t have three
    axes. x (batch, depth, height, width, inputs) -> y (batch, depth', height', width', channels).
    The params are `kernel` W (depth, height, width, inputs / groups, channels) and `bias` b
    (channels,), zeros at first.

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Size of the kernel: one int, or (depth, height, width).
        stride: Voxels from one window to the next: one int, or one an axis.
        padding: "SAME" for ⌈size / stride⌉ outputs an axis, "VALID" for none, an int for every
            side, or a (low, high) pair per axis.
        dilation: Voxels from one tap of the kernel to the next: one int, or one an axis.
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b.
        in_channels: Expected channels of x, checked if given.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv`.
    """
    windows = make_windows("conv_3d", 3, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups, in_channels)
    is_declared = in_channels is not None
    return convolution(windows, width, use_bias, kernel_init, is_declared=is_declared)


# (shape of an example) -> (output channels, groups); raises ShapeError for unfit channels.
Width = Callable[[Shape], tuple[int, int]]


def grouped_width(
    windows: Windows,
    channels: int,
    groups: int,
    in_channels: int | None = None,
) -> Width:
    """Check the channel options and return the function that checks the channels of x."""
    where = windows.where
    checks.whole(f"{where} channels", channels)
    checks.whole(f"{where} groups", groups)
    if channels % groups:
        expected = f"a multiple of groups={groups}"
        raise ConfigError(f"{where} channels", expected, channels, "round the channels up")
    if in_channels is not None:
        checks.whole(f"{where} in_channels", in_channels)

    def width(shape: Shape) -> tuple[int, int]:
        if in_channels not in (None, shape[-1]):
            # The layout in words, since the mistake is mostly an image with channels first.
            axes = ", ".join([*checks.SPATIAL_AXES[windows.axes], str(in_channels)])
            expected = f"({axes}), channels last ({checks.layout(windows.axes)})"
            raise ShapeError(where, expected, shape, "move the channel axis last")
        if shape[-1] % groups:
            expected = f"input channels in groups={groups}"
            raise ShapeError(where, expected, shape, "choose groups that divide them")
        return channels, groups

    return width


def convolution(
    windows: Windows,
    width: Width,
    use_bias: bool,
    kernel_init: Initializer | None,
    *,
    is_declared: bool = False,
) -> Layer:
    """Make a convolution layer.

    Args:
        windows: The windows that slide over x.
        width: Gives output channels and groups for the shape of x.
        use_bias: Whether to add a bias.
        kernel_init: Initializer of the kernel; he_normal if None.
        is_declared: Whether the user gave the number of input channels, so that a shape that seems
            to have channels first is right.
    """
    where = windows.where
    checks.flag(f"{where} use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        checks.image_shape(where, shape, windows.axes, is_declared=is_declared)
        channels, groups = width(shape)
        size = windows.outputs(shape[:-1])
        group_inputs = shape[-1] // groups
        kernel_shape = (*windows.size, group_inputs, channels)
        initializer = for_groups(kernel_init or he_normal(), groups)
        params = init_affine(where, key, kernel_shape, initializer, use_bias)
        return params, {}, (*size, channels)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.image_batch(f"{where} x", x, windows.axes)
        channels, groups = width(x.shape[1:])
        group_inputs = x.shape[-1] // groups
        kernel_shape = (*windows.size, group_inputs, channels)
        expect_affine(where, params, x, kernel_shape, use_bias)
        image = x.shape[1:-1]
        windows.outputs(image)  # raises where the kernel is larger than the image
        # (batch, *outputs, channels)
        y = convolve(
            x,
            params["kernel"],
            stride=windows.stride,
            padding=windows.pads(image),
            dilation=windows.dilation,
            groups=groups,
        )
        return add_bias(y, params, use_bias), state

    return Layer(init, apply, where)
