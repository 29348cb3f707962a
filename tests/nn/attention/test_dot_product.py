"""Dot-product attention, against NumPy query by query and `jax.nn.dot_product_attention`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ShapeError, TreeMismatchError
from fnn.nn.attention import dot_product
from fnn.nn.attention.dot_product import divide_width, projection

attend = jax.jit(dot_product.attend)  # one program is faster than one for each operation

BATCH, QUERIES, KEYS, WIDTH = 2, 3, 4, 5


def random_inputs(heads=4, kv_heads=4, dtype=float, scale=1.0):
    """Random query, key and value."""
    draw = np.random.default_rng(0)
    kv_shape = (BATCH, KEYS, kv_heads, WIDTH)
    shapes = ((BATCH, QUERIES, heads, WIDTH), kv_shape, kv_shape)
    return [jnp.asarray(scale * draw.normal(size=shape), dtype) for shape in shapes]


def by_query(query, key, value, mask):
    """Attention of each query alone, over its keys."""
    query, key, value = map(np.asarray, (query, key, value))
    outputs = np.zeros_like(query)
    group = query.shape[2] // key.shape[2]
    for b, q, h in np.ndindex(query.shape[:3]):
        keys = key[b, mask[b, q], h // group]
        values = value[b, mask[b, q], h // group]
        if len(keys):
            weights = np.exp(keys @ query[b, q, h] / WIDTH**0.5)
            outputs[b, q, h] = weights @ values / weights.sum()
    return outputs


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_equals_numpy(kv_heads):
    query, key, value = random_inputs(kv_heads=kv_heads)
    all_keys = np.ones((BATCH, QUERIES, KEYS), bool)
    expected = by_query(query, key, value, all_keys)
    np.testing.assert_allclose(attend(query, key, value), expected, rtol=1e-12)
    some_keys = np.random.default_rng(1).random(all_keys.shape) < 0.5
    for mask in (some_keys, some_keys[:, :1], some_keys[:1]):
        got = attend(query, key, value, mask=jnp.array(mask))
        expected = by_query(query, key, value, np.broadcast_to(mask, all_keys.shape))
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_float32_equals_the_function_of_jax():
    query, key, value = random_inputs(kv_heads=2, dtype=jnp.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = jax.nn.dot_product_attention(query, key, value)
    np.testing.assert_allclose(attend(query, key, value), expected, rtol=1e-5, atol=1e-6)


def test_query_without_keys_gives_zeros_and_finite_gradients():
    mask = jnp.ones((BATCH, QUERIES, KEYS), bool).at[0, 1].set(False)

    def total(*arrays):
        y = attend(*arrays, mask=mask)
        return jnp.square(y).sum(), y

    grads, y = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(*random_inputs())
    np.testing.assert_array_equal(y[0, 1], 0)
    assert np.abs(y[0, ::2]).min() > 0
    assert all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_array_equal(grads[0][0, 1], 0)


def test_masked_key_has_no_effect_whatever_its_score():
    query, key, value = random_inputs()
    mask = jnp.ones((BATCH, QUERIES, KEYS), bool).at[:, :, 1].set(False)
    large = key.at[:, 1].set(1e30 * query[:, 0])
    expected = attend(query, key, value, mask=mask)
    np.testing.assert_array_equal(attend(query, large, value, mask=mask), expected)


@pytest.mark.parametrize("scale", [1e6, 1e15])
def test_large_scores_do_not_overflow(scale):
    query, key, value = random_inputs(dtype=jnp.float32, scale=scale)
    y, pull = jax.vjp(attend, query, key, value)
    assert np.isfinite(y).all()
    assert all(np.isfinite(grad).all() for grad in pull(jnp.ones_like(y)))


def test_attention_weights_sum_to_one_and_can_be_dropped():
    query, key, value = random_inputs(kv_heads=2)
    recorded = []

    def double(weights):
        recorded.append(weights)
        return 2 * weights

    y = dot_product.attend(query, key, value, drop=double)
    (weights,) = recorded
    assert weights.shape == (BATCH, 4, QUERIES, KEYS)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(y, 2 * attend(query, key, value), rtol=1e-5, atol=1e-6)


def test_scores_are_not_rounded_to_half_precision():
    """Scores of 60 and 60.31, of which bfloat16 would round the second to 60.25."""
    query = jnp.zeros((1, 1, 1, 16), jnp.bfloat16).at[..., :2].set(1)
    key = jnp.zeros((1, 2, 1, 16), jnp.bfloat16).at[..., 0].set(240).at[0, 1, 0, 1].set(1.25)
    value = jnp.zeros((1, 2, 1, 16), jnp.bfloat16).at[0, 1].set(1)
    y = attend(query, key, value)
    assert y.dtype == jnp.bfloat16
    expected = np.full((1, 1, 1, 16), 1 / (1 + np.exp(-1.25 / 4)))
    np.testing.assert_allclose(y.astype(float), expected, atol=2**-8)


rotate = jax.jit(dot_product.rotate)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("width", "base"), [(2, 10_000.0), (6, 10_000.0), (8, 5.0)])
def test_pairs_are_rotated_as_complex_numbers(width, base):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 5, 3, width))
    positions = np.array([0, 1, 2, 7, 100])
    rotated = rotate(jnp.array(x), jnp.array(positions), base=base)
    angle = positions[:, None] * base ** (-2 * np.arange(width // 2) / width)
    expected = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[None, :, None]
    np.testing.assert_allclose(rotated[..., ::2], expected.real, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(rotated[..., 1::2], expected.imag, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_products_depend_on_the_distance_only():
    query, key = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, 4, 2, 6)))

    def products(start):
        positions = jnp.arange(4) + start
        return jnp.einsum("bqhd,bkhd->bhqk", rotate(query, positions), rotate(key, positions))

    np.testing.assert_allclose(products(0), products(1000), rtol=1e-10, atol=1e-11)


def test_rotation_in_half_precision_is_rounded_once():
    x = jnp.ones((1, 300, 1, 2))
    rotated = rotate(x.astype(jnp.bfloat16), jnp.arange(300))
    assert rotated.dtype == jnp.bfloat16
    np.testing.assert_allclose(rotated.astype(float), rotate(x, jnp.arange(300)), atol=2**-7)


@pytest.mark.parametrize("inputs", [3, 4])
def test_projection_equals_a_dense_layer(inputs):
    layer = projection(lambda width: 2 * width)
    dense = nn.dense(2 * inputs)
    params, state, shape = layer.init(jax.random.key(0), (5, inputs))
    expected, _, dense_shape = dense.init(jax.random.key(0), (5, inputs))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert (state, shape) == ({}, dense_shape)
    x = jnp.linspace(-1, 1, 2 * 5 * inputs).reshape(2, 5, inputs)
    np.testing.assert_array_equal(layer.apply(params, {}, x)[0], dense.apply(params, {}, x)[0])


def test_projection_uses_use_bias_and_kernel_init(key):
    layer = projection(lambda width: width, use_bias=False, kernel_init=nn.identity())
    params, _, _ = layer.init(key, (3,))
    np.testing.assert_array_equal(params["kernel"], np.eye(3))
    assert params.keys() == {"kernel"}


def test_kernel_of_other_units_raises():
    params = {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5)}
    message = r"dense kernel: expected shape \(3, 6\), got shape \(3, 5\)"
    with pytest.raises(TreeMismatchError, match=message):
        projection(lambda width: 2 * width).apply(params, {}, jnp.ones((2, 3)))


def test_divide_width_raises_unless_parts_are_equal():
    assert divide_width("x", 12, 4) == 3
    with pytest.raises(ShapeError, match="x: expected a width that 5 divides, got 12"):
        divide_width("x", 12, 5)
