"""Attention layers: formula, masks, options and errors."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

TIME, WIDTH = 4, 8
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, TIME, WIDTH)), jnp.float32)
MEMORY = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, WIDTH)), jnp.float32)
KEYS = jnp.array([[True, False, True, True], [True, True, False, False]])


def applied(layer, params, x, **options):
    """The output of a layer, compiled as one program, which is faster."""
    return jax.jit(partial(layer.apply, **options))(params, {}, x)[0]


def attention_and_params(heads=2, **options):
    """A self-attention layer and its params."""
    layer = nn.attention(heads, **options)
    return layer, random_params(layer, (TIME, WIDTH))


def random_params(layer, shape):
    """Random params of the layer, none of them 0."""
    draw = np.random.default_rng(2)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), shape)[0])
    return jax.tree.map(lambda p: jnp.asarray(0.5 * draw.normal(size=p.shape), p.dtype), shapes)


def formula(params, x, memory, heads):
    """softmax(q kᵀ / √d) v for one example, head by head."""

    def dense(part, x):
        kernel = np.asarray(params[part]["kernel"], float)
        return np.asarray(x, float) @ kernel + np.asarray(params[part]["bias"])

    query = np.split(dense("query", x), heads, axis=1)
    key = np.split(dense("key", memory), heads, axis=1)
    value = np.split(dense("value", memory), heads, axis=1)
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        weights = np.exp(q @ k.T / q.shape[1] ** 0.5)
        outputs.append(weights @ v / weights.sum(1, keepdims=True))
    return dense("output", np.concatenate(outputs, axis=1))


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_self_attention_equals_the_formula(heads):
    layer, params = attention_and_params(heads)
    y, state = layer.apply(params, {}, X)
    for example in range(2):
        expected = formula(params, X[example], X[example], heads)
        np.testing.assert_allclose(y[example], expected, atol=1e-5)
    assert state == {}


def test_cross_attention_equals_the_formula():
    layer = nn.cross_attention(2)
    params = random_params(layer, ((TIME, WIDTH), (3, WIDTH)))
    y = applied(layer, params, (X, MEMORY))
    for example in range(2):
        expected = formula(params, X[example], MEMORY[example], 2)
        np.testing.assert_allclose(y[example], expected, atol=1e-5)
    with_itself = applied(layer, params, (X, X))
    self_attention, _ = attention_and_params()
    expected = applied(self_attention, params, X)
    np.testing.assert_allclose(with_itself, expected, rtol=1e-5, atol=1e-6)


def test_an_empty_batch_has_an_empty_output():
    layer, params = attention_and_params()
    assert applied(layer, params, X[:0]).shape == (0, TIME, WIDTH)


def test_masked_keys_are_as_if_absent():
    layer, params = attention_and_params()
    y = applied(layer, params, (X, KEYS))
    for example in range(2):
        memory = X[example][KEYS[example]]
        np.testing.assert_allclose(y[example], formula(params, X[example], memory, 2), atol=1e-5)


def test_mask_of_keys_equals_the_same_mask_for_every_query():
    layer, params = attention_and_params(rotary=True)
    both = jnp.broadcast_to(KEYS[:, None], (2, TIME, TIME))
    y = applied(layer, params, (X, KEYS))
    np.testing.assert_array_equal(applied(layer, params, (X, both)), y)
    all_true = applied(layer, params, (X, jnp.ones_like(KEYS)))
    np.testing.assert_allclose(all_true, applied(layer, params, X), rtol=1e-6)


def test_causal_equals_a_lower_triangular_mask():
    causal, params = attention_and_params(causal=True)
    free, _ = attention_and_params()
    lower = jnp.broadcast_to(jnp.tril(jnp.ones((TIME, TIME), bool)), (2, TIME, TIME))
    np.testing.assert_array_equal(applied(causal, params, X), applied(free, params, (X, lower)))
    masked = applied(free, params, (X, lower & KEYS[:, None]))
    np.testing.assert_array_equal(applied(causal, params, (X, KEYS)), masked)


@pytest.mark.parametrize("rotary", [False, True])
def test_causal_output_depends_on_no_later_step(rotary):
    layer, params = attention_and_params(causal=True, rotary=rotary)
    jacobian = jax.jit(jax.jacobian(lambda x: layer.apply(params, {}, x[None])[0][0]))
    slopes = jacobian(X[0])  # (time, width, time, width)
    depends = np.abs(slopes).max((1, 3)) > 0
    np.testing.assert_array_equal(depends, np.tril(np.ones((TIME, TIME), bool)))


def test_order_matters_only_with_rotary_embeddings():
    order = jnp.array([2, 0, 3, 1])
    for rotary in (False, True):
        layer, params = attention_and_params(rotary=rotary)
        y = applied(layer, params, X)
        permuted = applied(layer, params, X[:, order])
        assert np.allclose(y[:, order], permuted, atol=1e-5) != rotary


def test_grouped_keys_and_values_equal_repeated_ones():
    grouped, params = attention_and_params(4, kv_heads=2)
    layer, _ = attention_and_params(4)

    def repeat_heads(array):
        """Repeat each head, of 2 columns, for the two query heads of its group."""
        heads = array.reshape(*array.shape[:-1], 2, 2)
        return jnp.repeat(heads, 2, axis=-2).reshape(*array.shape[:-1], WIDTH)

    assert params["key"]["kernel"].shape == (WIDTH, WIDTH // 2)
    repeated = {part: jax.tree.map(repeat_heads, params[part]) for part in ("key", "value")}
    expected = applied(layer, params | repeated, X)
    chex.assert_trees_all_close(applied(grouped, params, X), expected, rtol=1e-5, atol=1e-6)


def test_query_without_keys_gives_the_bias_and_finite_gradients():
    layer, params = attention_and_params()
    mask = jnp.ones((2, TIME, TIME), bool).at[0, 1].set(False)

    def total(params, x):
        y, _ = layer.apply(params, {}, (x, mask))
        return jnp.square(y).sum(), y

    grads, y = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, X)
    np.testing.assert_array_equal(y[0, 1], params["output"]["bias"])
    chex.assert_tree_all_finite(grads)


def test_attention_weights_are_dropped_in_training_only(key):
    layer, params = attention_and_params(drop_rate=0.5)
    free, _ = attention_and_params()
    expected = applied(free, params, X)
    np.testing.assert_allclose(applied(layer, params, X), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(DTypeError, match="dropout key"):
        layer.apply(params, {}, X, train=True)
    keys = jax.random.split(key, 4000)
    draws = jax.jit(jax.vmap(lambda key: layer.apply(params, {}, X, key=key, train=True)[0]))(keys)
    standard_error = np.std(draws, 0) / 4000**0.5
    deviation = np.abs(draws.mean(0) - expected) / standard_error
    assert np.max(deviation) < 5
    assert np.min(np.std(draws, 0)) > 0


def torch_attention(params, x, bias, scale, heads):
    """torch's scaled dot-product attention with these projections."""
    import torch

    def project(name):
        y = np.asarray(x) @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        return torch.from_numpy(y.reshape(2, TIME, heads, -1).transpose(0, 2, 1, 3))

    query, key, value = map(project, ("query", "key", "value"))
    mean = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=torch.from_numpy(np.array(bias)), scale=scale
    )
    joined = mean.numpy().transpose(0, 2, 1, 3).reshape(2, TIME, -1)
    return joined @ np.asarray(params["output"]["kernel"]) + np.asarray(params["output"]["bias"])


