"""Convolution whose gradients stay fast inside a loop on CPU.

XLA:CPU has one fast convolution, for NHWC images and HWIO kernels. The gradients that JAX derives
have other layouts, which XLA rewrites outside of loop bodies only: inside `lax.scan` they run 10 to
80 times slower (https://github.com/jax-ml/jax/issues/12868). Training here is one scan, so on CPU
the gradients are written in the fast layout from the start; other platforms keep XLA's own.

Convolution is linear in the image x and in the kernel w, so ⟨y, conv(x, w)⟩ is a trilinear form.
Its three partial derivatives are three bilinear primitives, and transposing any one of them gives
the other two:

    forward(x, w) -> y        input_gradient(y, w) -> x        kernel_gradient(x, y) -> w

    x (batch, height, width, in)
    w (height, width, in / groups, out)
    y (batch, height, width, out)

All of this holds for volumes, which have a depth before the height. A signal is an image of
height 1.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.interpreters import ad, batching, mlir, xla

from fnn.nn.kernels import cpu, reference
from fnn.nn.kernels.reference import Form, Geometry, Pads, Pair, Shape, Sizes, fold, unfold
from fnn.xla import fusion_barrier, is_portable

if TYPE_CHECKING:
    from jax.extend.core import Primitive


def convolve(
    x: Array,
    kernel: Array,
    *,
    stride: Sizes,
    padding: Pads,
    dilation: Sizes,
    groups: int,
) -> Array:
    """Cross-correlate images with a kernel, y[n,p,o] = Σ x[n, s p + d t - low, i] kernel[t,i,o].

    The sum is over taps t and in-channels i, with stride s and dilation d. Differentiable in both
    modes to any order; fast inside `lax.scan` on CPU.

    Args:
        x: (batch, height, width, in), or with one or three spatial axes.
        kernel: (height, width, in / groups, out), with the spatial axes of x.
        stride: Distance of the windows, one number an axis.
        padding: Zeros around x, a (low, high) pair an axis.
        dilation: Distance of the taps, one number an axis.
        groups: Number of equal groups of channels.
    """
    geometry = Geometry(
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        image=x.shape[1:-1],
        kernel=kernel.shape[:-2],
    )
    return bind(primitives().forward, x, kernel, geometry)


def convolve_transpose(
    x: Array,
    kernel: Array,
    *,
    stride: Sizes,
    padding: Pads,
    dilation: Sizes,
    groups: int,
    image: Sizes,
) -> Array:
    """Transpose a convolution, y[n, s p + d t - low, o] = Σ x[n,p,i] kernel[t,i,o].

    It is the gradient by its image of a convolution from an image of size `image` to one of the
    size of x.

    Args:
        x: (batch, height, width, in), or with one or three spatial axes.
        kernel: (height, width, in / groups, out), from x to y.
        stride: Stride s of that convolution, one number an axis.
        padding: Its padding, a (low, high) pair an axis.
        dilation: Its dilation d, one number an axis.
        groups: Number of equal groups of channels.
        image: Spatial size of y.
    """
    *window, inputs, outputs = kernel.shape
    group_outputs = outputs // groups
    # For that convolution, from y to x, the channels of each group are exchanged:
    # (height, width, in / groups, groups, out / groups) -> (..., out / groups, groups, in / groups)
    kernel = kernel.reshape(*window, inputs, groups, group_outputs)
    kernel = kernel.swapaxes(-1, -3)
    geometry = Geometry(stride, padding, dilation, groups, image, tuple(window))
    primitive = primitives().input_gradient
    kernel = kernel.reshape(*window, group_outputs, groups * inputs)
    return bind(primitive, x, kernel, geometry)


def bind(
    primitive: "Primitive",
    a: Array,
    kernel: Array,
    geometry: Geometry,
) -> Array:
    """Apply a primitive to an array and a kernel.

    A signal becomes an image of height 1, for which there is a fast form.
    """
    # As for a matrix product: XLA's convolution takes operands of one dtype only.
    dtype = jnp.result_type(a, kernel)
    a = a.astype(dtype)
    kernel = kernel.astype(dtype)
    is_signal = len(geometry.kernel) == 1
    if is_signal:
        geometry = Geometry(
            stride=(1, *geometry.stride),
            padding=((0, 0), *geometry.padding),
            dilation=(1, *geometry.dilation),
            groups=geometry.groups,
            image=(1, *geometry.image),
            kernel=(1, *geometry.kernel),
        )
        a = a[:, None]  # (batch, 1, length, channels)
        kernel = kernel[None]  # (1, length, in / groups, out)
    if jax.sharding.get_abstract_mesh().manual_axes:
        a, kernel = vary_alike(a, kernel), vary_alike(kernel, a)
    if is_portable():
        # Other programs know the operations of JAX, but not these primitives.
        form = PORTABLE[primitive.name]
        result = form(a, kernel, geometry)
    else:
        result = primitive.bind(a, kernel, geometry=geometry, members=False)
    return result[:, 0] if is_signal else result


def vary_alike(a: Array, b: Array) -> Array:
    """Return a, varying over all axes of a `shard_map` over which b does.

    Its gradient is then summed over these axes. Operations of `lax` arrange this for their operands
    without help, as the concatenation here does for a and an empty part of b.
    """
    flat = a.reshape(-1)
    nothing = b.reshape(-1)[:0]
    joined = lax.concatenate([flat, nothing], 0)
    return joined.reshape(a.shape)


# The three primitives.

# XLA's own forms of the two that a forward pass applies, by name.
PORTABLE: dict[str, Form] = {
    "convolve": reference.xla_forward,
    "convolve_input_gradient": reference.dilated_input_gradient,
}


def trilinear(
    name: str,
    result_shape: Callable[..., Shape],
    xla_form: Form,
    cpu_form: Form,
) -> "Primitive":
    """Make a primitive of two arrays.

    Its parameter `members` says that both arrays and the result have a leading axis of independent
    members.

    Args:
        name: Name of the primitive.
        result_shape: (shape, shape, geometry) -> shape of the result, without members.
        xla_form: The computation on other platforms than CPU.
        cpu_form: The computation on CPU.
    """
    from jax.extend.core import Primitive

    primitive = Primitive(name)
    primitive.def_impl(partial(xla.apply_primitive, primitive))

    def abstract(
        a: Any,
        b: Any,
        *,
        geometry: Geometry,
        members: bool,
    ) -> Any:
        shape = result_shape(a.shape[members:], b.shape[members:], geometry)
        return a.update(shape=(*a.shape[:members], *shape), weak_type=False)

    def default(
        a: Array,
        b: Array,
        *,
        geometry: Geometry,
        members: bool,
    ) -> Array:
        def form(a: Array, b: Array) -> Array:
            return xla_form(a, b, geometry)

        if members:
            return jax.vmap(form)(a, b)
        return form(a, b)

    def on_cpu(
        a: Array,
        b: Array,
        *,
        geometry: Geometry,
        members: bool,
    ) -> Array:
        if not all(isinstance(size, int) for size in (*a.shape, *b.shape)):
            # A batch of any size, as jax.export has: the fast forms choose tiles by the size.
            return default(a, b, geometry=geometry, members=members)

        def form(a: Array, b: Array) -> Array:
            return cpu_form(a, b, geometry)

        if members:
            # One member after another: the grouped convolution that vmap makes is 10 times slower.
            # A loop also keeps the operands from being fused.
            return lax.map(lambda pair: form(*pair), (a, b))
        # Not fused: XLA would compute the preceding activation again for every tap that reads it.
        return fusion_barrier(form, a, b)

    primitive.def_abstract_eval(abstract)
    default_lowering = mlir.lower_fun(default, multiple_results=False)
    mlir.register_lowering(primitive, default_lowering)
    cpu_lowering = mlir.lower_fun(on_cpu, multiple_results=False)
    mlir.register_lowering(primitive, cpu_lowering, platform="cpu")
    return primitive


# Batching. The result is batched with any operand, so a batch axis is on two or on all three of x,
# w and y. On two, it joins an axis that these share: the batch of x and y, the in-channels of x and
# w, the out-channels of w and y.


class Folding(NamedTuple):
    """The axes that a batch axis of one operand joins.

    Attributes:
        axes: Axis of the operand and of the result. Channels count from the end, -1 or -2; 0 is the
            batch, which follows the members.
        grouped: Whether the axis of the operand, and that of the result, consists of groups.
    """

    axes: Pair
    grouped: Pair


def batch_one(
    primitive: "Primitive",
    operand: int,
    folding: Folding,
) -> Callable[..., tuple[Array, int]]:
    """Return the batching rule for one batched operand, which folds the batch into another axis."""

    def rule(
        args: list[Array],
        dim: int,
        *,
        geometry: Geometry,
        members: bool,
    ) -> tuple[Array, int]:
        size = args[operand].shape[dim]
        operand_groups, result_groups = (geometry.groups if g else 1 for g in folding.grouped)
        # The batch is the first axis, or the second one after the members.
        operand_axis, result_axis = (axis or int(members) for axis in folding.axes)
        moved = jnp.moveaxis(args[operand], dim, 0)
        args[operand] = fold(moved, operand_axis, operand_groups)
        result = primitive.bind(*args, geometry=geometry, members=members)
        return unfold(result, result_axis, result_groups, size), 0

    return rule


def batch_both(
    primitive: "Primitive",
    args: list[Array],
    *,
    geometry: Geometry,
    members: bool,
) -> tuple[Array, int]:
    """Apply the batching rule for two batched operands, whose batch becomes members."""
    leading = args[0].shape[: 1 + members]
    # (batch, ...) or (batch, members, ...) -> (members, ...)
    merged = []
    for a in args:
        merged.append(a.reshape(-1, *a.shape[1 + members :]))
    result = primitive.bind(*merged, geometry=geometry, members=True)
    return result.reshape(*leading, *result.shape[1:]), 0


def register_batching(
    primitive: "Primitive",
    first: Folding,
    second: Folding,
) -> None:
    """Register the batching rule of a primitive.

    Args:
        primitive: One of the three.
        first: The axes for a batch of the first operand only.
        second: The axes for a batch of the second operand only.
    """
    first_rule = batch_one(primitive, 0, first)
    second_rule = batch_one(primitive, 1, second)
    rules = (first_rule, second_rule)

    def rule(
        args: Sequence[Array],
        dims: Sequence[int | None],
        **static: Any,
    ) -> tuple[Array, int]:
        batched = [(operand, dim) for operand, dim in enumerate(dims) if dim is not None]
        if len(batched) == 1:
            ((operand, dim),) = batched
            return rules[operand](list(args), dim, **static)
        moved = []
        for a, (_, dim) in zip(args, batched, strict=True):
            moved.append(jnp.moveaxis(a, dim, 0))
        return batch_both(primitive, moved, **static)

    batching.primitive_batchers[primitive] = rule


BATCH = Folding(axes=(0, 0), grouped=(0, 0))  # of x and y
INPUTS = Folding(axes=(-1, -2), grouped=(1, 0))  # channels of x and in-channels of w
INPUTS_OF_KERNEL = Folding(axes=(-2, -1), grouped=(0, 1))  # in-channels of w and channels of x
OUTPUTS = Folding(axes=(-1, -1), grouped=(1, 1))  # out-channels of w and channels of y


class Primitives(NamedTuple):
    """The three partial derivatives of the trilinear form.

    Attributes:
        forward: (x, w) -> y.
        input_gradient: (y, w) -> x.
        kernel_gradient: (x, y) -> w.
    """

    forward: "Primitive"
    input_gradient: "Primitive"
    kernel_gradient: "Primitive"


@cache
def primitives() -> Primitives:
    """Make the primitives with their rules.

    This is done on first use: importing jax.extend takes a third as long as importing all of fnn.
    """
    forward = trilinear("convolve", reference.output_shape, reference.xla_forward, cpu.forward)
    on_x = trilinear(
        "convolve_input_gradient",
        reference.input_shape,
        reference.xla_input_gradient,
        cpu.input_gradient,
    )
    on_w = trilinear(
        "convolve_kernel_gradient",
        reference.kernel_shape,
        reference.xla_kernel_gradient,
        cpu.kernel_gradient,
    )

    # Each rule gets the cotangent and the two operands, of which the one that it differentiates
    # for is undefined.
    ad.defbilinear(
        forward,
        lambda y, x, w, **static: on_x.bind(y, w, **static),
        lambda y, x, w, **static: on_w.bind(x, y, **static),
    )
    ad.defbilinear(
        on_x,
        lambda x, y, w, **static: forward.bind(x, w, **static),
        lambda x, y, w, **static: on_w.bind(x, y, **static),
    )
    ad.defbilinear(
        on_w,
        lambda w, x, y, **static: on_x.bind(y, w, **static),
        lambda w, x, y, **static: forward.bind(x, w, **static),
    )

    register_batching(forward, BATCH, OUTPUTS)
    register_batching(on_x, BATCH, INPUTS_OF_KERNEL)
    register_batching(on_w, INPUTS, OUTPUTS)
    return Primitives(forward, on_x, on_w)
