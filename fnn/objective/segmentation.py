"""Losses of maps over places."""

import jax

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import alarm, one_hot, paired
from fnn.types import Features, Number, PerExample


@loss()
def dice(logits: Features, targets: jax.Array, *, smooth: Number = 1.0) -> PerExample:
    """How little maps overlap, 1 - (2 Σ p g + s) / (Σ p² + Σ g² + s) over the places of a channel; then their mean.

    logits (batch, ..., channels). Targets of the same shape are masks of 0 and 1 of any dtype, or between, and p = σ;
    labels (batch, ...), one a place, are exclusive classes, and p = softmax. s keeps an empty map that is found empty
    at 0. A label or a mask out of range makes the example's loss and its gradient NaN; ConfigError unless s > 0;
    ShapeError or DTypeError where the two do not fit [Milletari et al. 2016, arXiv:1606.04797].
    """
    checks.number("dice smooth", smooth, "(0, inf)")
    if logits.ndim < 3:
        raise ShapeError(
            "logits", "(batch, ..., channels)", logits.shape, "add a channel axis: x[..., None]"
        )
    p, mask = _maps(logits, targets)
    places = tuple(range(1, p.ndim - 1))
    overlap, sizes = (p * mask).sum(places), (p * p + mask * mask).sum(places)
    own = trees.knob(smooth, p)
    return 1 - ((2 * overlap + own) / (sizes + own)).mean(-1)


def _maps(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is guessed and what is true, between 0 and 1, of the logits' shape."""
    if targets.ndim == logits.ndim - 1:
        own, known = one_hot(logits, targets)
        if logits.shape[-1] < 2:
            raise ShapeError(
                "logits",
                "two classes or more",
                logits.shape,
                "give masks a channel axis: mask[..., None]",
            )
        warning = alarm(known, trees.wide(logits))[..., None]
        return jax.nn.softmax(logits.astype(warning.dtype) * warning) * warning, own.astype(
            warning.dtype
        )
    z, mask = paired(logits, targets, whole=True)
    warning = alarm((mask >= 0) & (mask <= 1), z.dtype)
    return jax.nn.sigmoid(z * warning) * warning, mask
