"""Convolution whose gradients stay fast inside a loop on CPU.

XLA:CPU has one fast convolution, for NHWC images and HWIO kernels. The gradients that JAX derives have other
layouts, which XLA rewrites outside of loop bodies only: inside `lax.scan` they run 10 to 80 times slower
(https://github.com/jax-ml/jax/issues/12868). Training here is one scan, so on CPU the gradients are written in the
fast layout from the start; every other platform keeps XLA's own.

Convolution is linear in the image x and in the kernel w, so ⟨y, conv(x, w)⟩ is a trilinear form. Its three partial
derivatives are three bilinear primitives, and transposing any one of them gives the other two:

    forward(x, w) -> y        input_gradient(y, w) -> x        kernel_gradient(x, y) -> w

    x (batch, height, width, in)    w (height, width, in / groups, out)    y (batch, height, width, out)

All of it holds for volumes, which have a depth before the height; a signal is an image of height 1.
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
from fnn.xla import fusion_barrier

if TYPE_CHECKING:
    from jax.extend.core import Primitive


def convolve(
    x: Array, kernel: Array, *, stride: Sizes, padding: Pads, dilation: Sizes, groups: int
) -> Array:
    """Cross-correlate images with a kernel: y[n, p, o] = Σ_{t, i} x[n, stride p + dilation t - low, i] kernel[t, i, o].

    x (batch, height, width, in), kernel (height, width, in / groups, out), or one axis or three in the place of height
    and width; padding has a (low, high) pair per axis. Differentiable in both modes to any order; fast inside
    `lax.scan` on CPU, see jax issue 12868.
    """
    geometry = Geometry(stride, padding, dilation, groups, x.shape[1:-1], kernel.shape[:-2])
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
    """Lay a kernel down at every pixel: y[n, stride p + dilation t - low, o] = Σ_{p, t, i} x[n, p, i] kernel[t, i, o].

    The gradient by its image of a convolution of an image of that size to one of the size of x. The kernel is
    (height, width, in / groups, out) from x to y, so its channels change places in each group for that convolution.
    """
    *window, inputs, outputs = kernel.shape
    kernel = kernel.reshape(*window, inputs, groups, outputs // groups).swapaxes(-1, -3)
    geometry = Geometry(stride, padding, dilation, groups, image, tuple(window))
    return bind(
        primitives().input_gradient,
        x,
        kernel.reshape(*window, outputs // groups, groups * inputs),
        geometry,
    )


def bind(primitive: "Primitive", a: Array, kernel: Array, geometry: Geometry) -> Array:
    """The primitive at an array and a kernel; a signal becomes an image of height 1, for which there is a fast form."""
    if signal := len(geometry.kernel) == 1:
        stride, padding, dilation, groups, image, window = geometry
        geometry = Geometry(
            (1, *stride), ((0, 0), *padding), (1, *dilation), groups, (1, *image), (1, *window)
        )
        a, kernel = a[:, None], kernel[None]
    if jax.sharding.get_abstract_mesh().manual_axes:
        a, kernel = vary_alike(a, kernel), vary_alike(kernel, a)
    result = primitive.bind(a, kernel, geometry=geometry, members=False)
    return result[:, 0] if signal else result


def vary_alike(a: Array, b: Array) -> Array:
    """`a`, varying over all the axes of a `shard_map` over which `b` does, so that its gradient is summed over these.

    Operations of `lax` arrange this among their operands themselves, as this one does for `a` and nothing of `b`.
    """
    return lax.concatenate([a.reshape(-1), b.reshape(-1)[:0]], 0).reshape(a.shape)


# The three primitives.


def trilinear(
    name: str, result: Callable[..., Shape], xla_form: Form, cpu_form: Form
) -> "Primitive":
    """A primitive of two arrays; with `members`, both and the result have one leading axis of independent members."""
    from jax.extend.core import Primitive

    primitive = Primitive(name)
    primitive.def_impl(partial(xla.apply_primitive, primitive))

    def abstract(a: Any, b: Any, *, geometry: Geometry, members: bool) -> Any:
        shape = result(a.shape[members:], b.shape[members:], geometry)
        return a.update(shape=(*a.shape[:members], *shape), weak_type=False)

    def default(a: Array, b: Array, *, geometry: Geometry, members: bool) -> Array:
        def form(a: Array, b: Array) -> Array:
            return xla_form(a, b, geometry)

        return jax.vmap(form)(a, b) if members else form(a, b)

    def on_cpu(a: Array, b: Array, *, geometry: Geometry, members: bool) -> Array:
        def form(a: Array, b: Array) -> Array:
            return cpu_form(a, b, geometry)

        # By itself, or the activation before it would be worked out for every place that looks at it. One member after
        # another, which a loop keeps apart as well: the grouped convolution that vmap makes is 10 times slower.
        return lax.map(lambda pair: form(*pair), (a, b)) if members else fusion_barrier(form, a, b)

    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(default, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu"
    )
    return primitive


# Batching. Whatever is batched, the result is, so a batch axis is on two or on all three of x, w and y. On two, it
# joins an axis which these share: the batch of x and y, the in-channels of x and w, the out-channels of w and y.


def batch_one(
    primitive: "Primitive", operand: int, axes: Pair, grouped: Pair
) -> Callable[..., tuple[Array, int]]:
    """Batch one operand by folding at `axes` of it and of the result, of which those `grouped` consist of groups."""

    def rule(
        args: list[Array], dim: int, *, geometry: Geometry, members: bool
    ) -> tuple[Array, int]:
        size = args[operand].shape[dim]
        groups = [geometry.groups if g else 1 for g in grouped]
        into, out_of = (
            axis or int(members) for axis in axes
        )  # channels count from the end, the batch follows members
        args[operand] = fold(jnp.moveaxis(args[operand], dim, 0), into, groups[0])
        result = primitive.bind(*args, geometry=geometry, members=members)
        return unfold(result, out_of, groups[1], size), 0

    return rule


def batch_both(
    primitive: "Primitive", args: list[Array], *, geometry: Geometry, members: bool
) -> tuple[Array, int]:
    """Batch both operands, and so all three: members, in one axis together with those there are."""
    leading = args[0].shape[: 1 + members]
    args = [a.reshape(-1, *a.shape[1 + members :]) for a in args]
    result = primitive.bind(*args, geometry=geometry, members=True)
    return result.reshape(*leading, *result.shape[1:]), 0


def batched(primitive: "Primitive", *folds: tuple[Pair, Pair]) -> None:
    """Register how vmap treats a primitive, given `axes` and `grouped` for each operand batched alone."""
    alone = [batch_one(primitive, operand, *where) for operand, where in enumerate(folds)]

    def rule(args: Sequence[Array], dims: Sequence[int | None], **static: Any) -> tuple[Array, int]:
        known = [(operand, dim) for operand, dim in enumerate(dims) if dim is not None]
        if len(known) == 1:
            ((operand, dim),) = known
            return alone[operand](list(args), dim, **static)
        moved = [jnp.moveaxis(a, dim, 0) for a, (_, dim) in zip(args, known, strict=True)]
        return batch_both(primitive, moved, **static)

    batching.primitive_batchers[primitive] = rule


# The three of them.

BATCH, INPUTS, OUTPUTS = ((0, 0), (0, 0)), ((-1, -2), (1, 0)), ((-1, -1), (1, 1))


class Primitives(NamedTuple):
    """The three partial derivatives of the trilinear form."""

    forward: "Primitive"
    input_gradient: "Primitive"
    kernel_gradient: "Primitive"


@cache
def primitives() -> Primitives:
    """The primitives with their rules, made on first use: jax.extend takes a third as long to import as all of fnn."""
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

    # Each rule gets the cotangent and the two operands, of which the one it differentiates for is unknown.
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

    batched(forward, BATCH, OUTPUTS)
    batched(on_x, BATCH, ((-2, -1), (0, 1)))
    batched(on_w, INPUTS, OUTPUTS)
    return Primitives(forward, on_x, on_w)