@pytest.mark.torch
@pytest.mark.parametrize("scale", [None, 0.3])
def test_bias_and_scale_equal_torch(scale):
    layer, params = attention_and_params(scale=scale)
    shape = (2, TIME, TIME)
    bias = jnp.asarray(np.random.default_rng(3).normal(size=(2, *shape)), jnp.float32)
    bias = bias.at[0, ..., 1].set(-jnp.inf)
    assert layer.init(jax.random.key(0), ((TIME, WIDTH), shape))[2] == (TIME, WIDTH)
    expected = torch_attention(params, X, bias, scale, heads=2)
    np.testing.assert_allclose(applied(layer, params, (X, bias)), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DTypeError, match="attention bias: expected floating"):
        layer.apply(params, {}, (X, jnp.ones((2, *shape), bool)))


def test_causal_attention_adds_a_bias_to_groups_of_heads():
    layer, params = attention_and_params(4, kv_heads=2, causal=True)
    draw = np.random.default_rng(3)
    bias = jnp.asarray(draw.normal(size=(2, 4, TIME, TIME)), jnp.float32)
    later = jnp.triu(jnp.full((TIME, TIME), -jnp.inf), 1)
    free, _ = attention_and_params(4, kv_heads=2)
    expected = applied(free, params, (X, bias + later[None, None]))
    np.testing.assert_allclose(applied(layer, params, (X, bias)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "inner", "narrow"),
    [
        ({}, 8, 8),
        ({"kv_heads": 1}, 8, 4),
        ({"head_width": 3}, 6, 6),
        ({"head_width": 3, "kv_heads": 1}, 6, 3),
    ],
)
def test_init_returns_the_documented_shapes(options, inner, narrow, key):
    layer = nn.attention(2, **options)
    params, _, shape = layer.init(key, ((TIME, WIDTH), (TIME,)))
    kernels = {
        "query": (WIDTH, inner),
        "key": (WIDTH, narrow),
        "value": (WIDTH, narrow),
        "output": (inner, WIDTH),
    }
    expected = {name: {"kernel": size, "bias": size[1:]} for name, size in kernels.items()}
    assert jax.tree.map(jnp.shape, params) == expected
    assert applied(layer, params, (X, KEYS)).shape == (2, *shape) == (2, TIME, WIDTH)


