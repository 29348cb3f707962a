"""The convolution layer."""

from collections.abc import Sequence

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError
from fnn.nn.affine import add_bias, expect_affine, init_affine
from fnn.nn.geometry import Padding, check_padding, pad_pairs, window_count
from fnn.nn.initializers.scaled import he_normal
from fnn.nn.kernels.convolution import convolve
from fnn.types import Initializer, Layer, Params, Shape, State


def conv(
    channels: int,
    kernel: int | Sequence[int] = 3,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
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
    checks.whole("conv channels", channels)
    window, strides = checks.pair("conv kernel", kernel), checks.pair("conv stride", stride)
    dilations = checks.pair("conv dilation", dilation)
    reach = tuple((w - 1) * d + 1 for w, d in zip(window, dilations, strict=True))
    padding = check_padding("conv", padding)
    if channels % checks.whole("conv groups", groups):
        raise ConfigError("conv channels", f"a multiple of groups={groups}", channels, "round the channels up")

    def expect_image(shape: Shape) -> None:
        inputs = checks.image_shape("conv", shape)[-1]
        if in_channels not in (None, inputs):
            raise ShapeError(
                "conv", f"(height, width, {in_channels}), channels last (NHWC)", shape, "move the channel axis last"
            )
        if inputs % groups:
            raise ShapeError("conv", f"input channels in groups={groups}", shape, "choose groups that divide them")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("conv key", key)
        expect_image(shape)
        size = window_count("conv", shape[:2], reach, strides, padding)
        kernel_shape = (*window, shape[-1] // groups, channels)
        return init_affine("conv", key, kernel_shape, kernel_init or he_normal(), use_bias), {}, (*size, channels)

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        checks.image_batch("conv x", x)
        expect_image(x.shape[1:])
        expect_affine("conv", params, x, (*window, x.shape[-1] // groups, channels), use_bias)
        window_count("conv", x.shape[1:3], reach, strides, padding)
        pairs = pad_pairs(padding, x.shape[1:3], reach, strides)
        y = convolve(x, params["kernel"], stride=strides, padding=pairs, dilation=dilations, groups=groups)
        return add_bias(y, params, use_bias), state

    return Layer(init, apply)
