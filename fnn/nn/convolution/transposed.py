"""Transposed convolution layers."""

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.convolution.conv import Width, grouped
from fnn.nn.core.affine import add_bias, expect_affine, init_affine
from fnn.nn.core.windows import Padding, Pairs, Sizes, Windows, pad_pairs, windows
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
    """Each pixel lays down a kernel, y[n, s i + d k - low, s j + d l - low, o] = Σ x[n,i,j,c] W[k,l,c,o] + b[o].

    x (batch, height, width, inputs) -> y (batch, height', width', channels), the gradient of `conv` by its image;
    `kernel` W (height, width, inputs / groups, channels), not flipped, he_normal; `bias` b (channels,), zeros. From n
    pixels "SAME" makes s n and any other padding s (n - 1) + d (kernel - 1) + 1 - low - high + output_padding, as in
    torch. ConfigError for an option out of range; ShapeError, DTypeError or TreeMismatchError for x or params that do
    not fit [Dumoulin & Visin 2016, arXiv:1603.07285].
    """
    laid = windows("conv_transpose", 2, kernel, stride, padding, dilation)
    return _transposed(laid, output_padding, grouped(laid, channels, groups), use_bias, kernel_init)


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
    """Each place of a signal lays down a kernel, y[n, s i + d k - low, o] = Σ x[n,i,c] W[k,c,o] + b[o].

    x (batch, length, inputs) -> y (batch, length', channels); `kernel` W (length, inputs / groups, channels). Else as
    `conv_transpose`.
    """
    laid = windows("conv_transpose_1d", 1, kernel, stride, padding, dilation)
    return _transposed(laid, output_padding, grouped(laid, channels, groups), use_bias, kernel_init)


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
    """Each place of a volume lays down a kernel, y[n, s p + d t - low, o] = Σ x[n,p,c] W[t,c,o] + b[o], of three axes.

    x (batch, depth, height, width, inputs) -> y (batch, depth', height', width', channels); `kernel` W (depth, height,
    width, inputs / groups, channels). Else as `conv_transpose`.
    """
    laid = windows("conv_transpose_3d", 3, kernel, stride, padding, dilation)
    return _transposed(laid, output_padding, grouped(laid, channels, groups), use_bias, kernel_init)


def _transposed(
    laid: Windows,
    output_padding: Sizes,
    width: Width,
    use_bias: bool,
    kernel_init: Initializer | None,
) -> Layer:
    where, extra = laid.where, _expect_extra(laid, output_padding)
    checks.flag(f"{where} use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        channels, groups = width(checks.image_shape(where, shape, laid.axes))
        size, _ = _spread(laid, extra, shape[:-1])
        kernel_shape = (*laid.size, shape[-1] // groups, channels)
        return (
            init_affine(where, key, kernel_shape, kernel_init or he_normal(), use_bias),
            {},
            (*size, channels),
        )

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.image_batch(f"{where} x", x, laid.axes)
        channels, groups = width(x.shape[1:])
        expect_affine(where, params, x, (*laid.size, x.shape[-1] // groups, channels), use_bias)
        size, pads = _spread(laid, extra, x.shape[1:-1])
        stride, dilation, kernel = laid.stride, laid.dilation, params["kernel"]
        y = convolve_transpose(
            x, kernel, stride=stride, padding=pads, dilation=dilation, groups=groups, image=size
        )
        return add_bias(y, params, use_bias), state

    return Layer(init, apply, where)


def _expect_extra(laid: Windows, output_padding: Sizes) -> Shape:
    """The output padding, if it tells apart the sizes that `conv` would bring to the same one."""
    where = f"{laid.where} output_padding"
    extra = checks.each(where, output_padding, laid.axes, 0)
    if any(e >= s for e, s in zip(extra, laid.stride, strict=True)):
        raise ConfigError(
            where, f"less than the stride {laid.stride}", extra, "a larger stride makes y larger"
        )
    if any(extra) and laid.padding == "SAME":
        raise ConfigError(where, '0 with padding="SAME"', extra, "give the padding as numbers")
    return extra


def _spread(laid: Windows, extra: Shape, image: Shape) -> tuple[Shape, Pairs]:
    """The size of y, and its padding as an image that `conv` would bring to the size of x."""
    if 0 in image:
        raise ShapeError(laid.where, "an image of at least one pixel", image, "give it pixels")
    if laid.padding == "SAME":
        size = tuple(s * n for s, n in zip(laid.stride, image, strict=True))
        return size, pad_pairs("SAME", size, laid.reach, laid.stride)
    pads = laid.pads(image)
    axes = zip(image, laid.stride, laid.reach, pads, extra, strict=True)
    size = tuple((n - 1) * s + reach - sum(pad) + e for n, s, reach, pad, e in axes)
    if min(size) < 1:
        raise ShapeError(
            laid.where, "something left after the padding is cut off", size, "use less padding"
        )
    return size, pads
