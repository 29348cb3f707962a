"""The draw of a token from its logits: by temperature, top-k and top-p."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import trees

INVALID = -1  # a token that was drawn from logits with NaN


class Sampler(NamedTuple):
    """How a token is drawn from its logits.

    Attributes:
        temperature: Divisor of the logits.
        top_p: Share of probability from which tokens are drawn, or None.
        top_k: Number of tokens from which one is drawn, or None.
    """

    temperature: Array
    top_p: Array | None
    top_k: int | None


def draw(
    keys: Array,
    logits: Array,
    sampler: Sampler,
) -> Array:
    """Draw a token for each row of logits (batch, vocabulary), by its key."""
    # Half precision has too few digits for the noise.
    dtype = trees.wide(logits)
    logits = logits.astype(dtype)
    temperature = sampler.temperature.astype(dtype)
    vocabulary = logits.shape[-1]
    noise_shape = (vocabulary,)

    def noise_of(key: Array) -> Array:
        return jax.random.gumbel(key, noise_shape, dtype)

    # One draw for each token, so that top_k and top_p only leave out some of the tokens.
    noise_of_rows = jax.vmap(noise_of)
    noise = noise_of_rows(keys)  # (batch, vocabulary)
    is_nan = jnp.isnan(logits)
    has_nan = is_nan.any(-1)
    is_valid = ~has_nan
    top_k = sampler.top_k
    top_p = sampler.top_p
    if top_k is None and top_p is None:
        scaled_noise = temperature * noise
        scores = logits + scaled_noise
        choice = jnp.argmax(scores, axis=-1)
        token = jnp.where(is_valid, choice, INVALID)
        return token.astype(jnp.int32)
    limit = top_k or vocabulary
    best = min(limit, vocabulary)
    # (batch, best), in descending order
    logits, order = jax.lax.top_k(logits, best)
    noise = jnp.take_along_axis(noise, order, axis=-1)
    scaled_noise = temperature * noise
    scores = logits + scaled_noise
    if top_p is not None:
        is_within = _in_nucleus(logits, temperature, top_p)
        scores = jnp.where(is_within, scores, -jnp.inf)
    choice = jnp.argmax(scores, axis=-1, keepdims=True)  # (batch, 1)
    # From the place in the order back to the token.
    token = jnp.take_along_axis(order, choice, axis=-1)
    token = token[:, 0]
    token = jnp.where(is_valid, token, INVALID)
    return token.astype(jnp.int32)


def _in_nucleus(
    logits: Array,
    temperature: Array,
    top_p: Array,
) -> Array:
    """Return which of the logits (batch, tokens), in descending order, are within top_p."""
    # At temperature 0 the first is taken from any set.
    is_positive = temperature > 0
    divisor = jnp.where(is_positive, temperature, 1)
    scaled = logits / divisor
    probabilities = jax.nn.softmax(scaled)
    sums = jnp.cumsum(probabilities, axis=-1)
    before = sums - probabilities
    # A sum may round to 1 before the last token.
    takes_all = top_p >= 1
    is_needed = before < top_p
    is_within = is_needed | takes_all
    # The most likely token is always within.
    first = is_within.at[:, 0]
    return first.set(True)
