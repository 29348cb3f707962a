"""Leakage: examples of validation that training has too, exactly, mirrored or nearly."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import data
from fnn.diagnose.data_rules import spaced
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule

ERROR_SHARE = 0.01  # of the validation examples
WARNING_SHARE = 1e-3
RICH = 64  # numbers of an example from which on equal ones are no coincidence
IMAGE_RANK = 4  # the batch axis is counted
WIDTH_AXIS = 2
NEAR = 0.01  # of the median distance to the nearest neighbor
NEAR_SHARE = 0.02  # of the sampled validation examples
SAMPLED = 256  # validation examples whose neighbors are searched
MAX_ROWS = 100_000  # examples of each part that are compared, some tenths of a second
MAX_NUMBERS = 2**24  # of training examples among which neighbors are searched

LEAKAGE = Rule(
    "P15",
    "leakage",
    "fnn; near-duplicates: Barz & Denzler 2020, arXiv:1902.00423",
    (
        "the examples were copied or augmented before the split",
        "several examples of one source are in both parts",
    ),
    ("remove the duplicates from validation", "split by source before any augmentation"),
    "validate on the examples that training lacks",
)


def leakage_findings(inputs: Any, others: Any) -> Iterator[Finding]:
    """Find inputs of validation that are among those of training.

    Args:
        inputs: Of training, arrays (n, ...) as they are stored.
        others: Of validation, arrays (m, ...) of the same structure.
    """
    leaves = jax.tree.leaves(inputs)
    valid_leaves = jax.tree.leaves(others)
    # Examples of other dtypes, such as bytes and floats, never have equal numbers in memory.
    if _kinds(leaves) != _kinds(valid_leaves):
        return
    inputs, others = jax.tree.map(_first_rows, (inputs, others))
    leaves = jax.tree.leaves(inputs)
    valid_leaves = jax.tree.leaves(others)
    count = len(valid_leaves[0])
    exact = data.overlap(others, inputs)
    yield from _count_findings("equal to", exact, count, leaves)
    images = leaves[0]
    if len(leaves) == 1 and images.ndim == IMAGE_RANK:
        flipped = _count_mirrored(np.asarray(valid_leaves[0]), images)
        yield from _count_findings("mirror images of", flipped, count, leaves)
    is_float = jnp.issubdtype(images.dtype, jnp.floating)
    if len(leaves) == 1 and (is_float or _is_image(images)):
        yield from _near_findings(np.asarray(images), np.asarray(valid_leaves[0]))


def _first_rows(leaf: Any) -> np.ndarray:
    return spaced(np.asarray(leaf), MAX_ROWS)


def _kinds(leaves: list[Any]) -> list[Any]:
    """Return dtype and shape of an example of each array."""
    return [(leaf.dtype, leaf.shape[1:]) for leaf in leaves]


def _is_image(leaf: Any) -> bool:
    return leaf.dtype == jnp.uint8 and leaf.ndim == IMAGE_RANK


def _count_mirrored(others: np.ndarray, inputs: Any) -> int:
    """Count the images whose mirror image is in training, and that are not symmetric."""
    mirrored = np.flip(others, WIDTH_AXIS)
    axes = tuple(range(1, others.ndim))
    # A symmetric image is counted as equal.
    is_other = (others != mirrored).any(axes)
    if not is_other.any():
        return 0
    return data.overlap(mirrored[is_other], inputs)


def _count_findings(
    relation: str,
    found: int,
    count: int,
    leaves: list[Any],
) -> Iterator[Finding]:
    share = found / count
    sizes = [int(np.prod(leaf.shape[1:])) for leaf in leaves]
    # Rows of a few numbers, such as those of a table of categories, are equal by chance.
    is_rich = sum(sizes) >= RICH
    if share <= WARNING_SHARE:
        return
    severity = ERROR if share > ERROR_SHARE else WARNING
    title = f"{found:,} of {count:,} validation examples ({share:.1%}) are {relation} training ones"
    yield LEAKAGE.finding(
        severity if is_rich else INFO,
        title,
        {"count": found, "share": share},
        f"> {WARNING_SHARE:.1%} for a warning, > {ERROR_SHARE:.0%} for an error",
        layer="valid",
    )


def _near_findings(inputs: np.ndarray, others: np.ndarray) -> Iterator[Finding]:
    numbers = int(np.prod(inputs.shape[1:]))
    affordable = MAX_NUMBERS // max(numbers, 1)
    known = spaced(inputs, max(affordable, 1))
    queries = spaced(others, SAMPLED)
    distances = nearest_distances(known, queries)
    # Equal examples have a finding of their own.
    apart = distances[distances > 0]
    if len(apart) < len(distances) / 2:
        return
    median = float(np.median(apart))
    is_near = apart < NEAR * median
    share = float(is_near.sum() / len(distances))
    if share <= NEAR_SHARE:
        return
    title = f"{share:.1%} of sampled validation examples are nearly equal to a training one"
    yield LEAKAGE.finding(
        WARNING,
        title,
        {"share": share, "median_distance": median},
        f"distance < {NEAR} of the median, > {NEAR_SHARE:.0%}",
        layer="valid",
    )


def nearest_distances(known: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the distance of each query (m, ...) to the nearest known example (n, ...)."""
    rows = known.reshape(len(known), -1).astype(np.float32)
    points = queries.reshape(len(queries), -1).astype(np.float32)
    # Of the mean, since the squared form loses digits where numbers are far from 0.
    center = rows.mean(0)
    rows -= center
    points -= center
    # |a - b|² = |a|² + |b|² - 2 a·b; the first of them is the same for all of a row. (m, n)
    lengths = np.square(rows).sum(1)
    squares = lengths[None] - 2 * points @ rows.T
    nearest = squares.argmin(1)
    # The difference itself, since the form above rounds small distances away.
    differences = points - rows[nearest]
    distances: np.ndarray = np.linalg.norm(differences, axis=1)
    return distances
