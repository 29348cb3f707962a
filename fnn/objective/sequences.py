"""Losses of sequences that are not aligned in time."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.objective.loss import loss
from fnn.objective.targets import alarm, countable, whole_numbers
from fnn.types import PerExample

NEVER = (
    -1e30
)  # the log of a chance of 0 that can be computed with: beyond any sum of log-probabilities


@loss()
def ctc(outputs: Any, targets: Any, *, blank: int = 0) -> PerExample:
    """The surprise at a sequence of labels without times, -log Σ Π_t softmax(logits_t) over all ways to spread it.

    A way gives each time a label or the blank; equal neighbors count once, then blanks are dropped. outputs are logits
    (batch, time, classes), or a pair with the lengths in time (batch,); targets are a pair, labels (batch, places) and
    their lengths (batch,), what stands beyond being of no account. Infinite where the labels need more time than there
    is; NaN, as is the gradient, where a label is the blank or no class, or a length does not fit. ShapeError,
    DTypeError or ConfigError for what does not fit [Graves et al. 2006, doi:10.1145/1143844.1143891].
    """
    logits, times, labels, lengths = _entered(outputs, targets)
    classes, places = logits.shape[-1], jnp.arange(labels.shape[1], dtype=jnp.int32)
    if checks.whole("ctc blank", blank, 0) >= classes:
        raise ConfigError(
            "ctc blank", f"a class below {classes}", blank, "give the network one more output"
        )
    inside = places[None] < lengths[:, None]
    wrong = (inside & ((labels < 0) | (labels >= classes) | (labels == blank))).any(1)
    fits = (lengths >= 0) & (lengths <= labels.shape[1]) & (times >= 1) & (times <= logits.shape[1])
    warning = alarm(fits & ~wrong, trees.wide(logits))
    log_p = jax.nn.log_softmax(logits.astype(warning.dtype) * warning[:, None, None])
    total = _log_chance(
        log_p, times, jnp.where(inside, labels, blank).clip(0, classes - 1), lengths, blank
    )
    return -total * jnp.where(total > NEVER / 2, 1, jnp.inf).astype(total.dtype) * warning


def _log_chance(
    log_p: jax.Array, times: jax.Array, labels: jax.Array, lengths: jax.Array, blank: int
) -> jax.Array:
    """The log of the chance of the labels, by the forward algorithm over blank, label 1, blank, label 2, ..., blank."""
    batch, steps, _ = log_p.shape
    states = 2 * labels.shape[1] + 1
    path = jnp.full((batch, states), blank, labels.dtype).at[:, 1::2].set(labels)
    emitted = jnp.take_along_axis(
        log_p, jnp.broadcast_to(path[:, None], (batch, steps, states)), 2
    ).swapaxes(0, 1)
    # From one label to the next without a blank between, where they differ.
    leaps = (path != _delayed(path, 2, blank)) & (path != blank)
    begin = jnp.where(jnp.arange(states) < 2, 0, NEVER).astype(log_p.dtype)

    def move(log_alpha: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        step, now = at
        ways = (
            log_alpha,
            _delayed(log_alpha, 1, NEVER),
            jnp.where(leaps, _delayed(log_alpha, 2, NEVER), NEVER),
        )
        moved = jax.nn.logsumexp(jnp.stack(ways), axis=0) + now
        return jnp.where((step < times)[:, None], moved, log_alpha), None

    log_alpha, _ = jax.lax.scan(
        move, begin[None] + emitted[0], (jnp.arange(1, steps, dtype=jnp.int32), emitted[1:])
    )
    last = jnp.take_along_axis(
        log_alpha, jnp.stack([2 * lengths, 2 * lengths - 1], 1).clip(0, states - 1), 1
    )
    return jnp.logaddexp(last[:, 0], jnp.where(lengths > 0, last[:, 1], NEVER))


def _delayed(row: jax.Array, by: int, fill: float) -> jax.Array:
    """The row (batch, states) moved to later states."""
    return jnp.pad(row, ((0, 0), (by, 0)), constant_values=fill)[:, : row.shape[1]]


def _entered(outputs: Any, targets: Any) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    if not isinstance(targets, tuple | list) or len(targets) != 2:
        raise ShapeError(
            "targets",
            "a pair (labels, lengths)",
            type(targets).__name__,
            "tell each example's length",
        )
    logits = outputs[0] if isinstance(outputs, tuple | list) else outputs
    checks.floating("logits", logits)
    if logits.ndim != 3 or logits.size == 0:
        raise ShapeError(
            "logits", "(batch, time, classes)", logits.shape, "give each example a time axis"
        )
    batch = logits.shape[:1]
    if targets[0].ndim != 2:
        raise ShapeError(
            "labels", "(batch, places)", targets[0].shape, "fill short ones up with any label"
        )
    times = (
        outputs[1]
        if isinstance(outputs, tuple | list)
        else jnp.full(batch, logits.shape[1], jnp.int32)
    )
    return (
        logits,
        countable(whole_numbers("lengths in time", times, batch)),
        countable(whole_numbers("labels", targets[0], (*batch, targets[0].shape[1]))),
        countable(whole_numbers("lengths", targets[1], batch)),
    )
