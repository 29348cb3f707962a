"""Image operations as data: a policy lowers each draw to a sequence of them.

An op is a `GeometricOp` (source coordinates of each pixel), a `PointOp` (a new level for each
level, channel by channel) or a `PixelOp` (any other function of the pixels). Masks, boxes and
keypoints follow the geometric ops only.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.augment import matrices
from fnn.types import Image, Number

Size = tuple[int, int]


class GeometricOp(NamedTuple):
    """A backward warp: source coordinates = matrix @ (row, column, 1) + field.

    Coordinates are those of pixel centers, counted from 0.

    Attributes:
        matrix: (3, 3), from coordinates of the new image to those of the old image.
        size: (height, width) of the new image.
        integral: All source coordinates are whole numbers, so that nothing is interpolated.
        projective: The last row of the matrix is not (0, 0, 1), so that the coordinates are divided
            by the third component.
        reach: (rows, columns) by which an integral op without rotation reads outside of the image,
            at most. None if unknown.
        support: (rows, columns) of source pixels that an antialiased pixel depends on, at most.
            None for an op without antialiasing.
        crops: The result is a window whose edges are final: later ops read their own border there.
        mode: Padding outside of the image, a mode of `numpy.pad`.
        fill: Level outside of the image for the mode "constant", in [0, 1].
        method: Interpolation: "bilinear", "nearest" or, with a support, "bicubic".
        field: (height, width, 2), the displacement added to each source coordinate, or None.
    """

    matrix: Array
    size: Size
    integral: bool = False
    projective: bool = False
    reach: Size | None = None
    support: Size | None = None
    crops: bool = False
    mode: str = "constant"
    fill: Number = 0.0
    method: str = "bilinear"
    field: Array | None = None


class PointOp(NamedTuple):
    """A new level for each level of a channel.

    Attributes:
        change: (levels, max_level, statistics) -> levels. Levels are floats in [0, max_level],
            channels last. The result is clipped to this range, and for images of bytes rounded down
            to whole numbers.
        use_table: For images of bytes, compute the change for the 256 levels, not for each pixel.
        statistics: (image, needed) -> statistics, for a change that depends on the whole image.
            Where `needed` is False the result may be anything.
    """

    change: Callable[[Array, float, Any], Array]
    use_table: bool = False
    statistics: Callable[[Image, Array | bool], Any] | None = None


class PixelOp(NamedTuple):
    """Any other function of the pixels.

    Attributes:
        change: (image) -> image.
        spatial: A pixel depends on its neighbors, so that the op comes last in a fused choice.
        moves_pixels: The op may move pixels, so that masks and keypoints cannot follow.
        normalizes: The values of the result are not levels any more.
        unbounded: The op accepts any values, not only levels.
    """

    change: Callable[[Image], Image]
    spatial: bool = False
    moves_pixels: bool = False
    normalizes: bool = False
    unbounded: bool = False


Op = GeometricOp | PointOp | PixelOp
Ops = Sequence[Op]


def identity_op(size: Size) -> GeometricOp:
    """The geometric op that moves nothing."""
    matrix = jnp.eye(3, dtype=jnp.float32)
    return GeometricOp(matrix, size, integral=True, reach=(0, 0))


def merge_ops(ops: Ops) -> list[Op]:
    """Merge consecutive geometric ops where possible, so that pixels are interpolated once.

    Pixels that one warp moves out of the image can be moved back by the next: nothing is cut off in
    between, except by a window.
    """
    merged: list[Op] = []
    for op in ops:
        last = merged[-1] if merged else None
        if isinstance(op, GeometricOp) and isinstance(last, GeometricOp) and _can_merge(last, op):
            merged[-1] = _compose(last, op)
        else:
            merged.append(op)
    return merged


def _can_merge(first: GeometricOp, second: GeometricOp) -> bool:
    # A field is not a matrix.
    if first.field is not None or second.field is not None:
        return False
    # An antialiased op must read the pixels as they are.
    if second.support is not None:
        return False
    if first.support is not None:
        # The second op may only permute the pixels of the antialiased image.
        return second.reach == (0, 0) and second.size == first.size
    # A window's edges are final, so an op that reads outside of them cannot join it.
    crosses_window = first.crops and second.reach != (0, 0)
    return compatible([first, second]) and not crosses_window


def compatible(ops: Sequence[GeometricOp]) -> bool:
    """Whether the ops can share one interpolation method, one padding mode and one fill."""
    # Integral ops do not interpolate, so their method does not matter.
    methods = {op.method for op in ops if not op.integral}
    if len(methods) > 1:
        return False
    # The mode and fill of an op that stays inside of the image do not matter.
    outside = [op for op in ops if op.reach != (0, 0)]
    for op in outside:
        same_mode = op.mode == outside[0].mode
        if not same_mode or not _known_equal(op.fill, outside[0].fill):
            return False
    return True


def _known_equal(first: Number, second: Number) -> bool:
    """Whether two numbers, which may be traced, are known to be equal."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first == second
    # Arrays are not compared, since this would wait for the device, and tracers have no value.
    return first is second


def shared_sampling(ops: Sequence[GeometricOp]) -> dict[str, Any]:
    """The mode, fill and method that compatible ops share."""
    outside = next((op for op in ops if op.reach != (0, 0)), ops[0])
    interpolated = next((op for op in ops if not op.integral), ops[0])
    return {"mode": outside.mode, "fill": outside.fill, "method": interpolated.method}


def _compose(first: GeometricOp, second: GeometricOp) -> GeometricOp:
    """The op that does the first, then the second."""
    # A window of a window reads outside by at most the sum of both.
    reach = None
    if first.reach is not None and second.reach is not None:
        rows = first.reach[0] + second.reach[0]
        columns = first.reach[1] + second.reach[1]
        reach = (rows, columns)
    # An antialiased op is followed by a permutation of pixels only, which has no options.
    if first.support is None:
        sampling = shared_sampling([first, second])
    else:
        sampling = {"method": first.method}
    # Matrices map new coordinates to old ones, so the first op's matrix is applied last.
    return GeometricOp(
        matrices.product(first.matrix, second.matrix),
        second.size,
        integral=first.integral and second.integral,
        projective=first.projective or second.projective,
        reach=reach,
        support=first.support,
        crops=first.crops or second.crops,
        **sampling,
    )
