"""Random splits of a data set into parts, and folds for cross-validation."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.data.batches import permutation
from fnn.data.preprocessing import plain_array
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Data, RandomKey

EMPTY = 1e-9  # size of an empty part, by which shares can be divided
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
    groups: Sequence[Any] | jax.Array | np.ndarray | None = None,
) -> tuple[Data, ...]:
    """Split the data into disjoint random parts.

    The parts end after round(n Σ fractions) examples, so with fractions of sum 1 every example is
    in exactly one part. Inside of jax.jit the parts are traced. Parts of whole groups have these
    sizes up to the size of a group.

    Args:
        key: Random key that selects the examples of each part.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        fractions: Size of each part as a share of n, in (0, 1]; their sum is at most 1. The default
            is for training, validation and test.
        stratified: Whether every class of the labels int (n,) has the same share in each part, to
            within two examples. With groups, the shares are as near to it as one group after
            another can bring them.
        groups: Group of each example, n numbers or names, such as the patient of an image; not
            traced. No group is in two parts, so that a part holds only patients that are new.

    Returns:
        One pair for each fraction, of the structure of `data`, its examples in their original
        order. NumPy arrays stay NumPy arrays.

    Raises:
        ConfigError: A fraction is outside of (0, 1], their sum is above 1, or a part is empty.
        ShapeError: The arrays are empty or differ in length, or there is not one group for each
            example.
        DTypeError: `key` is not a key, `stratified` without integer labels, or `groups`, or with
            them the key or the labels, are traced.
    """
    checks.key("split key", key)
    n = _count_examples("split data", data)
    sizes = _sizes(n, fractions)
    labels = _class_labels("split data", data, stratified)
    unused = n - sum(sizes)
    # The unused examples are drawn as a last part, which is dropped.
    sizes = [*sizes, unused]
    parts: Sequence[Any]
    if groups is None:
        parts = _draw_parts(key, labels, n, sizes)
    else:
        parts = _Groups("split", key, groups, labels, n).draw_parts(sizes)
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
    groups: Sequence[Any] | jax.Array | np.ndarray | None = None,
) -> Folds:
    """Random folds of equal size for k-fold cross-validation.

    All folds have the same shapes, so that cross-validation is a vmap over them:

        def score(train, valid):  # examples: a pair of jax arrays
            parts = (jax.tree.map(lambda a: a[part], examples) for part in (train, valid))
            ...  # preprocessing is fitted here, to the training part of the fold
        jax.vmap(score)(*data.k_fold(key, examples, folds=5))

    Under vmap every fold has a copy of its examples; jax.lax.map needs less memory and computes one
    fold after another [Stone 1974, Cross-validatory choice and assessment of statistical
    predictions].

    Args:
        key: Random key that assigns the examples to folds.
        data: (inputs, targets), arrays whose first axis is the example, of length n.
        folds: Number of folds, from 2 to n.
        stratified: Whether every class of the labels int (n,) has the same share in each fold. If
            `folds` divides n, the counts are those of scikit-learn's StratifiedKFold. With groups,
            the shares are as near to it as one group after another can bring them.
        groups: Group of each example, n numbers or names, such as the patient of an image; not
            traced. No group is in the training and the validation part of a fold. Each goes, from
            the largest to the smallest, to the fold with the fewest examples, as in scikit-learn's
            GroupKFold; the key decides among groups of one size.

    Returns:
        The indices of each fold. Every example is in at most one validation part. The remaining
        n mod folds examples are in every training part and in no validation part. Of groups of
        different sizes, the parts of all folds get the size of the smallest: each larger part is
        short of random examples of its largest groups.

    Raises:
        ConfigError: `folds` is below 2 or above n or the number of groups.
        ShapeError: The arrays are empty or differ in length, or there is not one group for each
            example.
        DTypeError: `key` is not a key, `stratified` without integer labels, or `groups`, or with
            them the key or the labels, are traced.
    """
    n = _expect_folds("k_fold", key, data, folds)
    size = n // folds
    labels = _class_labels("k_fold data", data, stratified)
    if groups is not None:
        return _Groups("k_fold", key, groups, labels, n).draw_folds(folds)
    sizes = [size] * folds + [n - folds * size]
    # The examples that no fold validates are a last part.
    *valid, remaining = _draw_parts(key, labels, n, sizes)
    train = []
    for fold in range(folds):
        others = [*valid[:fold], *valid[fold + 1 :], remaining]
        train.append(jnp.sort(jnp.concatenate(others)))
    return Folds(jnp.stack(train), jnp.stack(valid))


def whole_folds(
    where: str,
    key: RandomKey,
    data: Data,
    *,
    folds: int,
    stratified: bool = False,
    groups: Sequence[Any] | jax.Array | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Assign every example to exactly one fold, and draw training parts of one size.

    Without groups, the sizes of the folds differ by at most 1; where stratified, so do the counts
    of each class. Training parts are short of random examples, so that they are as large as that of
    the largest fold: without groups of at most one, with groups of examples of their largest ones.

    Args:
        where: Name of the function in errors.
        key: Random key, not traced.
        data: (inputs, targets).
        folds: Number of folds.
        stratified: As for `k_fold`.
        groups: As for `k_fold`.

    Returns:
        The fold of each example (n,), and the training indices of each fold, ascending,
        (folds, n - largest fold).
    """
    n = _expect_folds(where, key, data, folds)
    labels = _class_labels(f"{where} data", data, stratified)
    if groups is not None:
        return _Groups(where, key, groups, labels, n).draw_whole_folds(folds)
    trees.expect_known(f"{where} key", key)
    trees.expect_known(f"{where} data", labels)
    order = np.asarray(permutation(key, n))
    fold_of = np.empty(n, int)
    # Consecutive positions, and so the examples of a class, go to the folds in turn.
    fold_of[_by_class(order, labels)] = np.arange(n) % folds
    size = n - np.bincount(fold_of).max()
    train = [np.sort(order[fold_of[order] != fold][:size]) for fold in range(folds)]
    return fold_of, np.stack(train).astype(np.int32)


