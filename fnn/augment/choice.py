"""Random choice of ops: optional ops and one of several branches, expressed as ops again."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.execute import execute
from fnn.augment.intensity import clip_levels
from fnn.augment.ops import (
    GeometricOp,
    Op,
    Ops,
    PixelOp,
    PointOp,
    compatible,
    identity_op,
    merge_ops,
    shared_sampling,
)
from fnn.errors import ConfigError
from fnn.types import Image, ImageShape

Change = Callable[[Array], Array]

# The order in which a fused choice executes ops.
GEOMETRIC, POINT, PIXEL, SPATIAL = range(4)


def gate(applies: Array, op: Op) -> Op:
    """The op where `applies` is True, else an op that changes nothing."""
    if isinstance(op, GeometricOp):
        identity = identity_op(op.size).matrix
        field = None if op.field is None else jnp.where(applies, op.field, 0)
        matrix = jnp.where(applies, op.matrix, identity)
        return op._replace(matrix=matrix, field=field)
    if isinstance(op, PointOp):
        return _gate_point_op(applies, op)
    _reject_normalize("maybe", [op])
    change = _keeping_dtype("maybe", op.change)
    return op._replace(change=lambda image: jnp.where(applies, change(image), image))


def _gate_point_op(applies: Array, op: PointOp) -> PointOp:
    def change(
        levels: Array,
        highest: float,
        statistics: Any,
    ) -> Array:
        return jnp.where(applies, op.change(levels, highest, statistics), levels)

    if op.statistics is None:
        return op._replace(change=change)
    # Statistics are not needed where the op does not apply, so that they may be skipped.
    compute = op.statistics

    def gated_statistics(image: Image, needed: Array | bool) -> Any:
        return compute(image, needed & applies)

    return op._replace(change=change, statistics=gated_statistics)


def select(
    index: Array,
    branches: Sequence[Ops],
    shape: ImageShape,
    mode: str,
) -> list[Op]:
    """Ops that do the same as branch number `index`, at most one of each kind, ordered by kind.

    In mode "exact", and where the branches cannot share their ops, the result is one pixel op that
    switches between complete branches.
    """
    merged = [merge_ops(branch) for branch in branches]
    for branch in merged:
        _reject_normalize("one_of", branch)
    ops = [op for branch in merged for op in branch]
    geometric = [op for op in ops if isinstance(op, GeometricOp)]
    can_share = compatible(geometric) and all(_is_shareable(branch) for branch in merged)
    if mode == "exact" or not can_share:
        # Under vmap, all branches are executed for every image.
        changes = []
        for unmerged in branches:
            varying = [_varying(op, index) for op in unmerged]
            changes.append(partial(execute, varying))
        change = partial(switch, index, changes)
        moves_pixels = bool(geometric)
        return [PixelOp(change, spatial=True, moves_pixels=moves_pixels)]
    selected: list[Op] = []
    # In the order of the kinds.
    choosers: tuple[Callable[..., Op], ...] = (
        _select_geometric,
        _select_point,
        _select_pixel,
        _select_pixel,
    )
    for kind, choose in enumerate(choosers):
        of_kind = [_filter_kind(branch, kind) for branch in merged]
        # A kind that no branch has needs no op.
        if any(of_kind):
            selected.append(choose(index, of_kind, shape))
    return selected


def fuse(draws: Sequence[Sequence[Op]]) -> list[Op]:
    """The ops of all draws, ordered by kind, and by draw within each kind."""
    ops = [op for draw in draws for op in draw]
    # The sort is stable, which keeps the order of the draws within a kind.
    return sorted(ops, key=_kind)


def op_kinds(ops: Ops) -> tuple[int, ...]:
    """The set of kinds of the ops, as a sorted tuple."""
    return tuple(sorted({_kind(op) for op in ops}))


def _kind(op: Op) -> int:
    if isinstance(op, GeometricOp):
        return GEOMETRIC
    if isinstance(op, PointOp):
        return POINT
    return SPATIAL if op.spatial else PIXEL


def _filter_kind(ops: Ops, kind: int) -> list[Any]:
    return [op for op in ops if _kind(op) == kind]


def _is_shareable(branch: Ops) -> bool:
    """Whether the branch is in the order of kinds, with ops that branches can share."""
    # The selected ops are executed by kind, so a branch in another order would change.
    kinds = [_kind(op) for op in branch]
    if kinds != sorted(kinds):
        return False
    # The branches share one matrix: no second one, no antialiasing and no field.
    geometric = [op for op in branch if isinstance(op, GeometricOp)]
    if len(geometric) > 1:
        return False
    if any(op.support is not None or op.field is not None for op in geometric):
        return False
    # Statistics are computed once, before the first of several point ops.
    later = [op for op in branch if isinstance(op, PointOp)][1:]
    return all(op.statistics is None for op in later)


def switch(
    index: Array,
    changes: Sequence[Change],
    x: Array,
) -> Array:
    """Apply change number `index` to x."""
    checked = [_keeping_dtype("one_of", change) for change in changes]
    return jax.lax.switch(index, checked, _vary(x, index))


def _varying(op: Op, index: Array) -> Op:
    """The op with a matrix that varies over the devices of a shard_map as the index does."""
    if not isinstance(op, GeometricOp):
        return op
    return op._replace(matrix=_vary(op.matrix, index))


def _vary(x: Array, index: Array) -> Array:
    # All branches of a switch must vary over the same devices. Adding a zero makes x vary.
    return x + jnp.zeros_like(index, x.dtype)


def _reject_normalize(where: str, ops: Ops) -> None:
    """Raise if an op normalizes: applied to some images only, it would mix values and levels."""
    if any(isinstance(op, PixelOp) and op.normalizes for op in ops):
        expected = "augmentations that give an image"
        raise ConfigError(where, expected, "normalize", "normalize after it, in a chain")


def _keeping_dtype(where: str, change: Change) -> Change:
    """Raise if the change returns another dtype: all outcomes of a choice must agree."""

    def checked(x: Array) -> Array:
        changed = change(x)
        if changed.dtype != x.dtype:
            expected = f"an augmentation that keeps {x.dtype}"
            raise ConfigError(where, expected, changed.dtype, "convert after it")
        return changed

    return checked


def _take(index: Array, arrays: Sequence[Array]) -> Array:
    """Array number `index` of equal shapes."""
    return jax.lax.dynamic_index_in_dim(jnp.stack(arrays), index, keepdims=False)


def _select_geometric(
    index: Array,
    branches: Sequence[Sequence[GeometricOp]],
    shape: ImageShape,
) -> GeometricOp:
    """One op with the matrix of the branch; a branch without an op gets the identity."""
    size = shape[:2]
    # A shareable branch has at most one geometric op.
    ops = [branch[0] if branch else identity_op(size) for branch in branches]
    reaches = [op.reach for op in ops]
    reach = None
    if None not in reaches:
        # The largest reach along each axis.
        reach = tuple(max(axis) for axis in zip(*reaches, strict=True))
    return GeometricOp(
        _take(index, [op.matrix for op in ops]),
        size,
        integral=all(op.integral for op in ops),
        projective=any(op.projective for op in ops),
        reach=reach,
        crops=any(op.crops for op in ops),
        **shared_sampling(ops),
    )


def _select_point(
    index: Array,
    branches: Sequence[Sequence[PointOp]],
    shape: ImageShape,
) -> PointOp:
    """One point op that switches between the changes, computed per level for bytes."""
    # Only the first op of a shareable branch may have statistics.
    computed: dict[int, Callable[..., Any]] = {}
    for number, ops in enumerate(branches):
        if ops and ops[0].statistics is not None:
            computed[number] = ops[0].statistics

    def statistics(image: Image, needed: Array | bool) -> dict[int, Any]:
        found = {}
        for number, compute in computed.items():
            # Other branches do not need these statistics.
            is_chosen = index == number
            found[number] = compute(image, needed & is_chosen)
        return found

    def change(
        levels: Array,
        highest: float,
        statistics: dict[int, Any] | None,
    ) -> Array:
        def branch(number: int, levels: Array) -> Array:
            # None for branches without statistics.
            of_branch = (statistics or {}).get(number)
            for op in branches[number]:
                levels = clip_levels(op.change(levels, highest, of_branch), highest)
            return levels

        changes = [partial(branch, number) for number in range(len(branches))]
        return switch(index, changes, levels)

    return PointOp(change, use_table=True, statistics=statistics if computed else None)


def _select_pixel(
    index: Array,
    branches: Sequence[Sequence[PixelOp]],
    shape: ImageShape,
) -> PixelOp:
    """One pixel op that switches between the changes."""

    def branch(ops: Sequence[PixelOp], image: Image) -> Image:
        for op in ops:
            image = op.change(image)
        return image

    # Branches without an op share case 0, so that the switch has no more cases than needed.
    cases: list[Sequence[PixelOp]] = [[]]
    numbers = []
    for ops in branches:
        numbers.append(len(cases) if ops else 0)
        if ops:
            cases.append(ops)
    case = _take(index, [jnp.int32(number) for number in numbers])
    changes = [partial(branch, ops) for ops in cases]
    all_ops = [op for branch_ops in branches for op in branch_ops]
    spatial = any(op.spatial for op in all_ops)
    moves_pixels = any(op.moves_pixels for op in all_ops)
    return PixelOp(partial(switch, case, changes), spatial, moves_pixels)
