"""Leakage: examples of validation that training has too, exactly, mirrored or nearly."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import data
from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule

ERROR_SHARE = 0.01  # of the validation examples
WARNING_SHARE = 1e-3
RICH = 64  # numbers of an example from which on equal ones are no coincidence
IMAGE_RANK = 4  # the batch axis is counted
WIDTH_AXIS = 2
NEAR = 0.01  # of the median distance to the nearest neighbor
NEAR_SHARE = 0.02  # of the sampled validation examples
SAMPLED = 256  # validation examples whose neighbors are searched
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
    kinds = [(leaf.dtype, leaf.shape[1:]) for leaf in leaves]
    if kinds != [(leaf.dtype, leaf.shape[1:]) for leaf in valid_leaves]:
        return
    if not all(map(_is_number, leaves)):
        return
    count = len(valid_leaves[0])
    exact = data.overlap(others, inputs)
    yield from _count_findings("equal to", exact, count, leaves)
    images = leaves[0]
    if len(leaves) == 1 and images.ndim == IMAGE_RANK:
        mirrored = jax.tree.map(lambda leaf: np.flip(np.asarray(leaf), WIDTH_AXIS), others)
        # Mirror images of themselves are counted once, as equal.
        flipped = data.overlap(mirrored, inputs) - _symmetric(others, mirrored, inputs)
        yield from _count_findings("mirror images of", flipped, count, leaves)
    is_float = jnp.issubdtype(images.dtype, jnp.floating)
    if len(leaves) == 1 and (is_float or _is_image(images)):
        yield from _near_findings(np.asarray(images), np.asarray(valid_leaves[0]))


def _is_number(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.number))


def _is_image(leaf: Any) -> bool:
    return leaf.dtype == jnp.uint8 and leaf.ndim == IMAGE_RANK


def _symmetric(others: Any, mirrored: Any, inputs: Any) -> int:
    """Count the examples that equal their mirror images and are in training."""
    array = np.asarray(jax.tree.leaves(others)[0])
    mirror = np.asarray(jax.tree.leaves(mirrored)[0])
    axes = tuple(range(1, array.ndim))
    same = (array == mirror).all(axes)
    if not same.any():
        return 0
    chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[same], others)
    return data.overlap(chosen, inputs)


def _count_findings(
    relation: str,
    found: int,
    count: int,
    leaves: list[Any],
) -> Iterator[Finding]:
    share = found / count
    numbers = sum(int(np.prod(leaf.shape[1:])) for leaf in leaves)
    # Rows of a few numbers, such as those of a table of categories, are equal by chance.
    is_rich = numbers >= RICH
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
    # Evenly spaced samples, so that sorted data is sampled from all its classes.
    known = _spaced(inputs, max(1, MAX_NUMBERS // max(numbers, 1)))
    queries = _spaced(others, SAMPLED)
    distances = nearest_distances(known, queries)
    # Equal examples have a finding of their own.
    apart = distances[distances > 0]
    if len(apart) < len(distances) / 2:
        return
    median = float(np.median(apart))
    near = int((apart < NEAR * median).sum())
    share = near / len(distances)
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
    squares = np.square(rows).sum(1)[None] - 2 * points @ rows.T
    nearest = squares.argmin(1)
    # The difference itself, since the form above rounds small distances away.
    differences = points - rows[nearest]
    distances: np.ndarray = np.linalg.norm(differences, axis=1)
    return distances


def _spaced(array: np.ndarray, count: int) -> np.ndarray:
    """Return at most this number of examples, evenly spaced."""
    places = np.linspace(0, len(array) - 1, min(count, len(array))).astype(int)
    return array[places]
