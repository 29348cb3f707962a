"""Steps of which some are left out, or that are chosen from several, as steps again."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.augment.execute import rendered
from fnn.augment.intensity import cut
from fnn.augment.ops import Move, Paint, Recolor, Step, Steps, alike, joined, look_of, still
from fnn.errors import ConfigError
from fnn.types import Image, ImageShape


def gated(happens: Array, step: Step) -> Step:
    """The step if it happens, else one that changes nothing."""
    if isinstance(step, Move):
        same = still(step.size).matrix
        field = None if step.field is None else jnp.where(happens, step.field, 0)
        return step._replace(matrix=jnp.where(happens, step.matrix, same), field=field)
    if isinstance(step, Recolor):
        look = step.look
        return step._replace(
            change=lambda x, top, seen: jnp.where(happens, step.change(x, top, seen), x),
            look=None if look is None else lambda image, needed: look(image, needed & happens),
        )
    _expect_levels("maybe", [step])
    kept = _kept("maybe", step.change)
    return step._replace(change=lambda image: jnp.where(happens, kept(image), image))


def selected(which: Array, branches: Sequence[Steps], shape: ImageShape, mode: str) -> list[Step]:
    """Steps that do what branch number `which` does, at most one of each kind, in the order of the kinds."""
    joint = [joined(branch) for branch in branches]
    for branch in joint:
        _expect_levels("one_of", branch)
    moves = [step for branch in joint for step in branch if isinstance(step, Move)]
    if mode == "exact" or not (alike(moves) and all(_orderly(branch) for branch in joint)):
        ways = [
            partial(rendered, [_varying(step, which) for step in branch]) for branch in branches
        ]
        return [Paint(lambda image: switched(which, ways, image), late=True, moves=bool(moves))]
    found: list[Step] = []
    choosers: tuple[Callable[..., Step], ...] = (_move, _recolor, _paint, _paint)
    for kind, choose in enumerate(choosers):
        own = [[step for step in branch if _kind(step) == kind] for branch in joint]
        if any(own):
            found.append(choose(which, own, shape))
    return found


def fused(turns: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of all turns in the order of the kinds."""
    return sorted((step for turn in turns for step in turn), key=_kind)


def kinds_of(steps: Steps) -> tuple[int, ...]:
    """The kinds of the steps, by which those can be told that have all in common."""
    return tuple(sorted({_kind(step) for step in steps}))


def _kind(step: Step) -> int:
    if isinstance(step, Move):
        return 0
    if isinstance(step, Recolor):
        return 1
    return 3 if step.late else 2


def _orderly(branch: Steps) -> bool:
    """Whether the order of the kinds is the branch's own, with moves that one can stand for."""
    kinds = [_kind(step) for step in branch]
    moves = [step for step in branch if isinstance(step, Move)]
    plain = all(move.support is None and move.field is None for move in moves)
    late = [step for step in branch if isinstance(step, Recolor)][1:]
    return (
        kinds == sorted(kinds) and len(moves) < 2 and plain and not any(step.look for step in late)
    )


def _move(which: Array, own: Sequence[Sequence[Move]], shape: ImageShape) -> Move:
    moves = [branch[0] if branch else still(shape[:2]) for branch in own]
    reaches = [move.reach for move in moves]
    reach = None if None in reaches else tuple(max(r) for r in zip(*reaches, strict=True))
    return Move(
        _at(which, [move.matrix for move in moves]),
        shape[:2],
        whole=all(move.whole for move in moves),
        projective=any(move.projective for move in moves),
        reach=reach,
        cuts=any(move.cuts for move in moves),
        **look_of(moves),
    )


def switched(which: Array, ways: Sequence[Callable[[Array], Array]], x: Array) -> Array:
    """What way number `which` makes of x, which in a shard_map is made to vary over the devices as the choice does."""
    return jax.lax.switch(which, [_kept("one_of", way) for way in ways], _vary(x, which))


def _varying(step: Step, which: Array) -> Step:
    """The step, a move's matrix made to vary over the devices of a shard_map as the choice does."""
    return step._replace(matrix=_vary(step.matrix, which)) if isinstance(step, Move) else step


def _vary(x: Array, which: Array) -> Array:
    return x + jnp.zeros_like(which, x.dtype)


def _expect_levels(where: str, steps: Steps) -> None:
    """Raise where what is done to some images only would make them no images."""
    if any(isinstance(step, Paint) and step.normalizes for step in steps):
        raise ConfigError(
            where, "augmentations that give an image", "normalize", "normalize after it, in a chain"
        )


def _kept(where: str, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The change, if it keeps the dtype: done to some images only, it could not be another one for these."""

    def checked(x: Array) -> Array:
        changed = change(x)
        if changed.dtype != x.dtype:
            raise ConfigError(
                where, f"an augmentation that keeps {x.dtype}", changed.dtype, "convert after it"
            )
        return changed

    return checked


def _at(which: Array, arrays: Sequence[Array]) -> Array:
    return jax.lax.dynamic_index_in_dim(jnp.stack(arrays), which, keepdims=False)


def _recolor(which: Array, own: Sequence[Sequence[Recolor]], shape: ImageShape) -> Recolor:
    looks: dict[int, Callable[..., Any]] = {}
    for place, steps in enumerate(own):
        if steps and steps[0].look is not None:
            looks[place] = steps[0].look

    def look(image: Image, needed: Array | bool) -> dict[int, Any]:
        return {place: one(image, needed & (which == place)) for place, one in looks.items()}

    def change(x: Array, top: float, seen: dict[int, Any] | None) -> Array:
        def turn(place: int, x: Array) -> Array:
            for step in own[place]:
                x = cut(step.change(x, top, (seen or {}).get(place)), top)
            return x

        return switched(which, [partial(turn, place) for place in range(len(own))], x)

    return Recolor(change, tabled=True, look=look if looks else None)


def _paint(which: Array, own: Sequence[Sequence[Paint]], shape: ImageShape) -> Paint:
    def turn(steps: Sequence[Paint], image: Image) -> Image:
        for step in steps:
            image = step.change(image)
        return image

    # Branches without one share a way, so that the switch is no wider than it must be.
    ways = [[], *(steps for steps in own if steps)]
    places, at = [], 1
    for steps in own:
        places.append(at if steps else 0)
        at += bool(steps)
    number = _at(which, [jnp.int32(place) for place in places])
    all_steps = [step for steps in own for step in steps]
    late, moves = any(step.late for step in all_steps), any(step.moves for step in all_steps)
    return Paint(
        lambda image: switched(number, [partial(turn, steps) for steps in ways], image), late, moves
    )
