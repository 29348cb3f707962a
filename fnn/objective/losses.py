"""What is minimized. A loss is (outputs, targets) -> one value an example; `train` takes the mean, in one place."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import DTypeError, ShapeError
from fnn.types import Features, Labels, Logits, Number, PerExample, Probabilities

SUM_TOLERANCE = 1e-2  # how far probabilities may sum from 1: a thousand classes in bfloat16 stay within


def cross_entropy(logits: Logits, labels: Labels | Probabilities, *, label_smoothing: Number = 0.0) -> PerExample:
    """The surprise at the truth, -Σ_c q_c log softmax(logits)_c, where q = (1 - s) truth + s / classes.

    logits (..., classes); labels (...) as integers, or (..., classes) as probabilities; float32 inside at least; nats.
    A label outside 0 <= label < classes, or probabilities that do not sum to 1, make the loss and its gradient NaN.
    ShapeError or DTypeError where the two do not fit, for nothing is broadcast. Smoothing s of Szegedy et al. 2016,
    arXiv:1512.00567.
    """
    smoothing = checks.number("cross_entropy label_smoothing", label_smoothing, "[0, 1]")
    checks.floating("logits", logits)
    truth, known = _truth(logits, labels)
    wide = logits.astype(trees.wide(logits))
    # The alarm multiplies: where(known, values, nan) would leave finite gradients, and training would go on in silence.
    # It does so on the way in, for the gradient, and on the way out, as XLA takes 0 times NaN for 0 where q is one-hot.
    alarm = jnp.where(known, 1, jnp.nan).astype(wide.dtype)
    log_p = jax.nn.log_softmax(wide * alarm[..., None])
    share = trees.knob(smoothing, log_p)
    q = (1 - share) * truth.astype(log_p.dtype) + share / logits.shape[-1]
    ruled_out = (q == 0) & jnp.isneginf(log_p)  # by a logit of -inf: 0 log 0 = 0
    return -(q * jnp.where(ruled_out, 0, log_p)).sum(-1) * alarm


def squared_error(outputs: Features, targets: Features) -> PerExample:
    """The mean over an example's numbers of (output - target)².

    outputs and targets (batch, ...), equal in shape; ShapeError or DTypeError otherwise, for nothing is broadcast.
    """
    checks.floating("outputs", outputs)
    checks.floating("targets", targets)
    if outputs.shape != targets.shape:
        raise ShapeError("targets", f"the outputs' shape {outputs.shape}", targets.shape, "reshape them to match")
    if outputs.size == 0 or outputs.ndim == 0:
        raise ShapeError(
            "outputs", "at least one example (batch, ...)", outputs.shape, "check how the data was selected"
        )
    square = jnp.square(outputs - targets.astype(outputs.dtype))
    return square.reshape(square.shape[0], -1).mean(1)


def _truth(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The truth as probabilities (..., classes), and whether each row is one."""
    if labels.ndim == logits.ndim:
        return _probabilities(logits, labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError("labels", "an integer dtype", labels.dtype, "cast them, or give probabilities (..., classes)")
    if logits.ndim < 2 or labels.shape != logits.shape[:-1]:
        raise ShapeError(
            "labels", f"one a row of logits {logits.shape}", labels.shape, "give one label for each example"
        )
    places = labels if labels.dtype.itemsize > 4 else labels.astype(jnp.int32)  # a byte cannot be held against 300
    return jax.nn.one_hot(places, logits.shape[-1]), (places >= 0) & (places < logits.shape[-1])


def _probabilities(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise DTypeError(
            "targets", f"float probabilities {logits.shape}", targets.dtype, "cast them, or give labels (...,)"
        )
    if targets.shape != logits.shape:
        raise ShapeError("targets", f"probabilities of shape {logits.shape}", targets.shape, "give one for each class")
    return targets, jnp.abs(targets.sum(-1) - 1) < SUM_TOLERANCE
