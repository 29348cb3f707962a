"""Logits and labels as the functions of this package read them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.objective.metrics.labels import UNKNOWN, Classes, read_classes
from fnn.objective.targets import are_distributions, expect_floats


def read_logits(
    where: str,
    logits: Any,
    *,
    members: bool = False,
) -> jax.Array:
    """Return logits (..., classes) of two classes or more, in float32 at least.

    A network with one output decides between two classes: its logit z becomes (0, z).

    Args:
        where: Name of the function in errors.
        logits: (n, ..., classes); with `members`, (members, n, ..., classes).
        members: Whether there is a first axis of members.

    Raises:
        DTypeError: The logits are not one array of floats, or are probabilities.
        ShapeError: There is no axis of members, or no example.
    """
    name = f"{where} logits"
    expect_floats(name, logits)
    # The axes of members, examples and classes.
    if members and logits.ndim < 3:
        raise ShapeError(
            name,
            "(members, n, ..., classes)",
            logits.shape,
            "stack the outputs of the members, jnp.stack(outputs); of one network, logits[None]",
        )
    if logits.ndim < 2 or not logits.size:
        raise ShapeError(
            name,
            "(n, ..., classes) with at least one example",
            logits.shape,
            "give the outputs of train.predict; of one number an example, logits[:, None]",
        )
    z = jnp.asarray(logits, trees.wide(logits))
    if z.shape[-1] == 1:
        # (n, ..., 1) -> (n, ..., 2)
        # The second entry of the softmax of (0, z) is the sigmoid of z.
        return jnp.concatenate([jnp.zeros_like(z), z], -1)
    _expect_no_probabilities(name, z)
    return z


def _expect_no_probabilities(where: str, z: jax.Array) -> None:
    """Raise DTypeError if all rows are distributions: the softmax of probabilities is nearly flat.

    Logits whose rows all lie in [0, 1] and sum to 1 do not occur in practice. Those of one output
    have no sum that would show it.
    """
    # Traced values are not known, and pass.
    if checks.is_concrete(z) and bool(_all_distributions(z)):
        raise DTypeError(
            where,
            "logits",
            "probabilities: every row is in [0, 1] and sums to 1",
            "give their logarithm, jnp.log(probabilities)",
        )


@jax.jit
def _all_distributions(z: jax.Array) -> jax.Array:
    return are_distributions(z).all()


@jax.jit
def _all_logits(z: jax.Array) -> jax.Array:
    """Return whether there is neither NaN nor +inf, nor a row of -inf."""
    # -inf is the logit of a class that cannot be.
    return ((z < jnp.inf).all(-1) & (z.max(-1) > -jnp.inf)).all()


def read_examples(
    where: str,
    logits: Any,
    labels: Any,
) -> Classes:
    """Return logits (n, classes) and labels int32 (n,) of all examples and positions.

    A label that is not a class is an error where it is known, and UNKNOWN where it is traced.

    Args:
        where: Name of the function in errors.
        logits: (n, ..., classes) of two classes or more; or of one output, (n, ..., 1) or (n,).
        labels: Integers (n, ...), or probabilities as for `objective.accuracy`.

    Raises:
        DTypeError: The logits are not floats, or are probabilities, or the labels do not fit.
        ShapeError: The shapes do not fit, or there are no examples.
        NonFiniteError: A logit is NaN or +inf.
        LabelError: A label is not a class.
    """
    expect_floats(f"{where} logits", logits)
    # Two axes more than the labels: the axis of members has not been combined.
    if np.ndim(labels) and np.ndim(logits) == np.ndim(labels) + 2:
        raise ShapeError(
            f"{where} logits",
            f"(n, classes) for labels {np.shape(labels)}",
            logits.shape,
            "combine the members first, as by ensemble.average_probabilities",
        )
    # rows (n, ..., classes), truth (n, ...); one output z becomes the row (0, z).
    rows, truth = read_classes(jnp.asarray(logits), labels)
    # The row (0, z) of one output was no row of the caller.
    if logits.shape[-1:] != (1,) and logits.ndim > 1:
        _expect_no_probabilities(f"{where} logits", rows)
    if checks.is_concrete(rows) and not bool(_all_logits(rows)):
        raise NonFiniteError(
            f"{where} logits",
            "numbers, of which -inf is a probability of 0",
            "NaN or inf, or a row of -inf",
            "leave these examples out",
        )
    if checks.is_concrete(truth):
        wrong = np.argwhere(np.asarray(truth) == UNKNOWN)  # (number of wrong labels, axes)
        if wrong.size:
            index = tuple(wrong[0].tolist())
            raise LabelError(
                f"{where} labels",
                f"0 <= label < {rows.shape[-1]}",
                f"{np.asarray(labels)[index]} at index {', '.join(map(str, index))}",
                "leave out examples without a class",
            )
    # (n, ..., classes) -> (n, classes) and (n, ...) -> (n,)
    return Classes(rows.reshape(-1, rows.shape[-1]), truth.reshape(-1))


def expect_finite(where: str, logits: jax.Array) -> None:
    """Raise NonFiniteError if a known logit is -inf."""
    if checks.is_concrete(logits) and not bool(jnp.isfinite(logits).all()):
        advice = "replace -inf by a number, as in jnp.maximum(logits, -1e3)"
        raise NonFiniteError(
            f"{where} logits",
            "finite numbers",
            "-inf",
            advice,
        )
