"""Losses of how near things lie to each other."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import alarm, paired, per_example, whole_numbers
from fnn.types import Features, Labels, Number, PerExample


@loss()
def cosine(outputs: Features, targets: Features) -> PerExample:
    """1 - cos of the angle between output and target, vectors along the last axis: 0 if parallel, 2 if opposite.

    outputs and targets (batch, ..., features), equal in shape; the mean over an example's vectors. A vector of zeros is
    taken as orthogonal to all. ShapeError or DTypeError where the two do not fit.
    """
    outputs, targets = paired(outputs, targets)
    if outputs.ndim < 2:
        raise ShapeError(
            "outputs", "(batch, ..., features)", outputs.shape, "the angle is that of vectors"
        )
    return per_example(1 - (_unit(outputs) * _unit(targets)).sum(-1))


@loss()
def triplet(
    outputs: tuple[Features, Features, Features], targets: Labels, *, margin: Number = 1.0
) -> PerExample:
    """What the far one of two lacks to be a margin farther from the anchor, max(0, |a - near| - |a - far| + margin).

    outputs are three embeddings (anchor, first, second), each (batch, features); targets (batch,) say which of the two
    is the near one: 0 the first, as in the usual order (anchor, positive, negative), or 1 the second; anything else
    makes the loss and its gradient NaN. ConfigError unless margin >= 0; ShapeError or DTypeError for what does not fit
    [Schroff et al. 2015, arXiv:1503.03832, with the distance itself in place of its square].
    """
    checks.number("triplet margin", margin, "[0, inf)")
    _expect_three(outputs)
    anchor, first, second = (array.astype(trees.wide(outputs[0])) for array in outputs)
    which = whole_numbers("targets", targets, anchor.shape[:1])
    warning = alarm((which == 0) | (which == 1), anchor.dtype)
    to_first, to_second = (_distance(anchor * warning[:, None], other) for other in (first, second))
    lead = jnp.where(which == 0, to_first - to_second, to_second - to_first)
    return jax.nn.relu(lead + trees.knob(margin, lead)) * warning


@loss()
def nt_xent(outputs: Features, targets: Labels, *, temperature: Number = 0.5) -> PerExample:
    """The surprise, among the others of the batch, at those of one's own label: -mean_p log softmax_k(cos_k / τ)_p.

    outputs (batch, features) are embeddings, cos_k the cosine of one and another k; targets (batch,) are
    integers, equal for views of one thing: with two views of each this is SimCLR's loss, with class labels the
    supervised contrastive one. An example alone with its label has the value 0. ConfigError unless τ > 0; ShapeError or
    DTypeError for what does not fit [Chen et al. 2020, arXiv:2002.05709; Khosla et al. 2020, arXiv:2004.11362].
    """
    checks.number("nt_xent temperature", temperature, "(0, inf)")
    checks.floating("outputs", outputs)
    if outputs.ndim != 2 or outputs.shape[0] < 2:
        raise ShapeError(
            "outputs",
            "two embeddings or more (batch, features)",
            outputs.shape,
            "flatten them first",
        )
    things = whole_numbers("targets", targets, outputs.shape[:1])
    unit = _unit(outputs.astype(trees.wide(outputs)))
    itself = jnp.eye(len(things), dtype=bool)
    near = (things[:, None] == things[None, :]) & ~itself
    cosines = jnp.matmul(unit, unit.T, precision="highest") / trees.knob(temperature, unit)
    log_p = jax.nn.log_softmax(jnp.where(itself, -jnp.inf, cosines))
    return -jnp.where(near, log_p, 0).sum(1) / jnp.maximum(near.sum(1), 1).astype(unit.dtype)


def _unit(x: jax.Array) -> jax.Array:
    """The vectors with length 1; one of zeros stays, with a finite gradient."""
    square = jnp.square(x).sum(-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - b| along the last axis, whose slope at 0, where it has a kink, is taken as 0."""
    square = jnp.square(a - b).sum(-1)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _expect_three(outputs: Any) -> None:
    if not isinstance(outputs, tuple | list) or len(outputs) != 3:
        raise ShapeError(
            "outputs",
            "three embeddings (anchor, first, second)",
            type(outputs).__name__,
            "give a tuple",
        )
    shapes = [
        checks.floating(f"outputs {place}", array).shape for place, array in enumerate(outputs)
    ]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ShapeError(
            "outputs",
            "three embeddings of one shape (batch, features)",
            shapes,
            "reshape them to match",
        )
