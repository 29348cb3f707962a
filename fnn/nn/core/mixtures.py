"""Mean of the probabilities of several networks, in log space."""

import jax
import jax.numpy as jnp
from jax import Array


def average_in_logits(z: Array, axis: int) -> Array:
    """Return the logits of the mean of the probabilities, log Σ_m softmax(z_m) / M.

    Args:
        z: Logits (..., members, ..., classes), in float32 at least. A last axis of 1 is the logit
            of the second of two classes, and the result is one as well.
        axis: The axis of the members, which is not the last one.
    """
    if z.shape[-1] == 1:
        # log p - log (1 - p), each without cancellation.
        second = _log_mean_exp(jax.nn.log_sigmoid(z), axis)
        return second - _log_mean_exp(jax.nn.log_sigmoid(-z), axis)
    return _log_mean_exp(jax.nn.log_softmax(z), axis)


def _log_mean_exp(x: Array, axis: int) -> Array:
    """Return log Σ_m exp(x_m) / M over an axis."""
    # Relative to the largest, so that equal members give this one exactly.
    largest = jax.lax.stop_gradient(x.max(axis, keepdims=True))
    # Where all of them are -inf, the result is -inf.
    largest = jnp.where(jnp.isneginf(largest), 0, largest)
    return jnp.squeeze(largest, axis) + jnp.log(jnp.exp(x - largest).mean(axis))
