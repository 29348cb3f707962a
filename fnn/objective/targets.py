"""Checks shared by the losses: outputs and targets that fit each other. Nothing is broadcast."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.types import Number, PerExample, Shape

# Largest |Σ p - 1| of a row of probabilities: a thousand classes in bfloat16 stay within.
SUM_TOLERANCE = 1e-2


def nan_unless(valid: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return a factor that is 1 where the targets are valid, else NaN.

    Outputs are multiplied by it on the way in, for the gradient, and values on the way out.
    """
    # where(valid, values, nan) would leave finite gradients, and training would continue silently.
    return jnp.where(valid, 1, jnp.nan).astype(dtype)


def at_least_0(values: jax.Array) -> jax.Array:
    """Return 0 for values that rounding made negative; the gradient stays."""
    return values + jax.lax.stop_gradient(jax.nn.relu(-values))


def mean_per_example(values: jax.Array) -> PerExample:
    """Average over all axes but the batch, (batch, ...) -> (batch,)."""
    rows = values.reshape(values.shape[0], -1)  # (batch, numbers of an example)
    return rows.mean(1)


def expect_pair(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    allow_integers: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Check that both are floats of one shape, and return them in the outputs' dtype.

    The dtype is float32 at least. With `allow_integers`, targets may be integers or booleans.
    """
    expect_floats("outputs", outputs)
    expect_array("targets", targets)
    # Integers and booleans are exact as masks and counts, so some losses allow them.
    is_floating = jnp.issubdtype(targets.dtype, jnp.floating)
    is_exact = jnp.issubdtype(targets.dtype, jnp.integer) or targets.dtype == bool
    if not is_floating and not (allow_integers and is_exact):
        raise DTypeError(
            "targets",
            "floating-point numbers",
            targets.dtype,
            "cast them, as in targets.astype(numpy.float32)",
        )
    if outputs.shape != targets.shape:
        expected = f"the outputs' shape {outputs.shape}"
        raise ShapeError(
            "targets",
            expected,
            targets.shape,
            "reshape them to match",
        )
    expect_examples(outputs)
    wide = trees.wide(outputs)
    return outputs.astype(wide), targets.astype(wide)


def class_indices(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Check labels (...) for logits (..., classes), and return them as int32.

    Returns:
        The labels (...), and booleans (...), whether the label is a class.
    """
    expect_floats("logits", logits)
    _expect_integers("labels", labels)
    # At least (batch, classes): a bare row of logits has no batch axis.
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        expected = f"one a row of logits {logits.shape}"
        advice = (
            "give one label for each example; for labels of whole images, flatten or pool before "
            "the last layer"
        )
        raise ShapeError(
            "labels",
            expected,
            labels.shape,
            advice,
        )
    expect_examples(logits)
    _expect_two_classes(logits)
    indices = as_int32(labels)
    return indices, (indices >= 0) & (indices < logits.shape[-1])


def one_hot(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Check labels (...) for logits (..., classes), and return them as one-hot rows.

    Returns:
        Booleans (..., classes), True at the label; and booleans (...), whether the label is a
        class.
    """
    indices, known = class_indices(logits, labels)
    return jax.nn.one_hot(indices, logits.shape[-1], dtype=bool), known


def class_probabilities(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the targets as probabilities (..., classes), in the dtype to compute in.

    Labels (...) are integers, or already such probabilities.

    Returns:
        The probabilities, and booleans (...), whether each row is a distribution.
    """
    expect_floats("logits", logits)
    expect_array("labels", labels)
    # Probabilities have the rank of the logits, labels one axis less.
    if labels.ndim == logits.ndim:
        truth, known = _expect_probabilities(logits, labels)
    else:
        truth, known = one_hot(logits, labels)
    return truth.astype(trees.wide(logits)), known


def expect_array(where: str, x: Any) -> Any:
    """Return the value if it is one array; DTypeError for a dict, a tuple or a list."""
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return x
    got = type(x).__name__
    advice = "convert it with numpy.asarray"
    if isinstance(x, Mapping | tuple):
        names = list(x) if isinstance(x, Mapping) else range(len(x))
        got = f"{got} of {', '.join(map(str, names))}"
        first = next(iter(names), 0)
        advice = f"choose one, as in objective.of({first!r}, ...)"
    raise DTypeError(
        where,
        "one array",
        got,
        advice,
    )


def expect_floats(where: str, x: Any) -> jax.Array:
    """Return the value if it is one array of floating-point numbers; DTypeError otherwise."""
    return checks.floating(where, expect_array(where, x))


def ignored_label(where: str, label: Any) -> int | None:
    """Return the label to leave out, a Python int or None for none; ConfigError otherwise."""
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, int | np.integer):
        raise ConfigError(
            where,
            "a whole number",
            repr(label),
            "give the label, as in 255",
        )
    # A Python int, so that np.int64(255) and 255 make equal metrics.
    return int(label)


def expect_integers(where: str, numbers: jax.Array, shape: Shape) -> jax.Array:
    """Return the array if it holds integers and has the shape; raise an error otherwise."""
    _expect_integers(where, numbers)
    if numbers.shape != shape:
        raise ShapeError(
            where,
            f"shape {shape}",
            numbers.shape,
            "give one for each",
        )
    return numbers


def expect_class_weights(where: str, weights: Sequence[Number] | jax.Array) -> None:
    """Raise ConfigError unless these are weights (classes,), finite and >= 0 where known."""
    if not isinstance(weights, jax.Array | np.ndarray):
        for index, weight in enumerate(weights):
            checks.number(f"{where} {index}", weight, "[0, inf)")
        return
    if weights.ndim != 1 or not jnp.issubdtype(weights.dtype, jnp.floating):
        got = checks.describe(weights)
        raise ConfigError(
            where,
            "floats (classes,)",
            got,
            "one for each class",
        )
    # The numbers of a traced array are not known yet.
    if not checks.is_concrete(weights):
        return
    numbers = np.asarray(weights)
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ConfigError(
            where,
            "finite numbers >= 0",
            numbers,
            "0 ignores a class",
        )


def class_weights(where: str, weights: Sequence[Number] | jax.Array, dtype: Any) -> jax.Array:
    """Return weights as an array (classes,); each number of a sequence may be traced."""
    expect_class_weights(where, weights)
    if isinstance(weights, jax.Array | np.ndarray):
        return jnp.asarray(weights, dtype)
    # Converted one by one, since some of them may be traced.
    return jnp.stack([jnp.asarray(weight, dtype) for weight in weights])


def as_int32(numbers: jax.Array) -> jax.Array:
    """Cast integers to int32, saturated at its range so that none wraps to a valid index."""
    # A comparison of uint8 with 300 classes would cast 300 to uint8.
    given = jnp.iinfo(numbers.dtype)
    limits = jnp.iinfo(jnp.int32)
    low = max(given.min, limits.min)
    high = min(given.max, limits.max)
    return numbers.clip(low, high).astype(jnp.int32)


def expect_examples(outputs: jax.Array) -> None:
    """Raise ShapeError if there are no examples."""
    # The mean over no examples would be NaN.
    if outputs.size == 0 or outputs.ndim == 0:
        expected = "at least one example (batch, ...)"
        raise ShapeError(
            "outputs",
            expected,
            outputs.shape,
            "check how the data was selected",
        )


def _expect_two_classes(logits: jax.Array) -> None:
    # The softmax over one class is 1 whatever the network computes.
    if logits.shape[-1] < 2:
        raise ShapeError(
            "logits",
            "two classes or more",
            logits.shape,
            "use binary_cross_entropy for yes or no",
        )


def _expect_integers(where: str, numbers: jax.Array) -> None:
    expect_array(where, numbers)
    if not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise DTypeError(
            where,
            "an integer dtype",
            numbers.dtype,
            "cast them",
        )


def _expect_probabilities(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        # Labels in a column (batch, 1) have the rank of the logits; the message names both ways.
        got = f"{targets.dtype} {targets.shape}"
        advice = f"cast them, or give labels {logits.shape[:-1]}"
        raise DTypeError(
            "targets",
            f"float probabilities {logits.shape}",
            got,
            advice,
        )
    if targets.shape != logits.shape or logits.ndim == 0:
        expected = f"probabilities of shape {logits.shape}"
        raise ShapeError(
            "targets",
            expected,
            targets.shape,
            "give one for each class",
        )
    expect_examples(logits)
    _expect_two_classes(logits)
    return targets, are_distributions(targets)


def are_distributions(rows: jax.Array) -> jax.Array:
    """Return whether each row (..., classes) is a distribution: no entry < 0, and the sum 1."""
    sums_to_one = jnp.abs(rows.sum(-1) - 1) < SUM_TOLERANCE
    return sums_to_one & (rows >= 0).all(-1)
