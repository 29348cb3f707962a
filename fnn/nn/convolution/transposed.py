"""Transposed convolution layers."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.convolution.conv import Width, grouped_width
from fnn.nn.core.affine import add_bias, expect_affine, for_groups, init_affine
from fnn.nn.core.windows import Padding, Pairs, Sizes, Windows, make_windows, pad_pairs
from fnn.nn.initializers.random import he_normal
from fnn.nn.kernels.convolution import convolve_transpose
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def conv_transpose(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Transposed convolution of images: each pixel adds a scaled kernel to the output.

    y[n, s i + d k - low, s j + d l - low, o] = Σ x[n,i,j,c] W[k,l,c,o] + b[o], with stride s and
    dilation d: the gradient of `conv` by its image [Dumoulin & Visin 2016, arXiv:1603.07285].
    x (batch, height, width, inputs) -> y (batch, height', width', channels). The params are
    `kernel` W (height, width, inputs / groups, channels), not flipped, and `bias` b (channels,),
    zeros at first. From n pixels "SAME" makes s n. Any other padding makes
    s (n - 1) + d (kernel - 1) + 1 - low - high + output_padding, as in torch.

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Size of the kernel in pixels: one int, or (height, width).
        stride: Factor of upsampling: one int, or (height, width).
        padding: Pixels cut from the output: "SAME", "VALID" for none, an int for every side, or
            ((top, bottom), (left, right)).
        output_padding: Pixels added at the high end of each axis, less than the stride or the
            dilation, as in torch. Below the stride it selects one of the image sizes that `conv`
            would map to the size of x. 0 with "SAME".
        dilation: Pixels from one tap of the kernel to the next: one int, or (height, width).
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank or other channels, or the padding leaves no output.
        DTypeError: x is not floating-point.
        TreeMismatchError: The params are of another layer.
    """
    windows = make_windows("conv_transpose", 2, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups)
    return _transposed(windows, output_padding, width, use_bias, kernel_init)


