"""Parameters and checks shared by the layers of the form y = W x + b."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.wide_sums import along_last
from fnn.types import Initializer, KernelInitializer, Params, Shape


def init_affine(
    where: str,
    key: jax.Array,
    kernel_shape: Shape,
    kernel_init: Initializer,
    use_bias: bool,
) -> Params:
    """Draw a kernel and set its bias to zeros.

    Args:
        where: Name of the layer, for errors.
        key: Key of the initializer.
        kernel_shape: (..., inputs, outputs).
        kernel_init: Initializer of the kernel.
        use_bias: Whether there is a bias (outputs,).

    Returns:
        {"kernel": array, "bias": array}, the bias only where `use_bias`.

    Raises:
        ShapeError: The kernel would have no elements.
    """
    if 0 in kernel_shape:
        expected = "a kernel of at least one input"
        raise ShapeError(where, expected, kernel_shape, "give each example a feature")
    params = {"kernel": kernel_init(key, kernel_shape)}
    if use_bias:
        params["bias"] = jnp.zeros(kernel_shape[-1])
    return params


def for_groups(kernel_init: Initializer, groups: int) -> Initializer:
    """Return the initializer of a kernel whose outputs see the inputs of their group only."""
    if isinstance(kernel_init, KernelInitializer):
        draw = kernel_init.draw
        return lambda key, shape: draw(key, shape, groups)
    return kernel_init


def expect_affine(
    where: str,
    params: Params,
    x: jax.Array,
    kernel_shape: Shape,
    use_bias: bool,
) -> None:
    """Check that the params are a kernel of this shape and its bias.

    Args:
        where: Name of the layer, for errors.
        params: The params that the layer received.
        x: The input, which must be floating-point; its last axis has the features.
        kernel_shape: The shape that the kernel must have for this x.
        use_bias: Whether there must be a bias.

    Raises:
        DTypeError: x is not floating-point.
        ShapeError: The kernel has the right rank but another number of inputs than x.
        TreeMismatchError: The params are other arrays.
    """
    checks.floating(f"{where} x", x)
    kernel = None
    if isinstance(params, Mapping):
        kernel = params.get("kernel")
    # Missing or other params are left to the last check.
    got = () if kernel is None else np.shape(kernel)
    # A kernel of the right rank is from the right layer, so that the wrong width is that of x.
    has_right_rank = len(got) == len(kernel_shape)
    # Slices, since params may have a kernel of one axis.
    if has_right_rank and got[-2:-1] != kernel_shape[-2:-1]:
        channels = _input_channels(got[-2], kernel_shape[-2], x)
        expected = f"(..., {channels}) as in its kernel {got}"
        advice = "the last axis is the features (images are NHWC); "
        advice += "call init again for another width"
        raise ShapeError(f"{where} x", expected, x.shape, advice)
    shapes = {"kernel": kernel_shape}
    if use_bias:
        shapes["bias"] = kernel_shape[-1:]
    trees.expect_arrays(where, params, shapes)


def _input_channels(
    kernel_inputs: int,
    expected_inputs: int,
    x: jax.Array,
) -> int:
    """Channels of x that fit a kernel, whose inputs are those of one group."""
    # x.shape[-1] / expected_inputs is the number of groups.
    if expected_inputs == 0:
        return kernel_inputs
    return x.shape[-1] * kernel_inputs // expected_inputs


def add_bias(
    y: jax.Array,
    params: Params,
    use_bias: bool,
) -> jax.Array:
    """Add the bias (channels,) to y (..., channels), if there is one."""
    if not use_bias:
        return y
    return y + along_last(params["bias"], y)
