"""Weights of classes from their counts, for unbalanced data."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.errors import ConfigError, DTypeError, LabelError


def class_weights(
    labels: Sequence[int] | jax.Array | np.ndarray,
    *,
    classes: int | None = None,
) -> jax.Array:
    """Weights that give each class the same share of the loss: n / (k count) for each class.

    n is the number of labels, k that of the classes that occur. These are the weights "balanced" of
    scikit-learn, as in `objective.class_weighted(objective.cross_entropy, data.class_weights(y))`
    [King & Zeng 2001, Logistic regression in rare events data].

    Args:
        labels: Integers of any shape, 0 <= label < classes, of the training data; may be traced if
            `classes` is given.
        classes: Number of classes; if None, one more than the largest label.

    Returns:
        Floats (classes,); 0 for a class that does not occur.

    Raises:
        ConfigError: There are no labels, or `classes` is no whole number, or missing for traced
            labels.
        DTypeError: The labels are not integers.
        LabelError: A label is not a class, and not traced.
    """
    where = "class_weights labels"
    array = checks.as_array(where, labels)
    is_masked = isinstance(array, np.ma.MaskedArray)
    if is_masked or not jnp.issubdtype(array.dtype, jnp.integer):
        got = "a masked array" if is_masked else array.dtype
        raise DTypeError(where, "integers", got, "give class numbers")
    if not array.size:
        raise ConfigError(where, "one label or more", "none", "give those of the training data")
    if checks.is_concrete(array):
        # On the host, so that labels of 64 bits are not wrapped.
        array = np.asarray(array)
    elif classes is None:
        raise ConfigError(
            "class_weights classes",
            "a whole number, since the labels are traced",
            None,
            "give the number of classes",
        )
    count = (
        int(array.max()) + 1 if classes is None else checks.whole("class_weights classes", classes)
    )
    if isinstance(array, np.ndarray):
        wrong = (array < 0) | (array >= count)
        if wrong.any():
            expected = f"0 <= label < {count}"
            raise LabelError(where, expected, array[wrong][0], "leave such labels out")
        array = array.astype(np.int32)
    counts = jnp.bincount(jnp.ravel(jnp.asarray(array)), length=count).astype(float)
    present = (counts > 0).sum().astype(float)
    return jnp.where(counts > 0, array.size / (present * jnp.maximum(counts, 1)), 0)
