"""Losses of sequences without an alignment in time."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import as_int32, at_least_0, expect_integers, nan_unless
from fnn.types import PerExample

# Logarithm of a probability of 0: below any sum of log-probabilities, and finite, so that sums and
# gradients have no NaN.
LOG_ZERO = -1e30


@loss()
def ctc(
    outputs: Any,
    targets: Any,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
) -> PerExample:
    """Connectionist temporal classification, -log Σ_paths Π_t softmax(logits_t)[path_t].

    A path gives each time a label or the blank. It belongs to the labels if they are left after
    equal neighbors are merged and then blanks are dropped. The loss is infinite if the labels need
    more time than there is, and its gradient then NaN; both are NaN if a label is the blank or not
    a class, or if a length does not fit. The loss is never negative; its absolute error in float32
    is about 1e-7 for each time step [Graves et al. 2006, doi:10.1145/1143844.1143891].

    Args:
        outputs: Logits (batch, time, classes), or a pair of them and their lengths in time
            (batch,).
        targets: A pair of labels (batch, length) and their lengths (batch,). Labels beyond the
            length are ignored.
        blank: The class that stands for no label.
        zero_infinity: Whether examples whose labels need more time than there is have the loss 0
            and the gradient 0, so that they do not end a run.

    Raises:
        ConfigError: `blank` is not a class, or `zero_infinity` is not True or False.
        DTypeError: The logits are not floats, or labels or lengths not integers.
        ShapeError: The shapes do not fit.
    """
    logits, times, labels, lengths = _expect_sequences(outputs, targets)
    steps, classes = logits.shape[1:]
    positions = jnp.arange(labels.shape[1], dtype=jnp.int32)
    if checks.whole("ctc blank", blank, 0) >= classes:
        advice = "give the network one more output"
        raise ConfigError(
            "ctc blank",
            f"a class below {classes}",
            blank,
            advice,
        )
    checks.flag("ctc zero_infinity", zero_infinity)
    inside = positions[None] < lengths[:, None]  # (batch, labels)
    wrong_label = (inside & ((labels < 0) | (labels >= classes) | (labels == blank))).any(1)
    labels_fit = (lengths >= 0) & (lengths <= labels.shape[1])  # (batch,)
    lengths_fit = labels_fit & (times >= 1) & (times <= steps)
    guard = nan_unless(lengths_fit & ~wrong_label, trees.wide(logits))
    log_p = jax.nn.log_softmax(logits.astype(guard.dtype) * guard[:, None, None])
    # A class that is excluded by a logit of -inf has a finite logarithm too.
    log_p = jnp.maximum(log_p, LOG_ZERO)
    padded = jnp.where(inside, labels, blank).clip(0, classes - 1)
    log_total = _log_likelihood(log_p, times, padded, lengths, blank)
    # Where nearly all paths are those of the labels, rounding may make the sum more than 1.
    value = at_least_0(-log_total)
    # A sum near LOG_ZERO has no path.
    has_path = log_total > LOG_ZERO / 2
    if zero_infinity:
        # NaN, of wrong labels, is no sum near LOG_ZERO.
        return jnp.where(log_total <= LOG_ZERO / 2, 0, value) * guard
    infinite = jnp.where(has_path, 1, jnp.inf).astype(log_total.dtype)
    return value * infinite * guard


def _log_likelihood(
    log_p: jax.Array,
    times: jax.Array,
    labels: jax.Array,
    lengths: jax.Array,
    blank: int,
) -> jax.Array:
    """Sum over all paths by the forward algorithm, -> (batch,).

    The states are blank, label 1, blank, label 2, ..., blank.
    """
    batch, steps, _ = log_p.shape
    states = 2 * labels.shape[1] + 1
    path = jnp.full((batch, states), blank, labels.dtype).at[:, 1::2].set(labels)
    classes_of_states = jnp.broadcast_to(path[:, None], (batch, steps, states))
    emitted = jnp.take_along_axis(log_p, classes_of_states, 2)
    emitted = emitted.swapaxes(0, 1)  # (time, batch, states)
    # A label may follow another without a blank between if they differ.
    skips_blank = (path != _shift(path, 2, blank)) & (path != blank)
    # A path begins with the first blank or the first label.
    log_begin = jnp.where(jnp.arange(states) < 2, 0, LOG_ZERO).astype(log_p.dtype)

    def advance(log_alpha: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        """Advance by one time step, log_alpha (batch, states)."""
        step, log_emitted = at
        stay = log_alpha
        advance_one = _shift(log_alpha, 1, LOG_ZERO)
        advance_two = jnp.where(skips_blank, _shift(log_alpha, 2, LOG_ZERO), LOG_ZERO)
        arrivals = jnp.stack((stay, advance_one, advance_two))
        moved = jax.nn.logsumexp(arrivals, axis=0) + log_emitted
        # A sequence that has ended keeps its sums.
        return jnp.where((step < times)[:, None], moved, log_alpha), None

    first = log_begin[None] + emitted[0]
    later_steps = jnp.arange(1, steps, dtype=jnp.int32)
    log_alpha, _ = jax.lax.scan(advance, first, (later_steps, emitted[1:]))
    # A path ends with the last blank, state 2 length, or the last label, the state before.
    ends = jnp.stack([2 * lengths, 2 * lengths - 1], 1).clip(0, states - 1)  # (batch, 2)
    last = jnp.take_along_axis(log_alpha, ends, 1)
    return jnp.logaddexp(last[:, 0], jnp.where(lengths > 0, last[:, 1], LOG_ZERO))


def _shift(row: jax.Array, by: int, fill: float) -> jax.Array:
    """Move a row (batch, states) to later states."""
    padded = jnp.pad(row, ((0, 0), (by, 0)), constant_values=fill)
    return padded[:, : row.shape[1]]


def _expect_sequences(
    outputs: Any,
    targets: Any,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return logits, lengths in time, labels and their lengths, all checked."""
    if not isinstance(targets, tuple | list) or len(targets) != 2:
        raise ShapeError(
            "targets",
            "a pair (labels, lengths)",
            type(targets).__name__,
            "give the length of each example's labels",
        )
    has_times = isinstance(outputs, tuple | list)
    logits = outputs[0] if has_times else outputs
    checks.floating("logits", logits)
    if logits.ndim != 3 or logits.size == 0:
        advice = "give each example a time axis"
        raise ShapeError(
            "logits",
            "(batch, time, classes)",
            logits.shape,
            advice,
        )
    batch = logits.shape[:1]
    labels, lengths = targets
    if labels.ndim != 2:
        advice = "pad short ones with any label"
        raise ShapeError(
            "labels",
            "(batch, length)",
            labels.shape,
            advice,
        )
    times = outputs[1] if has_times else jnp.full(batch, logits.shape[1], jnp.int32)
    times = as_int32(expect_integers("lengths in time", times, batch))
    labels = as_int32(expect_integers("labels", labels, (*batch, labels.shape[1])))
    lengths = as_int32(expect_integers("lengths", lengths, batch))
    return logits, times, labels, lengths
