"""What is done to an image, as data: the steps that a policy lowers its drawing to.

A step is a Move (where each pixel comes from), a Recolor (a new level for each level, channel by channel) or a Paint
(any other function of the pixels). Masks, boxes and keypoints follow the moves alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.augment import matrices
from fnn.types import Image, Number

Size = tuple[int, int]


class Move(NamedTuple):
    """Where the pixels of the new image come from: place in the old one = matrix (row, column, 1) + field.

    Places are of pixel centers, counted from 0. What lies outside is as the border tells, a mode of numpy.pad, or has
    the level `fill`, a part of the whole range.
    whole:      every place is a whole number, so that nothing is interpolated
    projective: the matrix's last row is not (0, 0, 1), so that places are divided by what it gives
    reach:      of a whole move that turns nothing: by how many rows and columns it may look outside, at most
    support:    of a change of scale: how many rows and columns an antialiased pixel may be made of, at most
    cuts:       whether it is a window, whose edges are final: what comes after sees its own border there
    field:      (height, width, 2) what is added to each place
    """

    matrix: Array
    size: Size
    whole: bool = False
    projective: bool = False
    reach: Size | None = None
    support: Size | None = None
    cuts: bool = False
    border: str = "constant"
    fill: Number = 0.0
    order: str = "bilinear"
    field: Array | None = None


class Recolor(NamedTuple):
    """A new level for each level of a channel: change(levels, top, seen) -> levels.

    levels are floats from 0 to top, with the channels last; what comes out is clipped to that, and cut to a whole
    number where the image is of bytes. A tabled change of bytes is worked out for the 256 levels, not for each pixel.
    look: (image, needed) -> seen, of a change that depends on the whole image; if not needed it may be anything
    """

    change: Callable[[Array, float, Any], Array]
    tabled: bool = False
    look: Callable[[Image, Array | bool], Any] | None = None


class Paint(NamedTuple):
    """Any other function of the pixels: change(image) -> image.

    late:       whether it looks at a pixel's neighbors, so that in a fused choice it comes last
    moves:      whether it may move pixels, so that masks and points cannot follow
    normalizes: whether what it gives are no longer levels
    unbounded:  whether it takes any numbers, not levels alone
    """

    change: Callable[[Image], Image]
    late: bool = False
    moves: bool = False
    normalizes: bool = False
    unbounded: bool = False


Step = Move | Recolor | Paint
Steps = Sequence[Step]


def still(size: Size) -> Move:
    """The move that moves nothing."""
    return Move(jnp.eye(3, dtype=jnp.float32), size, whole=True, reach=(0, 0))


def joined(steps: Steps) -> list[Step]:
    """The steps with all moves made one that can be, so that no pixel is interpolated twice.

    What one warp moves out of the image another may bring back: it is not cut off in between, unless by a window.
    """
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if isinstance(step, Move) and isinstance(last, Move) and _fit(last, step):
            found[-1] = _product(last, step)
        else:
            found.append(step)
    return found


def _fit(first: Move, second: Move) -> bool:
    """Whether one move can do what the two do."""
    if first.field is not None or second.field is not None or second.support is not None:
        return False
    if (
        first.support is not None
    ):  # of an antialiased image only the pixels that are there can be had
        return second.reach == (0, 0) and second.size == first.size
    return alike([first, second]) and not (first.cuts and second.reach != (0, 0))


def alike(moves: Sequence[Move]) -> bool:
    """Whether the moves look alike: those that interpolate by one order, those that look outside on one border."""
    orders = {move.order for move in moves if not move.whole}
    borders = [move for move in moves if move.reach != (0, 0)]
    return len(orders) < 2 and all(
        move.border == borders[0].border and _equal(move.fill, borders[0].fill) for move in borders
    )


def _equal(first: Number, second: Number) -> bool:
    """Whether two numbers are known to be equal."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first == second
    return first is second


def look_of(moves: Sequence[Move]) -> dict[str, Any]:
    """The border, fill and order of moves that are alike."""
    outside = next((move for move in moves if move.reach != (0, 0)), moves[0])
    between = next((move for move in moves if not move.whole), moves[0])
    return {"border": outside.border, "fill": outside.fill, "order": between.order}


def _product(first: Move, second: Move) -> Move:
    reach = None
    if first.reach is not None and second.reach is not None:
        reach = (first.reach[0] + second.reach[0], first.reach[1] + second.reach[1])
    return Move(
        matrices.product(first.matrix, second.matrix),
        second.size,
        whole=first.whole and second.whole,
        projective=first.projective or second.projective,
        reach=reach,
        support=first.support,
        cuts=first.cuts or second.cuts,
        **look_of([first, second]) if first.support is None else {"order": first.order},
    )
