"""Fully connected layers and bare parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.affine import add_bias, expect_affine, for_groups, init_affine
from fnn.nn.core.decoder import per_position
from fnn.nn.core.wide_sums import broadcast
from fnn.nn.initializers.random import lecun_normal
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def dense(
    units: int,
    *,
    groups: int = 1,
    use_bias: bool = True,
    kernel_init: Initializer | None = None,
) -> Layer:
    """Fully connected layer: a linear map of the last axis, y = x W + b.

    x (batch, ..., inputs) -> y (batch, ..., units); `kernel` W (inputs / groups, units); `bias` b
    (units,), initially zeros.

    With groups, the outputs are independent layers of equal parts of the inputs, in order. A
    network whose layers all have n groups, convolutions too, is n networks in one, of 1 / n of the
    width: a packed ensemble [Laurent et al. 2023, arXiv:2210.09184]. Its first layer has no groups
    if all of them take the whole input. At its end `nn.reshape((n, classes))` returns the outputs
    of each, whose loss is `objective.per_member`. No layer between may mix the groups: flatten
    does, global_avg_pool does not.

    Args:
        units: Number of outputs, a multiple of `groups`.
        groups: Number of equal groups of features; outputs see the inputs of their group.
        use_bias: Whether to add the bias b. Turn it off before a normalization, which removes it.
        kernel_init: Initializer of the kernel; lecun_normal if None.

    Raises:
        ConfigError: `units` is not a whole number >= 1, or not a multiple of `groups`.
        ShapeError: An example has no features, `groups` does not divide their number, or x has
            another number of features than the kernel.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: The params are not those of this layer.
    """
    checks.whole("dense units", units)
    checks.whole("dense groups", groups)
    if units % groups:
        expected = f"a multiple of groups={groups}"
        raise ConfigError("dense units", expected, units, "round the units up")
    checks.flag("dense use_bias", use_bias)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("dense key", key)
        checks.one_shape("dense", shape)
        if not shape:
            raise ShapeError(
                "dense",
                "a shape (..., inputs)",
                shape,
                "give each example a feature axis",
            )
        group_inputs = _expect_groups(shape, groups)
        # Without an activation, variance 1 / inputs keeps the variance of x.
        initializer = for_groups(kernel_init or lecun_normal(), groups)
        params = init_affine("dense", key, (group_inputs, units), initializer, use_bias)
        return params, {}, (*shape[:-1], units)

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.one_array("dense x", x)
        # A wrong width of x is reported as an error of x, not of the params.
        group_inputs = _expect_groups(x.shape, groups)
        expect_affine("dense", params, x, (group_inputs, units), use_bias)
        if groups == 1:
            # (batch, ..., inputs) @ (inputs, units) -> (batch, ..., units)
            return add_bias(x @ params["kernel"], params, use_bias), state
        return add_bias(_by_group(x, params["kernel"], groups), params, use_bias), state

    return per_position(Layer(init, apply))


def _expect_groups(shape: Shape, groups: int) -> int:
    """Return the number of inputs of a group; ShapeError if groups do not divide the inputs."""
    if shape[-1] % groups:
        expected = f"features in groups={groups}"
        raise ShapeError("dense", expected, shape, "choose groups that divide them")
    return shape[-1] // groups


def _by_group(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Return x W (batch, ..., units), where outputs see the inputs of their group."""
    # (batch, ..., inputs) -> (batch, ..., groups, inputs of one)
    parts = x.reshape(*x.shape[:-1], groups, -1)
    # (inputs of one, units) -> (inputs of one, groups, units of one)
    kernels = kernel.reshape(kernel.shape[0], groups, -1)
    y = jnp.einsum("...gi,igu->...gu", parts, kernels)
    return y.reshape(*x.shape[:-1], kernel.shape[1])


@maker
def parameter(*shape: int, init: Initializer) -> Layer:
    """A trained array, the same for every example and every x: y[i] = value.

    x (batch, ...) -> y (batch, *shape); `value` (*shape,). Uses are a class token, a learned query
    or the log-variance of a task. parallel(parameter(1, width, init=normal()), chain(), axis=1)
    prepends it to a sequence.

    Args:
        shape: Sizes of the array; none for a single number.
        init: Initializer of the array.

    Raises:
        ConfigError: A size is not a whole number >= 1.
        ShapeError: x has no batch axis.
        TreeMismatchError: The params are not those of this layer.
    """
    for size in shape:
        checks.whole("parameter shape", size)

    # The name `init` is that of the option.
    def init_layer(key: jax.Array, x_shape: Any) -> tuple[Params, State, Shape]:
        checks.key("parameter key", key)
        return {"value": init(key, shape)}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        # x may be any tree of arrays: only the size of its batch is used.
        arrays = jax.tree.leaves(x)
        if not arrays or not jnp.ndim(arrays[0]):
            raise ShapeError(
                "parameter x",
                "arrays (batch, ...)",
                jax.tree.map(jnp.shape, x),
                "add a batch axis",
            )
        trees.expect_arrays("parameter", params, {"value": shape})
        # (*shape,) -> (batch, *shape)
        batch_size = arrays[0].shape[0]
        return broadcast(params["value"], (batch_size, *shape)), state

    return Layer(init_layer, apply)
