"""Attention is held to NumPy, query by query, and to jax.nn.dot_product_attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ShapeError, TreeMismatchError
from fnn.nn.attention import dot_product
from fnn.nn.attention.dot_product import divided, projection

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
    np.testing.assert_allclose(
        attend(query, key, value), by_query(query, key, value, everything), rtol=1e-12
    )
    some = np.random.default_rng(1).random(everything.shape) < 0.5
    mixed = attend(query, key, value, seen=jnp.array(some))
    np.testing.assert_allclose(mixed, by_query(query, key, value, some), rtol=1e-12)
    keys_only, queries_only = some[:, :1], some[:1]
    for seen in (keys_only, queries_only):
        wanted = by_query(query, key, value, np.broadcast_to(seen, some.shape))
        np.testing.assert_allclose(
            attend(query, key, value, seen=jnp.array(seen)), wanted, rtol=1e-12
        )


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
    np.testing.assert_array_equal(
        attend(query, loud, value, seen=seen), attend(query, key, value, seen=seen)
    )


@pytest.mark.parametrize("scale", [1e6, 1e15])
def test_large_scores_do_not_overflow(scale):
    query, key, value = drawn(dtype=jnp.float32, scale=scale)
    mixed, pull = jax.vjp(attend, query, key, value)
    assert np.isfinite(mixed).all() and all(
        np.isfinite(grad).all() for grad in pull(jnp.ones_like(mixed))
    )


def test_the_shares_of_a_query_sum_to_one_and_may_be_dropped():
    query, key, value = drawn(kv_heads=2)
    seen = []
    mixed = dot_product.attend(
        query, key, value, drop=lambda shares: seen.append(shares) or 2 * shares
    )
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
    np.testing.assert_allclose(
        mixed.astype(float), np.full((1, 1, 1, 16), 1 / (1 + np.exp(-1.25 / 4))), atol=2**-8
    )


rotate = jax.jit(dot_product.rotate)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("width", "base"), [(2, 10_000.0), (6, 10_000.0), (8, 5.0)])
def test_neighbors_turn_as_one_complex_number(width, base):
    draw = np.random.default_rng(0)
    x, positions = draw.normal(size=(2, 5, 3, width)), np.array([0, 1, 2, 7, 100])
    turned = rotate(jnp.array(x), jnp.array(positions), base=base)
    angle = positions[:, None] * base ** (-2 * np.arange(width // 2) / width)
    wanted = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[None, :, None]
    np.testing.assert_allclose(turned[..., ::2], wanted.real, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(turned[..., 1::2], wanted.imag, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_products_tell_only_how_far_apart_two_stand():
    query, key = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, 4, 2, 6)))
    near, far = (
        jnp.einsum(
            "bqhd,bkhd->bhqk", *(rotate(part, jnp.arange(4) + start) for part in (query, key))
        )
        for start in (0, 1000)
    )
    np.testing.assert_allclose(near, far, rtol=1e-10, atol=1e-11)


def test_half_precision_is_rounded_once():
    x = jnp.ones((1, 300, 1, 2))
    turned = rotate(x.astype(jnp.bfloat16), jnp.arange(300))
    assert turned.dtype == jnp.bfloat16
    np.testing.assert_allclose(turned.astype(float), rotate(x, jnp.arange(300)), atol=2**-7)


@pytest.mark.parametrize("inputs", [3, 4])
def test_it_is_the_dense_layer_of_so_many_units(inputs):
    layer, wanted = projection(lambda width: 2 * width), nn.dense(2 * inputs)
    params, state, shape = layer.init(jax.random.key(0), (5, inputs))
    same, _, own_shape = wanted.init(jax.random.key(0), (5, inputs))
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert (state, shape) == ({}, own_shape)
    x = jnp.linspace(-1, 1, 2 * 5 * inputs).reshape(2, 5, inputs)
    np.testing.assert_array_equal(layer.apply(params, {}, x)[0], wanted.apply(params, {}, x)[0])


def test_its_kernel_begins_as_it_is_told(key):
    layer = projection(lambda width: width, use_bias=False, kernel_init=nn.identity())
    params, _, _ = layer.init(key, (3,))
    np.testing.assert_array_equal(params["kernel"], np.eye(3))
    assert params.keys() == {"kernel"}


def test_a_kernel_of_other_units_is_told():
    params = {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5)}
    with pytest.raises(
        TreeMismatchError, match=r"dense kernel: expected shape \(3, 6\), got shape \(3, 5\)"
    ):
        projection(lambda width: 2 * width).apply(params, {}, jnp.ones((2, 3)))


def test_parts_are_equal():
    assert divided("x", 12, 4) == 3
    with pytest.raises(ShapeError, match="x: expected a width that 5 divides, got 12"):
        divided("x", 12, 5)