def nested_order(where: str, key: RandomKey, data: Data, *, stratified: bool) -> np.ndarray:
    """Draw an order of the examples (n,) whose prefixes are random subsets.

    Args:
        where: Name of the function in errors.
        key: Random key, not traced.
        data: (inputs, targets).
        stratified: Whether every prefix has the shares of the classes, to within one example each.
    """
    n = _count_examples(f"{where} data", data)
    labels = _class_labels(f"{where} data", data, stratified)
    trees.expect_known(f"{where} key", key)
    trees.expect_known(f"{where} data", labels)
    order = np.asarray(permutation(key, n))
    if labels is None:
        return order
    sorted_order = _by_class(order, labels)
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    # Example j of a class of c examples is at time (j + ½) / c. Ties are in random order.
    times = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    return sorted_order[np.lexsort((rank[sorted_order], times))]


def _by_class(order: np.ndarray, labels: Any) -> np.ndarray:
    """Sort an order of examples by class, if there are labels; it stays random within a class."""
    if labels is None:
        return order
    return order[np.argsort(np.asarray(labels)[order], kind="stable")]


def _expect_folds(where: str, key: RandomKey, data: Data, folds: int) -> int:
    """Return the number of examples, of which there are as many as folds; ConfigError otherwise."""
    checks.key(f"{where} key", key)
    n = _count_examples(f"{where} data", data)
    if checks.whole(f"{where} folds", folds, 2) > n:
        raise ConfigError(
            f"{where} folds",
            f"at most the {n} examples",
            folds,
            "choose fewer",
        )
    return n


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
    expected = "labels int[n] where stratified"
    advice = "give class numbers, or stratified=False"
    labels = data[1]
    if isinstance(labels, np.ma.MaskedArray):
        raise DTypeError(where, expected, "a masked array", advice)
    if not hasattr(labels, "dtype"):
        raise DTypeError(where, expected, type(labels).__name__, advice)
    is_integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if np.ndim(labels) != 1 or not is_integer:
        raise DTypeError(where, expected, checks.describe(labels), advice)
    if isinstance(labels, np.ndarray):
        # Codes, since JAX takes native byte order only, and 32 of 64 bits.
        return np.unique(labels, return_inverse=True)[1]
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


