"""Attention is held to NumPy, query by query, and to jax.nn.dot_product_attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.attention import dot_product

attend = jax.jit(dot_product.attend)  # quicker than number by number for shapes that come once

BATCH, QUERIES, KEYS, WIDTH = 2, 3, 4, 5


def drawn(heads=4, kv_heads=4, dtype=float, scale=1.0):
    draw = np.random.default_rng(0)
    shapes = (BATCH, QUERIES, heads, WIDTH), *[(BATCH, KEYS, kv_heads, WIDTH)] * 2
    return [jnp.asarray(scale * draw.normal(size=shape), dtype) for shape in shapes]


def by_query(query, key, value, seen):
    """The mix of each query alone, among what it sees."""
    query, key, value = map(np.asarray, (query, key, value))
    mixed, group = np.zeros_like(query), query.shape[2] // key.shape[2]
    for b, q, h in np.ndindex(query.shape[:3]):
        keys, values = (array[b, seen[b, q], h // group] for array in (key, value))
        if len(keys):
            scores = np.exp(keys @ query[b, q, h] / WIDTH**0.5)
            mixed[b, q, h] = scores @ values / scores.sum()
    return mixed


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_each_query_mixes_what_it_sees(kv_heads):
    query, key, value = drawn(kv_heads=kv_heads)
    everything = np.ones((BATCH, QUERIES, KEYS), bool)
    np.testing.assert_allclose(attend(query, key, value), by_query(query, key, value, everything), rtol=1e-12)
    some = np.random.default_rng(1).random(everything.shape) < 0.5
    mixed = attend(query, key, value, seen=jnp.array(some))
    np.testing.assert_allclose(mixed, by_query(query, key, value, some), rtol=1e-12)
    keys_only, queries_only = some[:, :1], some[:1]
    for seen in (keys_only, queries_only):
        wanted = by_query(query, key, value, np.broadcast_to(seen, some.shape))
        np.testing.assert_allclose(attend(query, key, value, seen=jnp.array(seen)), wanted, rtol=1e-12)


def test_in_single_precision_it_is_that_of_jax():
    query, key, value = drawn(kv_heads=2, dtype=jnp.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        wanted = jax.nn.dot_product_attention(query, key, value)
    np.testing.assert_allclose(attend(query, key, value), wanted, rtol=1e-5, atol=1e-6)


def test_a_query_that_sees_nothing_mixes_nothing_and_has_finite_gradients():
    seen = jnp.ones((BATCH, QUERIES, KEYS), bool).at[0, 1].set(False)

    def total(*arrays):
        mixed = attend(*arrays, seen=seen)
        return jnp.square(mixed).sum(), mixed

    grads, mixed = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*drawn())
    np.testing.assert_array_equal(mixed[0, 1], 0)
    assert np.abs(mixed[0, ::2]).min() > 0 and all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_array_equal(grads[0][0, 1], 0)


def test_what_is_not_seen_has_no_influence_however_it_scores():
    query, key, value = drawn()
    seen = jnp.ones((BATCH, QUERIES, KEYS), bool).at[:, :, 1].set(False)
    loud = key.at[:, 1].set(1e30 * query[:, 0])
    np.testing.assert_array_equal(attend(query, loud, value, seen=seen), attend(query, key, value, seen=seen))


@pytest.mark.parametrize("scale", [1e6, 1e15])
def test_large_scores_do_not_overflow(scale):
    query, key, value = drawn(dtype=jnp.float32, scale=scale)
    mixed, pull = jax.vjp(attend, query, key, value)
    assert np.isfinite(mixed).all() and all(np.isfinite(grad).all() for grad in pull(jnp.ones_like(mixed)))


def test_the_shares_of_a_query_sum_to_one_and_may_be_dropped():
    query, key, value = drawn(kv_heads=2)
    seen = []
    mixed = dot_product.attend(query, key, value, drop=lambda shares: seen.append(shares) or 2 * shares)
    (shares,) = seen
    assert shares.shape == (BATCH, 4, QUERIES, KEYS)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed, 2 * attend(query, key, value), rtol=1e-5, atol=1e-6)


def test_in_half_precision_only_the_query_and_the_shares_are_rounded():
    """Scores of 60 and 60.31, the second of which bfloat16 would round to 60.25."""
    query = jnp.zeros((1, 1, 1, 16), jnp.bfloat16).at[..., :2].set(1)
    key = jnp.zeros((1, 2, 1, 16), jnp.bfloat16).at[..., 0].set(240).at[0, 1, 0, 1].set(1.25)
    value = jnp.zeros((1, 2, 1, 16), jnp.bfloat16).at[0, 1].set(1)
    mixed = attend(query, key, value)
    assert mixed.dtype == jnp.bfloat16
    np.testing.assert_allclose(mixed.astype(float), np.full((1, 1, 1, 16), 1 / (1 + np.exp(-1.25 / 4))), atol=2**-8)
