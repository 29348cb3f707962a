"""Line search for the strong Wolfe conditions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn.types import Scalar, Step

MAX_TRIALS = 25  # evaluations of the function
GROWTH = 2.0  # of the trial length, until there is a bracket
MARGIN = 0.1  # least distance of a trial from the ends of the bracket, as a share of its width


class Point(NamedTuple):
    """A point on the line.

    Attributes:
        length: The distance a from the start.
        value: f(a)
        slope: f'(a)
    """

    length: Scalar
    value: Scalar
    slope: Scalar


class Search(NamedTuple):
    """The state of the search.

    Attributes:
        low: The point with the least value so far.
        high: The other end of the bracket; the start before there is one.
        bracketed: Whether a minimum is known to lie between low and high.
        trial: The length to evaluate next.
        trials: The number of evaluations so far.
        found: Whether low satisfies both conditions.
    """

    low: Point
    high: Point
    bracketed: Array
    trial: Scalar
    trials: Step
    found: Array


def strong_wolfe(
    along: Callable[[Scalar], tuple[Scalar, Scalar]],
    first: Scalar,
    value: Scalar,
    slope: Scalar,
    sufficient: Scalar,
    curvature: Scalar,
) -> Scalar:
    """Find a length a with f(a) <= f(0) + sufficient a f'(0) and |f'(a)| <= curvature |f'(0)|.

    The trial length grows until a bracket is found. The bracket then shrinks to the minimum of the
    cubic through its ends. After MAX_TRIALS evaluations the length with the least value is returned
    [Nocedal & Wright 2006, algorithms 3.5 and 3.6].

    Args:
        along: (a) -> (f(a), f'(a))
        first: The first trial length, > 0.
        value: f(0)
        slope: f'(0), < 0.
        sufficient: Least share of the expected decrease.
        curvature: Largest share of the slope that is left.
    """
    start = Point(
        length=jnp.zeros_like(first),
        value=jnp.asarray(value, first.dtype),
        slope=jnp.asarray(slope, first.dtype),
    )

    def evaluate(search: Search) -> Search:
        # The loss may have another dtype than the params.
        new_value, new_slope = along(search.trial)
        point = Point(
            length=search.trial,
            value=new_value.astype(first.dtype),
            slope=new_slope.astype(first.dtype),
        )
        bound = start.value + sufficient * point.length * start.slope
        # Both comparisons are false for NaN, so that such a point becomes the high end.
        decreases = (point.value <= bound) & (point.value < search.low.value)
        largest_slope = curvature * jnp.abs(start.slope)
        is_flat = jnp.abs(point.slope) <= largest_slope
        # Where f rises from the new point towards the high end, the minimum lies between it
        # and the old low point, which becomes the high end. Without a bracket, the search
        # goes towards larger lengths.
        rises_to_high = jnp.where(
            search.bracketed,
            point.slope * (search.high.length - search.low.length) >= 0,
            point.slope >= 0,
        )
        high = _select(rises_to_high, search.low, search.high)
        high = _select(decreases, high, point)
        low = _select(decreases, point, search.low)
        bracketed = search.bracketed | (point.slope >= 0) | ~decreases
        longer = GROWTH * point.length
        trial = jnp.where(bracketed, _next_trial(low, high), longer)
        return Search(
            low=low,
            high=high,
            bracketed=bracketed,
            trial=trial,
            trials=search.trials + 1,
            found=decreases & is_flat,
        )

    def is_unfinished(search: Search) -> Array:
        return ~search.found & (search.trials < MAX_TRIALS)

    false = jnp.zeros((), bool)
    count = jnp.zeros((), jnp.int32)
    begin = Search(
        low=start,
        high=start,
        bracketed=false,
        trial=first,
        trials=count,
        found=false,
    )
    end = jax.lax.while_loop(is_unfinished, evaluate, begin)
    return end.low.length


def _next_trial(low: Point, high: Point) -> Scalar:
    """The minimum of the cubic through both ends, clipped to inside of them; else the middle."""
    width = high.length - low.length
    safe_width = jnp.where(width == 0, 1, width)
    # d1, d2 and the minimum as in equation 3.59 of the book.
    rise = high.value - low.value
    d1 = low.slope + high.slope - 3 * rise / safe_width
    radicand = d1 * d1 - low.slope * high.slope
    # A cubic without a minimum has a negative radicand, and
    # ends that are not finite have NaN or inf.
    valid = (radicand >= 0) & jnp.isfinite(radicand)
    safe_radicand = jnp.where(valid, radicand, 1)
    d2 = jnp.sign(width) * jnp.sqrt(safe_radicand)
    divisor = high.slope - low.slope + 2 * d2
    valid &= divisor != 0
    safe_divisor = jnp.where(valid, divisor, 1)
    share = 1 - (high.slope + d2 - d1) / safe_divisor
    share = jnp.clip(share, MARGIN, 1 - MARGIN)
    share = jnp.where(valid, share, 0.5)
    return low.length + share * width


def _select(condition: Array, when_true: Point, when_false: Point) -> Point:
    return Point(
        length=jnp.where(condition, when_true.length, when_false.length),
        value=jnp.where(condition, when_true.value, when_false.value),
        slope=jnp.where(condition, when_true.slope, when_false.slope),
    )
