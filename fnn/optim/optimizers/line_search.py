"""How far to go along a line."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn.types import Scalar, Step

LOOKS = 25  # at most
GROWTH = 2.0  # of the step, until an end of the valley is seen
MARGIN = 0.1  # of the bracket, that the next look keeps from its ends


class Look(NamedTuple):
    """A place on the line, the value there and the slope."""

    place: Scalar
    value: Scalar
    slope: Scalar


class Search(NamedTuple):
    """The best place so far, the other end of the bracket if there is one yet, and where to look next."""

    low: Look
    high: Look
    bracketed: jax.Array
    next: Scalar
    looks: Step
    found: jax.Array


def strong_wolfe(
    along: Callable[[Scalar], tuple[Scalar, Scalar]],
    first: Scalar,
    value: Scalar,
    slope: Scalar,
    sufficient: Scalar,
    curvature: Scalar,
) -> Scalar:
    """A place a with f(a) <= f(0) + sufficient a f'(0) and |f'(a)| <= curvature |f'(0)|, where along(a) = f(a), f'(a).

    The step grows until a bracket is seen, which then shrinks to the minimum of the cubic through its ends. After LOOKS
    looks it is the best place seen [Nocedal & Wright 2006, algorithms 3.5 and 3.6].
    """
    start = Look(
        jnp.zeros_like(first), jnp.asarray(value, first.dtype), jnp.asarray(slope, first.dtype)
    )

    def one(search: Search) -> Search:
        look = Look(search.next, *along(search.next))
        bound = start.value + sufficient * look.place * start.slope
        low_enough = (look.value <= bound) & (look.value < search.low.value)  # false for NaN
        flat = jnp.abs(look.slope) <= curvature * jnp.abs(start.slope)
        ends = search.bracketed | (look.slope >= 0)
        # Downhill from the new place away from the bracket: then the old low place is its other end.
        turned = jnp.where(
            search.bracketed,
            look.slope * (search.high.place - search.low.place) >= 0,
            look.slope >= 0,
        )
        high = _select(low_enough, _select(turned, search.low, search.high), look)
        low = _select(low_enough, look, search.low)
        bracketed = ends | ~low_enough
        after = jnp.where(bracketed, _inside(low, high), GROWTH * look.place)
        return Search(low, high, bracketed, after, search.looks + 1, low_enough & flat)

    def unfinished(search: Search) -> jax.Array:
        return ~search.found & (search.looks < LOOKS)

    none = jnp.zeros((), bool)
    begin = Search(start, start, none, first, jnp.zeros((), jnp.int32), none)
    return jax.lax.while_loop(unfinished, one, begin).low.place


def _inside(low: Look, high: Look) -> Scalar:
    """Where the cubic through both ends is least, kept away from the ends; the middle where there is no such place."""
    span = high.place - low.place
    apart = jnp.where(span == 0, 1, span)
    d1 = low.slope + high.slope - 3 * (high.value - low.value) / apart
    inner = d1 * d1 - low.slope * high.slope
    usable = (inner >= 0) & jnp.isfinite(inner)
    d2 = jnp.sign(span) * jnp.sqrt(jnp.where(usable, inner, 1))
    bottom = high.slope - low.slope + 2 * d2
    usable &= bottom != 0
    share = 1 - (high.slope + d2 - d1) / jnp.where(usable, bottom, 1)
    return low.place + jnp.where(usable, jnp.clip(share, MARGIN, 1 - MARGIN), 0.5) * span


def _select(condition: jax.Array, when_true: Look, when_false: Look) -> Look:
    return Look(*(jnp.where(condition, a, b) for a, b in zip(when_true, when_false, strict=True)))