class _Groups:
    """The groups of examples, and the draws of parts that hold whole groups.

    Attributes:
        where: Name of the function in errors.
        codes: Group of each example, from 0, (n,).
        count: Number of groups.
        order: A random order of the examples.
        table: Number of examples by group and class, (groups, classes).
    """

    def __init__(
        self,
        where: str,
        key: RandomKey,
        groups: Any,
        labels: Any,
        n: int,
    ):
        trees.expect_known(f"{where} groups", groups)
        trees.expect_known(f"{where} key", key)
        trees.expect_known(f"{where} data", labels)
        self.where = where
        self.codes = _group_codes(f"{where} groups", groups, n)
        self.count = int(self.codes.max()) + 1
        self.order = np.asarray(permutation(key, n))
        classes = np.zeros(n, int) if labels is None else np.unique(labels, return_inverse=True)[1]
        self.table = np.zeros((self.count, classes.max() + 1))
        np.add.at(self.table, (self.codes, classes), 1)

    def draw_parts(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """Draw disjoint sets of example indices of about these sizes, each ascending.

        The last part may be empty.
        """
        parts = len(sizes) - 1
        if parts > self.count:
            expected = f"{parts} or more, one for each part"
            got = f"{self.count} groups"
            raise ConfigError(f"{self.where} groups", expected, got, "make fewer parts")
        return self._assign(self._shuffled(), np.array(sizes, float), parts)

    def draw_folds(self, folds: int) -> Folds:
        """Draw folds of equal size, whose training and validation parts share no group."""
        parts = self._draw_parts_of_folds(folds)
        valid_size = min(map(len, parts))
        valid = [self._thin(part, valid_size) for part in parts]
        return Folds(jnp.asarray(self._training_parts(parts)), jnp.asarray(np.stack(valid)))

    def draw_whole_folds(self, folds: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw the fold of each example (n,), and training parts of one size without its group."""
        parts = self._draw_parts_of_folds(folds)
        fold_of = np.empty(len(self.codes), int)
        for fold, part in enumerate(parts):
            fold_of[part] = fold
        return fold_of, self._training_parts(parts)

    def _draw_parts_of_folds(self, folds: int) -> list[np.ndarray]:
        if folds > self.count:
            expected = f"at most the {self.count} groups"
            raise ConfigError(f"{self.where} folds", expected, folds, "choose fewer")
        shuffled = self._shuffled()
        # Smaller groups later can level the folds. Stable, so that equal groups stay shuffled.
        by_size = np.argsort(-self.table.sum(1)[shuffled], kind="stable")
        n = len(self.codes)
        return self._assign(shuffled[by_size], np.full(folds, n / folds), folds)

    def _training_parts(self, parts: list[np.ndarray]) -> np.ndarray:
        """Return all other examples of each part, as many as of the largest part."""
        n = len(self.codes)
        size = n - max(map(len, parts))
        others = [np.setdiff1d(np.arange(n), part) for part in parts]
        return np.stack([self._thin(indices, size) for indices in others])

    def _shuffled(self) -> np.ndarray:
        # The groups in the order of their first examples in the random order.
        _, first = np.unique(self.codes[self.order], return_index=True)
        return np.argsort(first)

    def _assign(
        self,
        groups: np.ndarray,
        sizes: np.ndarray,
        needed: int,
    ) -> list[np.ndarray]:
        """Assign each group in turn to the part that it brings nearest to its share.

        The distance is Σ (count - share)² / share over the classes of a part, as in a χ² test.

        Args:
            groups: All groups, in the order in which they are assigned.
            sizes: Number of examples of each part.
            needed: Number of parts, from the first, that must not be empty.
        """
        part_of = np.zeros(self.count, int)
        # (parts, classes); a part of size 0 gets a share that no group fits.
        shares = np.maximum(sizes, EMPTY)[:, None] / len(self.codes) * self.table.sum(0)
        filled = np.zeros_like(shares)
        for index, group in enumerate(groups):
            added = self.table[group]
            growth = (added * (2 * (filled - shares) + added) / shares).sum(1)
            is_empty = (filled.sum(1) == 0) & (np.arange(len(sizes)) < needed)
            # The last groups go to the parts that have none.
            if is_empty.sum() >= len(groups) - index:
                growth = np.where(is_empty, growth, np.inf)
            part_of[group] = growth.argmin()
            filled[part_of[group]] += added
        parts = [np.flatnonzero(part_of[self.codes] == part) for part in range(len(sizes))]
        return [part.astype(np.int32) for part in parts]

    def _thin(self, indices: np.ndarray, size: int) -> np.ndarray:
        """Return this number of the examples, without random ones of the largest groups."""
        shuffled = self.order[np.isin(self.order, indices)]
        by_group = shuffled[np.argsort(self.codes[shuffled], kind="stable")]
        # The examples of a group are numbered, and the smallest numbers of all groups are kept.
        _, first, lengths = np.unique(self.codes[by_group], return_index=True, return_counts=True)
        number_in_group = np.arange(len(by_group)) - np.repeat(first, lengths)
        kept = by_group[np.argsort(number_in_group, kind="stable")[:size]]
        return np.sort(kept).astype(np.int32)


def _group_codes(where: str, groups: Any, n: int) -> np.ndarray:
    """Return the group of each example as a number from 0."""
    expected = "numbers or names"
    if isinstance(groups, np.ma.MaskedArray):
        raise DTypeError(where, expected, "a masked array", "give each example a group")
    array = np.asarray(checks.as_array(where, groups))
    if array.shape != (n,):
        raise ShapeError(where, f"one for each example, ({n},)", array.shape, "give one for each")
    try:
        is_nan = bool((array != array).any())
        codes = np.unique(array, return_inverse=True)[1]
    # Of objects of several types there is no order.
    except TypeError as error:
        raise DTypeError(where, expected, error, "convert them to text") from error
    if is_nan:
        raise DTypeError(where, expected, "NaN", "give each example a group")
    return codes


def _part_of_position(sizes: Sequence[int]) -> np.ndarray:
    """Assign positions 0..n - 1 to the parts, those of each part evenly spaced."""
    # Element j of a part of size s is at time (j + ½) / s; positions follow from the sorted times.
    times = []
    for size in sizes:
        times.append((np.arange(size) + 0.5) / max(size, 1))
    order = np.argsort(np.concatenate(times), kind="stable")
    parts = np.repeat(np.arange(len(sizes)), sizes)
    return parts[order]


def _take(array: Any, indices: jax.Array | np.ndarray) -> Any:
    """Select examples; a NumPy array stays one, unless the indices are traced."""
    if isinstance(array, np.ndarray) and checks.is_concrete(indices):
        return array[np.asarray(indices)]
    return jnp.asarray(plain_array("split data", array))[indices]
