"""Execution of ops on the pixels of an image."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from fnn.augment.intensity import apply_point_ops, fill_level
from fnn.augment.ops import GeometricOp, Op, Ops, PixelOp, PointOp, merge_ops
from fnn.augment.resample.scale import rescale
from fnn.augment.resample.warp import warp
from fnn.augment.resample.window import copy_window
from fnn.errors import ConfigError
from fnn.types import Image
from fnn.xla import materialize, on_cpu_else


def execute(ops: Ops, image: Image) -> Image:
    """Apply the ops to the image; consecutive geometric ops and consecutive point ops are merged.

    Raises:
        ConfigError: An op that needs levels follows one that normalizes.
    """
    previous: Op | None = None
    normalized = False
    for group in _group_point_ops(merge_ops(ops)):
        op = group[0]
        # Normalized values are not in [0, 1], which the changes of levels assume.
        if normalized and needs_levels(op):
            expected = "normalize after all that changes levels"
            raise ConfigError("chain", expected, "a change after it", "put it last")
        normalized |= isinstance(op, PixelOp) and op.normalizes
        # A pixel op that follows another may fuse with it. All other ops read a pixel more than
        # once, so fusion would compute the previous pixel op again at each of these reads.
        reads_once = isinstance(op, PixelOp) and not op.spatial
        if isinstance(previous, PixelOp) and not reads_once:
            image = materialize(image)
        if isinstance(op, GeometricOp):
            image = apply_geometric(image, op)
        elif isinstance(op, PointOp):
            point_ops = [member for member in group if isinstance(member, PointOp)]
            image = apply_point_ops(image, point_ops)
        else:
            image = op.change(image)
        previous = op
    return image


def needs_levels(op: Op) -> bool:
    """Whether the op assumes levels in [0, 1], or bytes."""
    if isinstance(op, PixelOp):
        return not op.unbounded
    return isinstance(op, PointOp)


def _group_point_ops(ops: Sequence[Op]) -> list[list[Op]]:
    """Runs of point ops, of which only the first may use statistics; other ops are alone."""
    groups: list[list[Op]] = []
    for op in ops:
        follows_point_op = bool(groups) and isinstance(groups[-1][0], PointOp)
        if follows_point_op and isinstance(op, PointOp) and op.statistics is None:
            groups[-1].append(op)
        else:
            groups.append([op])
    return groups


def apply_geometric(image: Image, op: GeometricOp) -> Image:
    """Apply one geometric op by the fastest method that its fields allow."""
    if op.support is not None:
        return rescale(image, op)
    fill = fill_level(op.fill, image.dtype)
    # `copy_window` is for bytes, whose batches are copied in one pass.
    if op.reach is None or image.dtype != jnp.uint8:
        return warp(image, op, fill)

    # On CPU a copy of contiguous rows is faster than a gather of single pixels.
    def on_cpu(
        image: Image,
        matrix: Array,
        fill: Array,
    ) -> Image:
        return copy_window(image, op._replace(matrix=matrix), fill)

    def elsewhere(
        image: Image,
        matrix: Array,
        fill: Array,
    ) -> Image:
        return warp(image, op._replace(matrix=matrix), fill)

    return on_cpu_else(on_cpu, elsewhere)(image, op.matrix, fill)
