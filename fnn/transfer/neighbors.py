"""Nearest neighbors: classification, regression and retrieval by features, without training."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, LabelError, ShapeError
from fnn.train.arrays import ONE_CALL, raise_at_first, read_extremes, validate_data
from fnn.types import Number

METRICS = ("cosine", "euclidean")
WEIGHTS = ("similarity", "distance", "uniform")


class Retrieved(NamedTuple):
    """The most similar examples of a bank for each query, the most similar first.

    Attributes:
        indices: In the bank, int32 (queries, k). Among equals the lower index is first.
        similarities: Cosines, or minus Euclidean distances, (queries, k).
    """

    indices: jax.Array
    similarities: jax.Array


class Neighbors(NamedTuple):
    """The predictions of nearest neighbors.

    Attributes:
        outputs: Of labels the weighted share of each class, (queries, classes); of floats their
            weighted mean, (queries, ...).
        indices: Of the neighbors, (queries, k).
        similarities: (queries, k).
    """

    outputs: jax.Array
    indices: jax.Array
    similarities: jax.Array

    @property
    def labels(self) -> jax.Array:
        """The class of the largest share, the first one among equals, (queries,)."""
        return self.outputs.argmax(-1)


def retrieve(
    queries: Any,
    bank: Any,
    *,
    k: int,
    metric: str = "cosine",
    batch_size: int = 1024,
) -> Retrieved:
    """Find the k most similar examples of a bank for each query, exactly.

    One compiled program compares batches of queries with batches of the bank, so that memory is
    bounded by `batch_size`² similarities.

    Args:
        queries: Features (queries, width).
        bank: Features (n, width), as from `transfer.features`.
        k: Number of examples, from 1 to n.
        metric: "cosine", xᵀy / (|x| |y|), which is 0 for a vector of zeros; or "euclidean",
            -|x - y|.
        batch_size: Largest number of queries, and of examples of the bank, that are compared at
            once.

    Raises:
        ConfigError: `k` is larger than the bank, or an option is out of range.
        ShapeError: Features are not (n, width), or their widths differ.
        DTypeError: They are not numbers.
        NonFiniteError: They are NaN or infinite.
    """
    return _search("retrieve", queries, bank, "bank", k, metric, batch_size)


def nearest_neighbors(
    features: Any,
    targets: Any,
    queries: Any,
    *,
    k: int = 20,
    metric: str = "cosine",
    weights: str = "similarity",
    temperature: Number = 0.07,
    classes: int | None = None,
    batch_size: int = 1024,
) -> Neighbors:
    """Predict by the k nearest neighbors among examples with known targets.

    With weights="similarity" a neighbor of similarity s counts exp(s / temperature) [Wu et al.
    2018, arXiv:1805.01978; Caron et al. 2021, arXiv:2104.14294, with these defaults]. With
    "uniform" or "distance" and metric="euclidean" the predictions are those of scikit-learn's
    KNeighborsClassifier and KNeighborsRegressor.

    Args:
        features: Of the examples, (n, width).
        targets: Labels, integers (n,); or floats (n, ...).
        queries: Features of the examples to predict, (queries, width), any number of them.
        k: Number of neighbors, from 1 to n.
        metric: "cosine" or "euclidean", as for `retrieve`.
        weights: "similarity"; "distance", 1 / d with d = 1 - cosine or |x - y|, where a neighbor at
            distance 0 has all the weight; or "uniform".
        temperature: Of weights="similarity", > 0.
        classes: Number of classes; by default the largest label + 1.
        batch_size: As for `retrieve`.

    Raises:
        ConfigError: As `retrieve`; or `classes` is missing for traced labels.
        LabelError: A label is not in 0 <= label < classes.
        ShapeError: As `retrieve`, or there is not one target for each example.
        DTypeError: As `retrieve`.
        NonFiniteError: As `retrieve`.
    """
    checks.choice("nearest_neighbors weights", weights, WEIGHTS)
    checks.number("nearest_neighbors temperature", temperature, "(0, inf)")
    x, y = validate_data("nearest_neighbors", (features, targets), ONE_CALL)
    checks.one_array("nearest_neighbors targets", y)
    _expect_k("nearest_neighbors", k, len(y))
    is_label = jnp.issubdtype(y.dtype, jnp.integer)
    if is_label and y.ndim != 1:
        advice = "give one label an example"
        raise ShapeError(
            "nearest_neighbors targets",
            "labels (n,)",
            y.shape,
            advice,
        )
    # 0 marks targets that are numbers.
    count = count_classes("nearest_neighbors", y, classes) if is_label else 0
    found = _search("nearest_neighbors", queries, x, "features", k, metric, batch_size)
    own = jnp.asarray(y, jnp.int32) if is_label else jnp.asarray(y)
    return Neighbors(
        _combine(
            found,
            own,
            temperature,
            metric,
            weights,
            count,
        ),
        *found,
    )


def _search(
    where: str,
    queries: Any,
    bank: Any,
    bank_name: str,
    k: int,
    metric: str,
    batch_size: int,
) -> Retrieved:
    """Retrieve after the checks, whose errors name the function that was called."""
    checks.choice(f"{where} metric", metric, METRICS)
    checks.whole(f"{where} batch_size", batch_size)
    left = expect_features(f"{where} queries", queries)
    right = expect_features(f"{where} {bank_name}", bank).astype(left.dtype)
    _expect_one_width(where, left, right, bank_name)
    _expect_k(where, k, len(right))
    return _retrieve(left, right, k, metric, batch_size)


def expect_features(where: str, features: Any, width: int | None = None) -> jax.Array:
    """Return features (n, width) as floats of at least 32 bits.

    Raises:
        ShapeError: They have another rank or width.
        DTypeError: They are not one array of numbers.
        NonFiniteError: They are NaN or infinite.
    """
    checks.one_array(where, features)
    # The checks are for pairs, so the features are in both places.
    x, _ = validate_data(where, (features, features), ONE_CALL)
    x = jnp.asarray(x)
    # Similarities in 16 bits would make close neighbors equal.
    if not jnp.issubdtype(x.dtype, jnp.floating) or jnp.finfo(x.dtype).bits < 32:
        x = x.astype(jnp.float32)
    expected = f"(n, {'width' if width is None else width})"
    if x.ndim != 2:
        advice = "flatten them, x.reshape(len(x), -1), or take means, x.mean((1, 2))"
        raise ShapeError(
            where,
            expected,
            x.shape,
            advice,
        )
    if width is not None and x.shape[1] != width:
        raise ShapeError(
            where,
            expected,
            x.shape,
            "give features of the same layer",
        )
    return x


def count_classes(where: str, labels: jax.Array, classes: int | None) -> int:
    """Return the number of classes, by default the largest label + 1.

    Raises:
        ConfigError: It is not a whole number >= 2, or is missing for traced labels.
        LabelError: A label is out of range.
    """
    # Labels within jax.jit have no known extremes: None.
    extremes = read_extremes(labels)
    if classes is None:
        if extremes is None:
            expected = "a number, for traced labels"
            raise ConfigError(
                f"{where} classes",
                expected,
                None,
                "give classes=",
            )
        # At least 2, also if the labels are all 0.
        classes = max(int(extremes.high) + 1, 2)
    checks.whole(f"{where} classes", classes, 2)
    if extremes is not None and not (extremes.low >= 0 and extremes.high < classes):
        host = np.asarray(labels)
        wrong = (host < 0) | (host >= classes)
        advice = "give more classes=, or leave these examples out"
        expected = f"0 <= label < {classes}"
        raise_at_first(
            LabelError,
            f"{where} labels",
            expected,
            host,
            wrong,
            advice,
        )
    return classes


def _expect_one_width(
    where: str,
    queries: jax.Array,
    bank: jax.Array,
    bank_name: str,
) -> None:
    if queries.shape[1] != bank.shape[1]:
        advice = "give features of one layer of one network"
        expected = f"the width of the {bank_name}, {bank.shape[1]}"
        raise ShapeError(
            f"{where} queries",
            expected,
            queries.shape[1],
            advice,
        )


def _expect_k(where: str, k: int, examples: int) -> None:
    if checks.whole(f"{where} k", k) > examples:
        expected = f"at most the {examples} examples"
        raise ConfigError(
            f"{where} k",
            expected,
            k,
            "choose fewer neighbors",
        )


@partial(jax.jit, static_argnums=(2, 3, 4))
def _retrieve(
    queries: jax.Array,
    bank: jax.Array,
    k: int,
    metric: str,
    batch_size: int,
) -> Retrieved:
    if metric == "cosine":
        queries, bank = _normalize(queries), _normalize(bank)
    else:
        # Distances do not change, and the products of small vectors are more precise.
        center = bank.mean(0)[None]
        queries, bank = queries - center, bank - center
    # (batches, batch, width) and (parts, size, width), padded
    rows = _in_batches(queries, batch_size)
    parts = _in_batches(bank, batch_size)
    size = parts.shape[1]
    # The index in the bank of the first row of each part, (parts,).
    starts = jnp.arange(len(parts), dtype=jnp.int32) * size

    def of_batch(x: jax.Array) -> Retrieved:
        def merge(best: Retrieved, part: tuple[jax.Array, jax.Array]) -> tuple[Retrieved, None]:
            y, start = part
            indices = start + jnp.arange(size, dtype=jnp.int32)
            scores = _scores(x, y, metric)  # (batch, size)
            # The padding of the last batch is not retrieved.
            scores = jnp.where((indices < len(bank))[None], scores, -jnp.inf)
            own = jnp.broadcast_to(indices[None], scores.shape)
            # Examples of earlier batches come first, so that the lower index wins a tie.
            all_scores = jnp.concatenate([best.similarities, scores], 1)
            all_indices = jnp.concatenate([best.indices, own], 1)
            # (batch, k + size) -> (batch, k)
            values, places = jax.lax.top_k(all_scores, k)
            return Retrieved(jnp.take_along_axis(all_indices, places, 1), values), None

        # Any example is more similar than none.
        none = jnp.full((len(x), k), -jnp.inf, x.dtype)
        start = Retrieved(jnp.zeros(none.shape, jnp.int32), none)
        # A running list of the best k, so that memory does not grow with the bank.
        best, _ = jax.lax.scan(merge, start, (parts, starts))
        return best if metric == "cosine" else _with_distances(x, bank, best)

    found = jax.lax.map(of_batch, rows)
    # (batches, batch, k) -> (queries, k)
    return Retrieved(*(one.reshape(-1, k)[: len(queries)] for one in found))


def _normalize(x: jax.Array) -> jax.Array:
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    # A vector of zeros stays 0, and so do its cosines.
    return x / jnp.where(norm > 0, norm, 1)


def _in_batches(x: jax.Array, batch_size: int) -> jax.Array:
    """Return (n, width) as (batches, batch, width), padded with zeros."""
    # A small bank is one batch, without padding.
    size = min(batch_size, len(x))
    batches = -(-len(x) // size)
    padded = jnp.pad(x, ((0, batches * size - len(x)), (0, 0)))
    # (batches * size, width) -> (batches, size, width)
    return padded.reshape(batches, size, -1)


def _scores(x: jax.Array, y: jax.Array, metric: str) -> jax.Array:
    """Return cosines of normalized vectors, or minus squared distances, (queries, bank)."""
    # GPUs would round the factors to 10 bits.
    # (batch, width) @ (width, size) -> (batch, size)
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    if metric == "cosine":
        return products
    # -|x - y|² = 2 xᵀy - |x|² - |y|²
    return 2 * products - jnp.square(x).sum(1)[:, None] - jnp.square(y).sum(1)[None]


def _with_distances(x: jax.Array, bank: jax.Array, found: Retrieved) -> Retrieved:
    """Return the retrieved examples in the order of their distances, computed from differences.

    The squared distances of products are rounded to the size of the vectors.
    """

    def of_query(query: tuple[jax.Array, jax.Array]) -> Retrieved:
        vector, indices = query
        # (k, width)
        distances = jnp.linalg.norm(bank[indices] - vector[None], axis=1)
        # By index first, so that the lower one wins a tie.
        order = jnp.lexsort((indices, distances))
        return Retrieved(indices[order], -distances[order])

    return jax.lax.map(of_query, (x, found.indices))


@partial(jax.jit, static_argnums=(3, 4, 5))
def _combine(
    found: Retrieved,
    targets: jax.Array,
    temperature: Number,
    metric: str,
    weights: str,
    classes: int,
) -> jax.Array:
    """Return weighted shares of classes, or weighted means of targets."""
    s = found.similarities
    if weights == "similarity":
        # Normalized, so that exp does not overflow.
        shares = jax.nn.softmax(s / jnp.asarray(temperature, s.dtype), axis=1)
    elif weights == "distance":
        # Distances, (queries, k). Rounding may lift a cosine above 1.
        d = jnp.maximum(1 - s if metric == "cosine" else -s, 0)
        is_same = d == 0
        # The next line does not use the entries where 0 was replaced.
        inverse = 1 / jnp.where(is_same, 1, d)
        # Neighbors at distance 0 share all of the weight, as in scikit-learn.
        raw = jnp.where(is_same.any(1, keepdims=True), is_same.astype(s.dtype), inverse)
        shares = raw / raw.sum(1, keepdims=True)
    else:
        shares = jnp.full_like(s, 1 / s.shape[1])
    own = targets[found.indices]  # (queries, k, ...)
    # (queries, k) labels -> (queries, k, classes), whose mean are the shares
    own = jax.nn.one_hot(own, classes, dtype=s.dtype) if classes else own.astype(s.dtype)
    # (queries, k), (queries, k, ...) -> (queries, ...)
    return jnp.einsum("qk,qk...->q...", shares, own)