@pytest.mark.slow
def test_heads_of_another_width_fit_a_residual_and_its_changes(key):
    attention = nn.attention(2, head_width=7)
    for layer in (attention, nn.spectral_norm(attention), nn.cast(nn.remat(attention), float)):
        network = nn.residual(layer)
        params, state, shape = network.init(key, (TIME, WIDTH))
        assert params["body"]["output"]["kernel"].shape == (14, WIDTH)
        assert network.apply(params, state, X)[0].shape == (2, *shape) == X.shape
    alone = nn.take(attention, "output")
    assert alone.init(key, (TIME, 14))[2] == (TIME, 14)


def test_use_bias_and_kernel_init_are_used(key):
    layer = nn.attention(2, use_bias=False, kernel_init=nn.identity())
    params, _, _ = layer.init(key, (TIME, WIDTH))
    parts = ("query", "key", "value", "output")
    chex.assert_trees_all_equal(params, {part: {"kernel": jnp.eye(WIDTH)} for part in parts})


def test_part_can_be_replaced(key):
    layer = nn.replace(nn.attention(2), "output", nn.dense(5))
    params, _, shape = layer.init(key, (TIME, WIDTH))
    assert shape == (TIME, 5)
    assert applied(layer, params, X).shape == (2, TIME, 5)


def test_memory_may_have_another_width(key):
    layer = nn.cross_attention(2, head_width=4)
    params, state, shape = layer.init(key, ((TIME, WIDTH), (3, 5)))
    assert params["key"]["kernel"].shape == (5, 8)
    assert layer.apply(params, state, (X, MEMORY[..., :5], KEYS[:, :3]))[0].shape == (2, *shape)
    message = r"cross_attention key: expected 8 wide .*got 6; give head_width="
    with pytest.raises(ShapeError, match=message):
        nn.cross_attention(2).init(key, ((TIME, WIDTH), (3, 6)))


def test_half_precision_is_kept():
    layer, params = attention_and_params(causal=True, rotary=True)
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    y = applied(layer, low, X.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(float), applied(layer, params, X), atol=0.1)


