"""Parts of a data set, drawn by key: to train, to validate, to test; and folds, to do each with each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.batches import shuffled
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Data, RandomKey


class Folds(NamedTuple):
    """The example numbers of each fold, int32: train (folds, n - n // folds) and valid (folds, n // folds)."""

    train: jax.Array
    valid: jax.Array


def split(
    key: RandomKey,
    data: Data,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    stratified: bool = False,
) -> tuple[Data, ...]:
    """Disjoint parts of the data, drawn by key, each of the same structure, its examples in their order.

    data is (inputs, targets), arrays whose first axis is the example, n of it. The parts end at round(n Σ fractions)
    examples, so that with fractions of sum 1 each example is in one. With stratified=True every class of labels (n,) is
    shared out alike, to an example or two. NumPy arrays stay such and on the host; inside of jax.jit all is traced.
    ConfigError for fractions that are not in (0, 1], of a sum above 1, or leave a part empty.
    """
    checks.key("split key", key)
    n = _examples("split data", data)
    sizes = _sizes(n, fractions)
    chosen = _drawn(key, _labels("split data", data, stratified), n, [*sizes, n - sum(sizes)])
    return tuple(
        jax.tree.map(lambda array, part=part: _take(array, part), data) for part in chosen[:-1]
    )


def k_fold(key: RandomKey, data: Data, *, folds: int, stratified: bool = False) -> Folds:
    """The example numbers of folds for cross-validation, drawn by key, so equal in size that it is a vmap over them.

        def score(train, valid):  # data: of jax arrays
            parts = (jax.tree.map(lambda a: a[part], data) for part in (train, valid))
            ...
        jax.vmap(score)(*data.k_fold(key, data, folds=5))

    Under vmap every fold has a copy of its examples; jax.lax.map takes one after another, where that is too much.
    No example is validated twice; the n mod folds left over are in every fold's training part, in none to validate.
    With stratified=True every class of labels (n,) is shared out alike, where folds divides n as scikit-learn's
    StratifiedKFold does it. The numbers of each part ascend. ConfigError for fewer than 2 folds or more than examples
    [Stone 1974, Cross-validatory choice and assessment of statistical predictions].
    """
    checks.key("k_fold key", key)
    n = _examples("k_fold data", data)
    if checks.whole("k_fold folds", folds, 2) > n:
        raise ConfigError("k_fold folds", f"at most the {n} examples", folds, "choose fewer")
    size = n // folds
    *valid, left = _drawn(
        key, _labels("k_fold data", data, stratified), n, [size] * folds + [n - folds * size]
    )
    others = [
        jnp.sort(jnp.concatenate([*valid[:fold], *valid[fold + 1 :], left]))
        for fold in range(folds)
    ]
    return Folds(jnp.stack(others), jnp.stack(valid))


def _examples(where: str, data: Data) -> int:
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        got = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(data)) or "no arrays"
        raise ShapeError(
            where,
            "arrays whose first axis is the example, as long in each",
            got,
            "give such a pair",
        )
    return int(lengths.pop()[0])


def _sizes(n: int, fractions: Sequence[float]) -> list[int]:
    for fraction in fractions:
        checks.number("split fractions", fraction, "(0, 1]")
    ends = np.rint(n * np.cumsum(fractions)).astype(int)
    sizes = np.diff(ends, prepend=0).tolist()
    if sum(fractions) > 1 + 1e-9:
        raise ConfigError(
            "split fractions", "a sum of at most 1", sum(fractions), "make some smaller"
        )
    if not sizes or min(sizes) == 0:
        raise ConfigError(
            "split fractions",
            f"a part or more of {n} examples, none empty",
            sizes,
            "make some larger",
        )
    return sizes


def _labels(where: str, data: Data, stratified: bool) -> Any:
    if not checks.flag("stratified", stratified):
        return None
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ConfigError(
            where, "(inputs, labels) where stratified", type(data).__name__, "give such a pair"
        )
    labels = data[1]
    if (
        not hasattr(labels, "dtype")
        or np.ndim(labels) != 1
        or not jnp.issubdtype(labels.dtype, jnp.integer)
    ):
        got = checks.describe(labels) if hasattr(labels, "dtype") else type(labels).__name__
        raise DTypeError(
            where, "labels int[n] where stratified", got, "give class numbers, or stratified=False"
        )
    return labels


def _drawn(key: RandomKey, labels: Any, n: int, sizes: Sequence[int]) -> list[jax.Array]:
    """Disjoint example numbers, ascending, so many for each part.

    Examples in random order, but class after class, are dealt to the parts as cards are: then the examples of each
    class, which stand side by side, are shared out in the ratio of the sizes, whatever the labels are.
    """
    order = shuffled(key, n)
    if labels is not None:
        order = order[jnp.argsort(jnp.asarray(labels)[order], stable=True)]
    dealt = _dealt(sizes)
    return [jnp.sort(order[np.flatnonzero(dealt == part)]) for part in range(len(sizes))]


def _dealt(sizes: Sequence[int]) -> np.ndarray:
    """To which part each place goes: card j of a part of size s at the time (j + ½) / s, so each steadily."""
    times = np.concatenate([(np.arange(size) + 0.5) / max(size, 1) for size in sizes])
    return np.repeat(np.arange(len(sizes)), sizes)[np.argsort(times, kind="stable")]


def _take(array: Any, numbers: jax.Array) -> Any:
    on_host = isinstance(array, np.ndarray) and checks.is_concrete(numbers)
    return array[np.asarray(numbers)] if on_host else jnp.asarray(array)[numbers]
