"""Tokens are drawn from the distribution of their logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fnn.nn.sampler import Sampler, draw

LOGITS = np.array([0.3, 2.0, -1.0, 1.9, 0.0, -3.0, 1.0])
DRAWS = 20_000


def reference(logits, temperature, top_k, top_p):
    """The distribution of a token, by sorting in NumPy."""
    probabilities = np.exp(logits / temperature)
    order = np.argsort(-probabilities, kind="stable")
    kept = order[:top_k]
    shares = probabilities[kept] / probabilities[kept].sum()
    if top_p is not None:
        count = int(np.searchsorted(np.cumsum(shares), top_p)) + 1
        kept = kept[:count]
    distribution = np.zeros_like(probabilities)
    distribution[kept] = probabilities[kept] / probabilities[kept].sum()
    return distribution


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.5, None, None), (2.0, 3, None), (1.0, None, 0.8), (1.5, 5, 0.7)],
)
def test_frequencies_of_draws_equal_the_distribution(temperature, top_k, top_p, key):
    keys = jax.random.split(key, DRAWS)
    logits = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (DRAWS, len(LOGITS)))
    share = None if top_p is None else jnp.float32(top_p)
    sampler = Sampler(jnp.float32(temperature), share, top_k)
    # Not as constants, which the compiler would draw from.
    drawn = jax.jit(lambda keys, logits: draw(keys, logits, sampler))(keys, logits)
    counts = np.bincount(drawn, minlength=len(LOGITS))
    expected = DRAWS * reference(LOGITS, temperature, top_k, top_p)
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-3