OPTIONS = {
    "heads": ({"heads": 0}, "attention heads: expected >= 1"),
    "float heads": ({"heads": 2.0}, "attention heads: expected a whole number"),
    "no kv_heads": ({"heads": 2, "kv_heads": 0}, "attention kv_heads: expected >= 1"),
    "kv_heads": (
        {"heads": 4, "kv_heads": 3},
        "attention kv_heads: expected a divisor of heads=4, got 3",
    ),
    "more kv_heads": (
        {"heads": 2, "kv_heads": 4},
        "attention kv_heads: expected a divisor of heads=2, got 4",
    ),
    "head_width": ({"heads": 2, "head_width": 0}, "attention head_width: expected >= 1"),
    "drop_rate": ({"heads": 2, "drop_rate": 1.0}, "dropout drop_rate: expected"),
}


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("maker", [nn.attention, nn.cross_attention])
def test_invalid_options_raise(maker, case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=message):
        maker(**options)


ERRORS = {
    "integers": (X.astype(int), DTypeError, "attention x: expected floating"),
    "image": (X[..., None], ShapeError, r"attention x: expected a shape \(time, width\)"),
    "vectors": (X[0], ShapeError, r"attention x: expected a shape \(time, width\)"),
    "no times": (X[:, :0], ShapeError, r"attention x: expected a shape \(time, width\)"),
    "odd": (X[..., :7], ShapeError, "attention width: expected a width that 2 divides, got 7"),
    "float mask": ((X, KEYS.astype(float)), DTypeError, "attention mask: expected booleans"),
    "short mask": (
        (X, KEYS[:, :3]),
        ShapeError,
        r"attention mask: expected a shape \(4,\) or \(4, 4\), got \(3,\)",
    ),
    "one mask": ((X, KEYS[:1]), ShapeError, "attention mask: expected a batch of 2 as x"),
    "mask of heads": ((X, KEYS[:, None, None]), ShapeError, "attention mask: expected a shape"),
    "four": (
        (X, X, X, KEYS),
        ShapeError,
        r"attention: expected \(x\), with or without a mask, got 4 arrays",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_raise(case):
    x, error, message = ERRORS[case]
    layer, params = attention_and_params()
    with pytest.raises(error, match=message):
        layer.apply(params, {}, x)


def test_wrong_width_raises_with_the_path_of_the_part():
    layer, params = attention_and_params()
    message = r"dense x: expected \(..., 8\) as in its kernel"
    with pytest.raises(ShapeError, match=message) as caught:
        layer.apply(params, {}, X[..., :6])
    assert caught.value.__notes__[0].startswith("in layer query: x float32[2,4,6]")


def test_wrong_memory_raises(key):
    layer = nn.cross_attention(2)
    params, _, _ = layer.init(key, ((TIME, WIDTH), (3, WIDTH)))
    message = r"cross_attention: expected \(x, memory\), with or without a mask, got 1"
    with pytest.raises(ShapeError, match=message):
        layer.apply(params, {}, X)
    with pytest.raises(ShapeError, match="cross_attention memory: expected a batch of 2 as x"):
        layer.apply(params, {}, (X, MEMORY[:1]))
    with pytest.raises(DTypeError, match="cross_attention memory: expected floating"):
        layer.apply(params, {}, (X, MEMORY > 0))


def test_wrong_shapes_raise(key):
    for shape in [(), (4,), (4, 4, 8), (0, 8)]:
        with pytest.raises(ShapeError, match=r"attention x: expected a shape \(time, width\)"):
            nn.attention(2).init(key, shape)
    message = r"attention mask: expected a shape \(4,\) or \(4, 4\), got \(8,\)"
    with pytest.raises(ShapeError, match=message):
        nn.attention(2).init(key, ((4, 8), (8,)))


def test_rotary_needs_an_even_head_width(key):
    with pytest.raises(ShapeError, match="attention rotary: expected an even head width, got 3"):
        nn.attention(2, rotary=True).init(key, (4, 6))
