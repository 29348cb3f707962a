"""Random splits of a data set into parts, and folds for cross-validation."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.batches import permutation
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Data, RandomKey

ROUNDING = 1e-9  # fractions such as ten times 0.1 may sum to a little more than 1


class Folds(NamedTuple):
    """Example indices of each fold, ascending.

    Attributes:
        train: Training indices int32 (folds, n - n // folds).
        valid: Validation indices int32 (folds, n // folds).
    """

    train: jax.Array
    valid: jax.Array


def split(
    key: RandomKey,
    data: Data,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    stratified: bool = False,
) -> tuple[Data, ...]:
    """Split the data into disjoint random parts.

    The parts end after round(n Σ fractions) examples, so with fractions of sum 1 every example is
    in exactly one part. Inside of jax.jit the parts are traced.

    Args:
        key: Random key that selects the examples of each part.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        fractions: Size of each part as a share of n, in (0, 1]; their sum is at most 1. The default
            is for training, validation and test.
        stratified: Whether every class of the labels int (n,) has the same share in each part, to
            within two examples.

    Returns:
        One pair for each fraction, of the structure of `data`, its examples in their original
        order. NumPy arrays stay NumPy arrays.

    Raises:
        ConfigError: A fraction is outside of (0, 1], their sum is above 1, or a part is empty.
        ShapeError: The arrays are empty or differ in length.
        DTypeError: `key` is not a key, or `stratified` without integer labels.
    """
    checks.key("split key", key)
    n = _count_examples("split data", data)
    sizes = _sizes(n, fractions)
    labels = _class_labels("split data", data, stratified)
    unused = n - sum(sizes)
    # The unused examples are drawn as a last part, which is dropped.
    parts = _draw_parts(key, labels, n, [*sizes, unused])
    selected = []
    for indices in parts[:-1]:
        take = partial(_take, indices=indices)
        selected.append(jax.tree.map(take, data))
    return tuple(selected)


def k_fold(
    key: RandomKey,
    data: Data,
    *,
    folds: int,
    stratified: bool = False,
) -> Folds:
    """Random folds of equal size for k-fold cross-validation.

    All folds have the same shapes, so that cross-validation is a vmap over them:

        def score(train, valid):  # data: of jax arrays
            parts = (jax.tree.map(lambda a: a[part], data) for part in (train, valid))
            ...
        jax.vmap(score)(*data.k_fold(key, data, folds=5))

    Under vmap every fold has a copy of its examples; jax.lax.map needs less memory and computes one
    fold after another [Stone 1974, Cross-validatory choice and assessment of statistical
    predictions].

    Args:
        key: Random key that assigns the examples to folds.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        folds: Number of folds, from 2 to n.
        stratified: Whether every class of the labels int (n,) has the same share in each fold. If
            `folds` divides n, the counts are those of scikit-learn's StratifiedKFold.

    Returns:
        The indices of each fold. Every example is in at most one validation part. The remaining
        n mod folds examples are in every training part and in no validation part.

    Raises:
        ConfigError: `folds` is below 2 or above n.
        ShapeError: The arrays are empty or differ in length.
        DTypeError: `key` is not a key, or `stratified` without integer labels.
    """
    checks.key("k_fold key", key)
    n = _count_examples("k_fold data", data)
    if checks.whole("k_fold folds", folds, 2) > n:
        raise ConfigError(
            "k_fold folds",
            f"at most the {n} examples",
            folds,
            "choose fewer",
        )
    size = n // folds
    labels = _class_labels("k_fold data", data, stratified)
    sizes = [size] * folds + [n - folds * size]
    # The examples that no fold validates are a last part.
    *valid, remaining = _draw_parts(key, labels, n, sizes)
    train = []
    for fold in range(folds):
        others = [*valid[:fold], *valid[fold + 1 :], remaining]
        train.append(jnp.sort(jnp.concatenate(others)))
    return Folds(jnp.stack(train), jnp.stack(valid))


def _count_examples(where: str, data: Data) -> int:
    """Return the common length of the first axes."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(data)]
    lengths = {shape[:1] for shape in shapes}
    # A scalar has the length (), an empty array (0,).
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        expected = "arrays whose first axis is the example, of equal length > 0"
        got = ", ".join(map(str, shapes)) or "no arrays"
        raise ShapeError(where, expected, got, "give such a pair")
    return int(lengths.pop()[0])


def _sizes(n: int, fractions: Sequence[float]) -> list[int]:
    """Return the number of examples of each part, after a check of the fractions."""
    where = "split fractions"
    for fraction in fractions:
        checks.number(where, fraction, "(0, 1]")
    # Rounding the ends and not the sizes makes the sizes add up to n.
    ends = np.rint(n * np.cumsum(fractions)).astype(int)
    sizes = np.diff(ends, prepend=0).tolist()
    total = sum(fractions)
    if total > 1 + ROUNDING:
        raise ConfigError(where, "a sum of at most 1", total, "make some smaller")
    if not sizes or min(sizes) == 0:
        expected = f"one part or more of {n} examples, none empty"
        raise ConfigError(where, expected, sizes, "make some larger")
    return sizes


def _class_labels(
    where: str,
    data: Data,
    stratified: bool,
) -> Any:
    """Return the labels to stratify by, or None."""
    if not checks.flag("stratified", stratified):
        return None
    if not isinstance(data, tuple | list) or len(data) != 2:
        expected = "(inputs, labels) where stratified"
        raise ConfigError(where, expected, type(data).__name__, "give such a pair")
    labels = data[1]
    expected = "labels int[n] where stratified"
    advice = "give class numbers, or stratified=False"
    if not hasattr(labels, "dtype"):
        raise DTypeError(where, expected, type(labels).__name__, advice)
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if np.ndim(labels) != 1 or not is_integer:
        raise DTypeError(where, expected, checks.describe(labels), advice)
    return labels


def _draw_parts(
    key: RandomKey,
    labels: Any,
    n: int,
    sizes: Sequence[int],
) -> list[jax.Array]:
    """Draw disjoint sets of example indices of these sizes, each ascending."""
    order = permutation(key, n)
    if labels is not None:
        # A stable sort by class of a random order: random within each class. The positions of a
        # class are then consecutive, and consecutive positions go to the parts in the ratio of
        # their sizes. Hence each class is split in that ratio.
        shuffled_labels = jnp.asarray(labels)[order]
        order = order[jnp.argsort(shuffled_labels, stable=True)]
    # NumPy, so that the sizes of the parts are static under jit.
    part_of = _part_of_position(sizes)
    parts = []
    for part in range(len(sizes)):
        positions = np.flatnonzero(part_of == part)
        parts.append(jnp.sort(order[positions]))
    return parts


def _part_of_position(sizes: Sequence[int]) -> np.ndarray:
    """Assign positions 0..n - 1 to the parts, those of each part evenly spaced."""
    # Element j of a part of size s is at time (j + ½) / s; positions follow from the sorted times.
    times = []
    for size in sizes:
        times.append((np.arange(size) + 0.5) / max(size, 1))
    order = np.argsort(np.concatenate(times), kind="stable")
    parts = np.repeat(np.arange(len(sizes)), sizes)
    return parts[order]


def _take(array: Any, indices: jax.Array) -> Any:
    """Select examples; a NumPy array stays one, unless the indices are traced."""
    if isinstance(array, np.ndarray) and checks.is_concrete(indices):
        return array[np.asarray(indices)]
    return jnp.asarray(array)[indices]
