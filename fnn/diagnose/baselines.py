"""Scores of predictors without a network: ridge regression and nearest neighbors."""

import weakref
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

NEIGHBORS = 10
AGREEING = 8  # of the neighbors, that make a label doubtful
MAX_FEATURES = 256  # more features are projected to random directions
RIDGE = 0.1  # penalty relative to the mean square of the features
HELD_OUT = 4  # every fourth example of a sample is held out where there is no validation
MAX_KEPT = 16  # data sets whose scores are remembered


class Baselines(NamedTuple):
    """Scores on held-out examples: accuracy, or the explained share of the variance.

    Attributes:
        linear: Of ridge regression.
        neighbor: Of the nearest neighbor.
        neighbor_within: Of the nearest neighbor on the training sample, each example left out.
        doubtful_share: Share of the training sample where 8 of the 10 nearest neighbors agree on
            another label; NaN without classes.
        suspects: Indices of these examples within the sample.
    """

    linear: float = np.nan
    neighbor: float = np.nan
    neighbor_within: float = np.nan
    doubtful_share: float = np.nan
    suspects: tuple[int, ...] = ()


_kept: dict[Hashable, tuple[Any, Baselines]] = {}


def find_baselines(
    inputs: np.ndarray,
    targets: np.ndarray,
    valid_inputs: np.ndarray | None,
    valid_targets: np.ndarray | None,
    classes: int,
) -> Baselines:
    """Score ridge regression and nearest neighbors on held-out examples.

    Args:
        inputs: Sample of training inputs, (n, ...).
        targets: Labels (n,), or values (n, ...).
        valid_inputs: (v, ...); None to hold out a quarter of the sample.
        valid_targets: (v, ...), or None.
        classes: Number of classes; 0 if the targets are values.
    """
    x = inputs.reshape(len(inputs), -1).astype(np.float32)
    if not np.isfinite(x).all() or len(x) < 4 * NEIGHBORS:
        return Baselines()
    y = _one_hot(targets, classes)
    if valid_inputs is None or valid_targets is None:
        is_held = np.arange(len(x)) % HELD_OUT == 0
        fit_x, fit_y = x[~is_held], y[~is_held]
        held_x, held_y = x[is_held], y[is_held]
    else:
        fit_x, fit_y = x, y
        held_x = valid_inputs.reshape(len(valid_inputs), -1).astype(np.float32)
        held_y = _one_hot(valid_targets, classes)
    change = _standardizer(fit_x)
    fit_x, held_x = change(fit_x), change(held_x)
    nearest = _distances(held_x, fit_x).argmin(1)
    distances = _distances(change(x), change(x))
    np.fill_diagonal(distances, np.inf)
    doubtful: np.ndarray = np.zeros(0, int)
    share = np.nan
    if classes:
        doubtful = _doubtful(distances, targets, classes)
        share = len(doubtful) / len(x)
    return Baselines(
        linear=_score(_ridge(fit_x, fit_y, held_x), held_y, classes),
        neighbor=_score(fit_y[nearest], held_y, classes),
        neighbor_within=_score(y[distances.argmin(1)], y, classes),
        doubtful_share=share,
        suspects=tuple(doubtful.tolist()),
    )


def remember(
    key: Hashable,
    arrays: Any,
    find: Any,
) -> Baselines:
    """Return the baselines of these arrays, found once as long as the arrays exist.

    Args:
        key: Everything else that the baselines depend on.
        arrays: Arrays of JAX or NumPy.
        find: () -> Baselines.
    """
    whole = (key, *map(id, arrays))
    kept = _kept.get(whole)
    # Another array may have the id of a deleted one.
    if kept is not None and all(
        reference() is array for reference, array in zip(kept[0], arrays, strict=True)
    ):
        return kept[1]
    found: Baselines = find()
    if len(_kept) >= MAX_KEPT:
        _kept.clear()
    _kept[whole] = [weakref.ref(array) for array in arrays], found
    return found


def _one_hot(
    targets: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Return targets as values (n, outputs)."""
    if classes:
        return np.eye(classes, dtype=np.float32)[targets]
    return targets.reshape(len(targets), -1).astype(np.float32)


def _standardizer(x: np.ndarray) -> Any:
    """Return the function that standardizes features by these examples, and projects many."""
    mean = x.mean(0)
    deviation = x.std(0)
    scale = np.where(deviation > 0, deviation, 1)
    features = x.shape[1]
    directions: np.ndarray | None = None
    if features > MAX_FEATURES:
        draws = np.random.default_rng(0).standard_normal((features, MAX_FEATURES))
        directions = (draws / np.sqrt(features)).astype(np.float32)

    def change(x: np.ndarray) -> np.ndarray:
        standard = (x - mean) / scale
        return standard if directions is None else standard @ directions

    return change


def _ridge(
    x: np.ndarray,
    y: np.ndarray,
    held_x: np.ndarray,
) -> np.ndarray:
    """Return predictions (v, outputs) of ridge regression with an intercept."""
    mean = y.mean(0)
    gram = x.T @ x
    penalty = RIDGE * np.trace(gram) / len(gram) + 1e-6
    kernel = np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ (y - mean))
    return held_x @ kernel + mean


def _distances(
    a: np.ndarray,
    b: np.ndarray,
) -> np.ndarray:
    """Return the squared distances (a, b)."""
    return np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1)


def _doubtful(
    distances: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> np.ndarray:
    """Return the examples whose neighbors agree on another label."""
    nearest = np.argpartition(distances, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    counts = np.bincount(labels, minlength=classes)
    # (n, classes); a vote for a rare class weighs more, as if all classes were as frequent.
    votes = np.eye(classes)[labels[nearest]].sum(1) * counts.mean() / np.maximum(counts, 1)
    is_other = votes.argmax(1) != labels
    is_sure = votes.max(1) >= AGREEING / NEIGHBORS * votes.sum(1)
    # Of a rare class there are too few neighbors.
    is_common = counts[labels] > 2 * NEIGHBORS
    return np.flatnonzero(is_other & is_sure & is_common)


def _score(
    predicted: np.ndarray,
    held: np.ndarray,
    classes: int,
) -> float:
    if classes:
        return float((predicted.argmax(1) == held.argmax(1)).mean())
    spread = np.square(held - held.mean(0)).sum()
    return float(1 - np.square(predicted - held).sum() / spread) if spread > 0 else np.nan
