"""Scans whose reverse mode recomputes intermediate values, segment by segment.

The gradient of a scan of T steps by `jax.lax.scan` keeps the intermediate values of every step.
Here it keeps the carry before each segment of about √T steps, and computes the intermediate values
of one segment at a time again: memory of about √T carries and √T steps, for one more forward pass
[Griewank 1992; Chen et al. 2016, arXiv:1604.06174].
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from fnn import trees

T = TypeVar("T")
Body = Callable[[Any, Any], tuple[Any, Any]]


def segment_steps(epochs: int, epoch_length: int) -> int:
    """Return the number of steps of a segment of a run: near √T, a part of an epoch or whole ones.

    Args:
        epochs: Number of epochs.
        epoch_length: Steps of an epoch.
    """
    goal = math.isqrt(max(epochs * epoch_length, 1))
    if goal >= epoch_length:
        return epoch_length * nearest_divisor(epochs, max(goal // epoch_length, 1))
    return nearest_divisor(epoch_length, max(goal, 1))


def nearest_divisor(length: int, goal: int) -> int:
    """Return the divisor of a length that is nearest to a goal, or the goal if all are far from it.

    A segment that divides the length needs no second copy of the body for the remainder.

    Args:
        length: Steps of the scan.
        goal: A number of steps in [1, length].
    """
    near = [size for size in range(max(goal // 2, 1), 2 * goal + 1) if length % size == 0]
    return min(near, key=lambda size: abs(math.log(size / goal)), default=goal)


def scan_segments(
    body: Body,
    carry: Any,
    xs: Any,
    *,
    length: int,
    segment: int,
) -> tuple[Any, Any]:
    """Scan as `jax.lax.scan` does, with the same results; reverse mode keeps one carry a segment.

    Args:
        body: (carry, x) -> (carry, y).
        carry: The first carry.
        xs: Inputs (length, ...), or None.
        length: Number of steps.
        segment: Steps of a segment, >= 1.
    """

    @recompute
    def run_segment(carry: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(body, carry, xs, length=segment)

    count, rest = divmod(length, segment)
    whole = count * segment
    # (whole, ...) -> (count, segment, ...)
    split = jax.tree.map(lambda x: x[:whole].reshape(count, segment, *x.shape[1:]), xs)
    carry, ys = jax.lax.scan(run_segment, carry, split, length=count)
    # (count, segment, ...) -> (whole, ...)
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if rest == 0:
        return carry, ys
    remainder = jax.tree.map(lambda x: x[whole:], xs)
    carry, last = jax.lax.scan(body, carry, remainder, length=rest)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), ys, last)


def recompute(function: Callable[..., T]) -> Callable[..., T]:
    """Make reverse mode compute the intermediate values of a function again; within a scan only.

    Random keys among the arguments and results pass as raw bits: JAX's key-reuse checker would
    report the second computation as a reuse.

    Args:
        function: A pure function of pytrees.
    """

    def with_bits(*arguments: Any) -> T:
        bits, restore = trees.split_keys(arguments)
        restore_results: list[Any] = []

        # Within a scan, XLA cannot merge the second computation with the first.
        @partial(jax.checkpoint, prevent_cse=False)
        def compute(bits: list[Any]) -> list[Any]:
            results, restored = trees.split_keys(function(*restore(bits)))
            restore_results.append(restored)
            return results

        results = compute(bits)
        return restore_results[-1](results)

    return with_bits