@maker
def conv_transpose_1d(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Transposed convolution of signals, y[n, s i + d k - low, o] = Σ x[n,i,c] W[k,c,o] + b[o].

    x (batch, length, inputs) -> y (batch, length', channels), with the lengths of `conv_transpose`.
    The params are `kernel` W (length, inputs / groups, channels) and `bias` b (channels,).

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Length of the kernel.
        stride: Factor of upsampling.
        padding: Steps cut from the output: "SAME", "VALID" for none, an int for both ends, or one
            pair [(low, high)].
        output_padding: Steps added at the end, less than the stride or the dilation; 0 with "SAME".
        dilation: Steps from one tap of the kernel to the next.
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv_transpose`.
    """
    windows = make_windows("conv_transpose_1d", 1, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups)
    return _transposed(windows, output_padding, width, use_bias, kernel_init)


@maker
def conv_transpose_3d(
    channels: int,
    kernel: Sizes = 3,
    *,
    stride: Sizes = 1,
    padding: Padding = "SAME",
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Transposed convolution of volumes, y[n, s p + d t - low, o] = Σ x[n,p,c] W[t,c,o] + b[o].

    The positions p and the taps t have three axes. x (batch, depth, height, width, inputs) ->
    y (batch, depth', height', width', channels), with the sizes of `conv_transpose`. The params are
    `kernel` W (depth, height, width, inputs / groups, channels) and `bias` b (channels,).

    Args:
        channels: Output channels, a multiple of `groups`.
        kernel: Size of the kernel: one int, or (depth, height, width).
        stride: Factor of upsampling: one int, or one an axis.
        padding: Voxels cut from the output: "SAME", "VALID" for none, an int for every side, or a
            (low, high) pair per axis.
        output_padding: Voxels added at the high end of each axis, less than the stride or the
            dilation; 0 with "SAME".
        dilation: Voxels from one tap of the kernel to the next: one int, or one an axis.
        groups: Number of equal groups of channels; output channels see the inputs of their group.
        use_bias: Whether to add b.
        kernel_init: Initializer of the kernel; he_normal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, TreeMismatchError: As `conv_transpose`.
    """
    windows = make_windows("conv_transpose_3d", 3, kernel, stride, padding, dilation)
    width = grouped_width(windows, channels, groups)
    return _transposed(windows, output_padding, width, use_bias, kernel_init)


def _transposed(
    windows: Windows,
    output_padding: Sizes,
    width: Width,
    use_bias: bool,
    kernel_init: Initializer | None,
) -> Layer:
    where = windows.where
    extra = _expect_output_padding(windows, output_padding)
    checks.flag(f"{where} use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        checks.image_shape(where, shape, windows.axes)
        channels, groups = width(shape)
        image = shape[:-1]
        size, _ = _output_size(windows, extra, image)
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
        size, pads = _output_size(windows, extra, image)
        # The part of y that the taps can reach; beyond it y is the bias alone.
        reached, pads = _reached_size(windows, image, size, pads)
        # (batch, *reached, channels)
        y = convolve_transpose(
            x,
            params["kernel"],
            stride=windows.stride,
            padding=pads,
            dilation=windows.dilation,
            groups=groups,
            image=reached,
        )
        if reached != size:
            ends = [(0, whole - part) for whole, part in zip(size, reached, strict=True)]
            y = jnp.pad(y, ((0, 0), *ends, (0, 0)))
        return add_bias(y, params, use_bias), state

    return Layer(init, apply, where)


def _expect_output_padding(windows: Windows, output_padding: Sizes) -> Shape:
    """Return the output padding of each axis; raise ConfigError unless it selects a valid size."""
    where = f"{windows.where} output_padding"
    extra = checks.each(where, output_padding, windows.axes, 0)
    axes = zip(extra, windows.stride, windows.dilation, strict=True)
    if any(e >= max(stride, dilation) for e, stride, dilation in axes):
        expected = f"less than the stride {windows.stride} or the dilation {windows.dilation}"
        raise ConfigError(where, expected, extra, "a larger stride makes y larger")
    # "SAME" fixes the size of y, the stride times that of x.
    if any(extra) and windows.padding == "SAME":
        raise ConfigError(where, '0 with padding="SAME"', extra, "give the padding as numbers")
    return extra


def _output_size(
    windows: Windows,
    extra: Shape,
    image: Shape,
) -> tuple[Shape, Pairs]:
    """Return the size of y, and the padding with which `conv` maps y to the size of x."""
    if 0 in image:
        raise ShapeError(windows.where, "an image of at least one pixel", image, "give it pixels")
    if windows.padding == "SAME":
        axes = zip(windows.stride, image, strict=True)
        size = tuple(stride * n for stride, n in axes)
        # The padding depends on the size of the image of `conv`, which is y.
        return size, pad_pairs("SAME", size, windows.reach, windows.stride)
    pads = windows.pads(image)
    sizes = []
    for n, stride, reach, pad, e in zip(
        image,
        windows.stride,
        windows.reach,
        pads,
        extra,
        strict=True,
    ):
        # From the first tap of the first pixel to the last tap of the last one.
        full = (n - 1) * stride + reach
        sizes.append(full - sum(pad) + e)
    size = tuple(sizes)
    if min(size) < 1:
        expected = "something left after the padding is cut off"
        raise ShapeError(windows.where, expected, size, "use less padding")
    return size, pads


def _reached_size(
    windows: Windows,
    image: Shape,
    size: Shape,
    pads: Pairs,
) -> tuple[Shape, Pairs]:
    """Return the size of y and the padding for which `conv` maps y to the size of x.

    `conv` rounds down: sizes of y that differ by less than the stride give the same size of x. A
    larger output padding first takes from the padding at the high end, and then adds pixels that no
    tap reaches.
    """
    sizes = []
    new_pads = []
    for n, m, stride, reach, (low, high) in zip(
        image,
        size,
        windows.stride,
        windows.reach,
        pads,
        strict=True,
    ):
        full = (n - 1) * stride + reach
        if m + low + high - full < stride:
            sizes.append(m)
            new_pads.append((low, high))
        else:
            end = min(low + m, full)
            if end <= low:
                expected = f"a low padding under {full}, which the taps reach"
                raise ShapeError(windows.where, expected, low, "use less padding")
            sizes.append(end - low)
            new_pads.append((low, full - end))
    return tuple(sizes), tuple(new_pads)
