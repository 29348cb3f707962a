"""Losses between distributions."""

import jax
from jax.scipy.special import xlogy

from fnn.errors import ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import alarm, distribution
from fnn.types import Logits, PerExample, Probabilities


@loss()
def kl_divergence(logits: Logits, probabilities: Probabilities) -> PerExample:
    """How far softmax(logits) is from the truth q, Σ_c q_c (log q_c - log softmax(logits)_c), in nats.

    logits (..., classes), where log-probabilities are logits too; probabilities q of the same shape. Rows that do not
    sum to 1 make the loss and its gradient NaN. By the logits its gradient is that of cross_entropy; it is 0 where they
    agree. ShapeError or DTypeError where the two do not fit [Kullback & Leibler 1951, doi:10.1214/aoms/1177729694].
    """
    if probabilities.shape != logits.shape:
        raise ShapeError(
            "targets", f"probabilities of shape {logits.shape}", probabilities.shape, "for labels use cross_entropy"
        )
    q, known = distribution(logits, probabilities)
    warning = alarm(known, q.dtype)
    log_p = jax.nn.log_softmax(logits.astype(q.dtype) * warning[..., None])
    return (xlogy(q, q) - q * log_p).sum(-1) * warning
