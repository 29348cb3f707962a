"""Examples as scikit-learn takes them: checks of X, y and weights with its functions and messages.

This is the only file that imports scikit-learn. All of its errors become errors of fnn here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, FnnError, ShapeError
from fnn.types import Shape

try:
    from sklearn.base import BaseEstimator as BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.base import RegressorMixin as RegressorMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, validate_data
except ImportError:
    raise ConfigError(
        "lab.Classifier and lab.Regressor",
        "scikit-learn 1.6 or newer",
        "no such package",
        "pip install '.[sklearn]' in the checkout of fnn",
    ) from None


class UnfittedError(FnnError, NotFittedError):
    """An estimator was used before it was fitted; scikit-learn's NotFittedError."""


class Examples(NamedTuple):
    """Examples to train on, on the host.

    Attributes:
        inputs: (n, ...).
        targets: (n, ...).
        weights: (n,), all > 0; None for equal weights.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None

    def take(self, rows: Any) -> "Examples":
        """Return the examples of these indices, or of a mask."""
        weights = None if self.weights is None else self.weights[rows]
        return Examples(self.inputs[rows], self.targets[rows], weights)

    @property
    def data(self) -> tuple[Any, Any]:
        """The examples as data of a run; with weights, the targets are a pair."""
        targets = self.targets if self.weights is None else (self.targets, self.weights)
        return self.inputs, targets


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise errors of scikit-learn as errors of fnn, which keep its message.

    Args:
        where: Name of the argument in errors.
    """
    try:
        yield
    # An error of fnn is a ValueError or TypeError too.
    except FnnError:
        raise
    except (TypeError, ValueError) as error:
        kind = DTypeError if isinstance(error, TypeError) else ConfigError
        advice = "scikit-learn's documentation describes such data"
        raise kind(
            where,
            "data that scikit-learn accepts",
            str(error),
            advice,
        ) from None


def read_examples(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    is_new: bool,
    is_numeric: bool,
) -> Any:
    """Return X and y as arrays, and store or check the number and the names of the features.

    Args:
        estimator: The estimator that gets n_features_in_ and feature_names_in_.
        X: (n, ...).
        y: One target an example.
        is_new: Whether to store them; otherwise they must be those that are stored.
        is_numeric: Whether y holds numbers, (n,) or (n, targets), and not labels (n,).

    Raises:
        ConfigError: A value or a shape is not valid.
        DTypeError: A type is not valid, as that of a sparse matrix.
    """
    with translated(f"{type(estimator).__name__} X and y"):
        # Images and other inputs of several axes are allowed.
        return validate_data(
            estimator,
            X,
            y,
            reset=is_new,
            allow_nd=True,
            multi_output=is_numeric,
            y_numeric=is_numeric,
        )


def read_inputs(estimator: Any, X: Any) -> np.ndarray:
    """Return X of a fitted estimator as an array; the errors are those of `read_examples`."""
    with translated(f"{type(estimator).__name__} X"):
        return np.asarray(validate_data(estimator, X, reset=False, allow_nd=True))


def expect_shape(
    where: str,
    X: np.ndarray,
    shape: Shape,
) -> None:
    """Raise ShapeError unless the examples have the shape of those that were fitted."""
    # scikit-learn checks the number of features alone.
    if X.shape[1:] != shape:
        advice = "give all examples this shape"
        raise ShapeError(
            f"{where} X",
            f"examples of shape {shape}",
            X.shape[1:],
            advice,
        )


def read_weights(
    where: str,
    weights: Any,
    X: np.ndarray,
) -> np.ndarray | None:
    """Return the weights (n,) as floats, or None if there are none.

    Raises:
        ConfigError: They are not one number >= 0 for each example.
    """
    if weights is None:
        return None
    with translated(f"{where} sample_weight"):
        checked = _check_sample_weight(weights, X, dtype=np.float64, ensure_non_negative=True)
    # Their scale has no effect, but must fit float32.
    scale = checked.max() or 1
    return np.asarray(checked / scale, np.float32)


def read_classes(where: str, y: np.ndarray) -> np.ndarray:
    """Return the sorted classes among labels (n,) of any type.

    Raises:
        ConfigError: These are not labels, but for example fractions.
        DTypeError: Labels of several types cannot be sorted.
    """
    with translated(where):
        check_classification_targets(y)
        # Sorted, as the attribute classes_ of scikit-learn.
        classes = np.unique(y)
    # A network of one class would learn nothing, and has no probabilities to compare.
    if len(classes) < 2:
        advice = "give examples of another class too"
        raise ConfigError(
            where,
            "labels of two classes or more",
            "one class",
            advice,
        )
    return classes


def read_class_weights(
    where: str, class_weight: Any, classes: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return the weight of each class, (classes,).

    Raises:
        ConfigError: It is neither "balanced" nor weights >= 0 of classes that exist.
    """
    with translated(f"{where} class_weight"):
        weights = compute_class_weight(class_weight, classes=classes, y=y)
    for label, weight in zip(classes, weights, strict=True):
        checks.number(f"{where} class_weight {label}", weight, "[0, inf)")
    return np.asarray(weights)


def read_random_state(where: str, random_state: Any) -> int:
    """Return a seed: the number itself, or one drawn from NumPy's generator.

    Raises:
        ConfigError: It is neither None nor a number in [0, 2³²) nor a RandomState.
    """
    with translated(f"{where} random_state"):
        generator = check_random_state(random_state)
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(generator.randint(2**31 - 1))
