"""Convolution layers."""

from collections.abc import Callable

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.affine import add_bias, expect_affine, init_affine
from fnn.nn.core.windows import Padding, Sizes, Windows, windows
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
    """A convolution of images, y[n,i,j,o] = Σ x[n, s i + d k, s j + d l, c] W[k,l,c,o] + b[o], channels last.

    x (batch, height, width, inputs) -> y (batch, height', width', channels); `kernel` W (height, width,
    inputs / groups, channels), he_normal; `bias` b (channels,), zeros. `in_channels`, if given, is checked against x.
    ConfigError for an option out of range; ShapeError, DTypeError or TreeMismatchError for x or params that do not fit.
    """
    sliding = windows("conv", 2, kernel, stride, padding, dilation)
    return convolution(
        sliding, grouped(sliding, channels, groups, in_channels), use_bias, kernel_init
    )


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
    """A convolution of signals, y[n,i,o] = Σ x[n, s i + d k, c] W[k,c,o] + b[o], channels last.

    x (batch, length, inputs) -> y (batch, length', channels); `kernel` W (length, inputs / groups, channels). It sees
    no later x if padding=[((kernel - 1) * dilation, 0)]. Else as `conv`.
    """
    sliding = windows("conv_1d", 1, kernel, stride, padding, dilation)
    return convolution(
        sliding, grouped(sliding, channels, groups, in_channels), use_bias, kernel_init
    )


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
    """A convolution of volumes, y[n,p,o] = Σ x[n, s p + d t, c] W[t,c,o] + b[o] for p, t of three axes, channels last.

    x (batch, depth, height, width, inputs) -> y (batch, depth', height', width', channels); `kernel` W (depth, height,
    width, inputs / groups, channels). Else as `conv`.
    """
    sliding = windows("conv_3d", 3, kernel, stride, padding, dilation)
    return convolution(
        sliding, grouped(sliding, channels, groups, in_channels), use_bias, kernel_init
    )


Width = Callable[[Shape], tuple[int, int]]


def grouped(sliding: Windows, channels: int, groups: int, in_channels: int | None = None) -> Width:
    """What a layer of so many channels asks of the shape of its x: (shape) -> (channels, groups)."""
    where, places = sliding.where, checks.PLACES[sliding.axes]
    checks.whole(f"{where} channels", channels)
    if channels % checks.whole(f"{where} groups", groups):
        raise ConfigError(
            f"{where} channels", f"a multiple of groups={groups}", channels, "round the channels up"
        )
    if in_channels is not None:
        checks.whole(f"{where} in_channels", in_channels)

    def width(shape: Shape) -> tuple[int, int]:
        if in_channels not in (None, shape[-1]):
            expected = f"({', '.join((*places, str(in_channels)))}), channels last ({checks.layout(sliding.axes)})"
            raise ShapeError(where, expected, shape, "move the channel axis last")
        if shape[-1] % groups:
            raise ShapeError(
                where, f"input channels in groups={groups}", shape, "choose groups that divide them"
            )
        return channels, groups

    return width


def convolution(
    sliding: Windows, width: Width, use_bias: bool, kernel_init: Initializer | None
) -> Layer:
    """The layer of windows that slide over x, as wide as x demands."""
    where = sliding.where
    checks.flag(f"{where} use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        channels, groups = width(checks.image_shape(where, shape, sliding.axes))
        size = sliding.outputs(shape[:-1])
        kernel_shape = (*sliding.size, shape[-1] // groups, channels)
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
        checks.image_batch(f"{where} x", x, sliding.axes)
        channels, groups = width(x.shape[1:])
        expect_affine(where, params, x, (*sliding.size, x.shape[-1] // groups, channels), use_bias)
        image = x.shape[1:-1]
        sliding.outputs(image)
        stride, pads, dilation = sliding.stride, sliding.pads(image), sliding.dilation
        y = convolve(
            x, params["kernel"], stride=stride, padding=pads, dilation=dilation, groups=groups
        )
        return add_bias(y, params, use_bias), state

    return Layer(init, apply, where)
