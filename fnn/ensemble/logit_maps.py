"""Maps of logits that calibrate a classifier: temperature, vector and matrix scaling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.objective.targets import expect_floats
from fnn.types import Logits, Number
from fnn.values import maker

Scaling = Callable[[Logits], Array]


@maker
def temperature(value: Number) -> Scaling:
    """Temperature scaling: logits / T.

    Accuracy stays the same, and so does the order of the classes. Fit it by `fit_temperature`. It
    is a pytree with the leaf T, which `lab.save` stores [Guo et al. 2017, arXiv:1706.04599].

    Args:
        value: The temperature T > 0; above 1 it makes predictions less confident.

    Raises:
        ConfigError: T is not a number > 0.
        DTypeError: When called, the logits are not floats.
    """
    checks.number("temperature value", value, "(0, inf)")

    def scale(logits: Logits) -> Array:
        z = _floats("temperature logits", logits)
        # One factor > 0 for all classes keeps their order, hence the accuracy.
        return z / trees.knob(value, z)

    return scale


@maker
def vector_scaling(scale: Array, bias: Array) -> Scaling:
    """Vector scaling: logits * scale + bias, with a number of each for every class.

    It can change the predicted class. For one output it is Platt scaling. Fit it by
    `fit_vector_scaling` [Guo et al. 2017, arXiv:1706.04599].

    Args:
        scale: (classes,).
        bias: (classes,), added after the scale.

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: They are not (classes,); or, when called, the logits have other classes.
    """
    # Checked when the map is made, so that a call only has to check the logits.
    classes = _sizes("vector_scaling", (("scale", scale), ("bias", bias)))

    def apply(logits: Logits) -> Array:
        z = _of_classes("vector_scaling logits", logits, classes)
        # (classes,) -> (1, ..., 1, classes)
        row = (1,) * (z.ndim - 1) + (classes,)
        return z * scale.astype(z.dtype).reshape(row) + bias.astype(z.dtype).reshape(row)

    return apply


@maker
def matrix_scaling(kernel: Array, bias: Array) -> Scaling:
    """Matrix scaling: logits @ kernel + bias, a linear layer after the last one.

    It has classes² + classes numbers, which overfit small data. Fit it by `fit_matrix_scaling`
    [Guo et al. 2017, arXiv:1706.04599].

    Args:
        kernel: (classes, classes).
        bias: (classes,), added after the product.

    Raises:
        DTypeError: An array does not hold floats.
        ShapeError: They have other shapes; or, when called, the logits have other classes.
    """
    classes = _sizes("matrix_scaling", (("bias", bias),))
    expect_floats("matrix_scaling kernel", kernel)
    # A scaling keeps the number of classes.
    if kernel.shape != (classes, classes):
        raise ShapeError(
            "matrix_scaling kernel",
            f"({classes}, {classes}) for a bias of {classes} classes",
            kernel.shape,
            "give a square matrix",
        )

    def apply(logits: Logits) -> Array:
        z = _of_classes("matrix_scaling logits", logits, classes)
        row = (1,) * (z.ndim - 1) + (classes,)
        # (..., classes) @ (classes, classes) -> (..., classes)
        # In full precision: GPUs would round the factors to 10 bits.
        product = jnp.matmul(z, kernel.astype(z.dtype), precision=jax.lax.Precision.HIGHEST)
        return product + bias.astype(z.dtype).reshape(row)

    return apply


def _sizes(where: str, arrays: Any) -> int:
    """Return the number of classes of arrays (classes,)."""
    for name, array in arrays:
        expect_floats(f"{where} {name}", array)
    # It gives the number of classes, which all others must have.
    first = arrays[0][1]
    for name, array in arrays:
        if array.ndim != 1 or array.shape != first.shape:
            raise ShapeError(
                f"{where} {name}",
                "one number for each class, (classes,)",
                array.shape,
                "fit it to logits and labels",
            )
    return first.shape[0]


def _of_classes(where: str, logits: Any, classes: int) -> Array:
    z = _floats(where, logits)
    if z.shape[-1:] != (classes,):
        raise ShapeError(
            where,
            f"(..., {classes}), the classes that were fitted",
            z.shape,
            "fit it to logits of this network",
        )
    return z


def _floats(where: str, logits: Any) -> Array:
    z = expect_floats(where, logits)
    # A number has no axis of classes.
    if not z.ndim:
        raise DTypeError(
            where,
            "an array (..., classes)",
            "a number",
            "give logits",
        )
    # A small temperature may lead beyond the range of 16 bits.
    return jnp.asarray(z, trees.wide(z))
