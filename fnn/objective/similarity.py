"""Losses of similarity between embeddings."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import expect_integers, expect_pair, mean_per_example, nan_unless
from fnn.types import Features, Labels, Number, PerExample


@loss()
def cosine(outputs: Features, targets: Features) -> PerExample:
    """Cosine distance, 1 - cos(output, target), averaged over an example's vectors.

    It is 0 for parallel vectors, 2 for opposite ones, and 1 for a vector of zeros.

    Args:
        outputs: (batch, ..., features), vectors along the last axis.
        targets: Of the shape of the outputs.

    Raises:
        DTypeError: An argument does not hold floats.
        ShapeError: The shapes differ, or have no feature axis.
    """
    outputs, targets = expect_pair(outputs, targets)
    if outputs.ndim < 2:
        advice = "the angle is that of vectors"
        raise ShapeError(
            "outputs",
            "(batch, ..., features)",
            outputs.shape,
            advice,
        )
    cosines = (_normalize(outputs) * _normalize(targets)).sum(-1)  # (batch, ...)
    return mean_per_example(1 - cosines)


@loss()
def triplet(
    outputs: tuple[Features, Features, Features],
    targets: Labels,
    *,
    margin: Number = 1.0,
) -> PerExample:
    """Triplet loss, max(0, |anchor - near| - |anchor - far| + margin).

    See [Schroff et al. 2015, arXiv:1503.03832], with the distance in place of its square. A target
    other than 0 and 1 makes the loss and its gradient NaN.

    Args:
        outputs: Three embeddings (anchor, first, second), each (batch, features).
        targets: (batch,), which of the two is near: 0 the first, as in the usual order (anchor,
            positive, negative), or 1 the second.
        margin: Distance by which the far one should be farther, >= 0.

    Raises:
        ConfigError: `margin` is negative.
        DTypeError: The outputs are not floats, or the targets not integers.
        ShapeError: `outputs` are not three embeddings of one shape, or the targets do not fit.
    """
    checks.number("triplet margin", margin, "[0, inf)")
    _expect_three(outputs)
    wide = trees.wide(outputs[0])
    anchor, first, second = (array.astype(wide) for array in outputs)
    near_index = expect_integers("targets", targets, anchor.shape[:1])
    guard = nan_unless((near_index == 0) | (near_index == 1), anchor.dtype)  # (batch,)
    to_first = _distance(anchor * guard[:, None], first)
    to_second = _distance(anchor * guard[:, None], second)
    # The distance of the near one less that of the far one, (batch,).
    lead = jnp.where(near_index == 0, to_first - to_second, to_second - to_first)
    return jax.nn.relu(lead + trees.knob(margin, lead)) * guard


@loss(couples_examples=True)
def nt_xent(outputs: Features, targets: Labels, *, temperature: Number = 0.5) -> PerExample:
    """Contrastive loss NT-Xent, -mean_p log softmax_k(cos_k / τ)_p.

    cos_k is the cosine of an example and another example k of the batch; p runs over the others
    with its label. With two views of each image this is the loss of SimCLR, with class labels the
    supervised contrastive loss. An example whose label is unique in the batch has the value 0, so a
    batch cannot be split into micro-batches [Chen et al. 2020, arXiv:2002.05709; Khosla et al.
    2020, arXiv:2004.11362].

    Args:
        outputs: Embeddings (batch, features) of two examples or more.
        targets: Integers (batch,), equal for views of one image or for examples of one class.
        temperature: τ > 0; a lower one weighs near examples more.

    Raises:
        ConfigError: `temperature` is not positive.
        DTypeError: The outputs are not floats, or the targets not integers.
        ShapeError: The outputs are not (batch, features) with batch >= 2, or the targets do not
            fit.
    """
    checks.number("nt_xent temperature", temperature, "(0, inf)")
    checks.floating("outputs", outputs)
    if outputs.ndim != 2 or outputs.shape[0] < 2:
        expected = "two embeddings or more (batch, features)"
        raise ShapeError(
            "outputs",
            expected,
            outputs.shape,
            "flatten them first",
        )
    labels = expect_integers("targets", targets, outputs.shape[:1])
    unit = _normalize(outputs.astype(trees.wide(outputs)))  # (batch, features)
    is_self = jnp.eye(len(labels), dtype=bool)
    is_positive = (labels[:, None] == labels[None, :]) & ~is_self  # (batch, batch)
    # The default precision of a matmul on an accelerator is less than float32.
    cosines = jnp.matmul(unit, unit.T, precision="highest") / trees.knob(temperature, unit)
    log_p = jax.nn.log_softmax(jnp.where(is_self, -jnp.inf, cosines))
    # where, not a product, since log_p is -inf on the diagonal.
    log_likelihood = jnp.where(is_positive, log_p, 0).sum(1)
    return -log_likelihood / jnp.maximum(is_positive.sum(1), 1).astype(unit.dtype)


def _normalize(x: jax.Array) -> jax.Array:
    """Scale vectors along the last axis to length 1; one of zeros stays, with a finite gradient."""
    # Divided by their largest entry first, so that squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.abs(x).max(-1, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.square(x).sum(-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return |a - b| along the last axis, with the gradient 0 at its kink, a = b."""
    square = jnp.square(a - b).sum(-1)
    # The inner where keeps the infinite slope of the root at 0 out of the gradient.
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _expect_three(outputs: Any) -> None:
    if not isinstance(outputs, tuple | list) or len(outputs) != 3:
        expected = "three embeddings (anchor, first, second)"
        raise ShapeError(
            "outputs",
            expected,
            type(outputs).__name__,
            "give a tuple",
        )
    shapes = []
    for index, array in enumerate(outputs):
        shapes.append(checks.floating(f"outputs {index}", array).shape)
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        expected = "three embeddings of one shape (batch, features)"
        raise ShapeError(
            "outputs",
            expected,
            shapes,
            "reshape them to match",
        )
