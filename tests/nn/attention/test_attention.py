"""Attention layers are held to their formula, to laws of what sees what, and to what a person gets wrong."""

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
    """What a layer gives, compiled as one: quicker for shapes that come once."""
    return jax.jit(partial(layer.apply, **options))(params, {}, x)[0]


def looker(heads=2, **options):
    """A layer, and params for it."""
    layer = nn.attention(heads, **options)
    return layer, drawn(layer, (TIME, WIDTH))


def drawn(layer, shape):
    """Params for the layer, none of them 0."""
    draw = np.random.default_rng(2)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), shape)[0])
    return jax.tree.map(lambda p: jnp.asarray(0.5 * draw.normal(size=p.shape), p.dtype), shapes)


def formula(params, x, memory, heads):
    """softmax(q kᵀ / √d) v, a head at a time, on the numbers of one example."""
    query, key, value = (
        np.asarray(of, float) @ np.asarray(params[part]["kernel"], float)
        + np.asarray(params[part]["bias"])
        for part, of in (("query", x), ("key", memory), ("value", memory))
    )
    mixed = []
    for q, k, v in zip(
        *(np.split(array, heads, axis=1) for array in (query, key, value)), strict=True
    ):
        shares = np.exp(q @ k.T / q.shape[1] ** 0.5)
        mixed.append(shares @ v / shares.sum(1, keepdims=True))
    return np.concatenate(mixed, axis=1) @ np.asarray(params["output"]["kernel"]) + np.asarray(
        params["output"]["bias"]
    )


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_a_sequence_asks_itself(heads):
    layer, params = looker(heads)
    y, state = layer.apply(params, {}, X)
    for example in range(2):
        np.testing.assert_allclose(
            y[example], formula(params, X[example], X[example], heads), atol=1e-5
        )
    assert state == {}


def test_a_sequence_asks_another():
    layer = nn.cross_attention(2)
    params = drawn(layer, ((TIME, WIDTH), (3, WIDTH)))
    y = applied(layer, params, (X, MEMORY))
    for example in range(2):
        np.testing.assert_allclose(
            y[example], formula(params, X[example], MEMORY[example], 2), atol=1e-5
        )
    itself = applied(layer, params, (X, X))
    np.testing.assert_allclose(itself, applied(looker()[0], params, X), rtol=1e-5, atol=1e-6)


def test_unseen_keys_are_as_if_they_were_not_there():
    layer, params = looker()
    y = applied(layer, params, (X, KEYS))
    for example in range(2):
        memory = X[example][KEYS[example]]
        np.testing.assert_allclose(y[example], formula(params, X[example], memory, 2), atol=1e-5)


def test_a_mask_of_keys_is_one_of_queries_and_keys():
    layer, params = looker(rotary=True)
    both = jnp.broadcast_to(KEYS[:, None], (2, TIME, TIME))
    np.testing.assert_array_equal(
        applied(layer, params, (X, both)), applied(layer, params, (X, KEYS))
    )
    everything = applied(layer, params, (X, jnp.ones_like(KEYS)))
    np.testing.assert_allclose(everything, applied(layer, params, X), rtol=1e-6)


def test_causal_is_the_lower_triangle():
    (causal, params), (free, _) = looker(causal=True), looker()
    lower = jnp.broadcast_to(jnp.tril(jnp.ones((TIME, TIME), bool)), (2, TIME, TIME))
    np.testing.assert_array_equal(applied(causal, params, X), applied(free, params, (X, lower)))
    masked = applied(free, params, (X, lower & KEYS[:, None]))
    np.testing.assert_array_equal(applied(causal, params, (X, KEYS)), masked)


@pytest.mark.parametrize("rotary", [False, True])
def test_causal_never_sees_a_later_one(rotary):
    layer, params = looker(causal=True, rotary=rotary)
    slopes = jax.jit(jax.jacobian(lambda x: layer.apply(params, {}, x[None])[0][0]))(
        X[0]
    )  # (time, width, time, width)
    sees = np.abs(slopes).max((1, 3)) > 0
    np.testing.assert_array_equal(sees, np.tril(np.ones((TIME, TIME), bool)))


def test_order_is_told_by_turning_alone():
    order = jnp.array([2, 0, 3, 1])
    for rotary in (False, True):
        layer, params = looker(rotary=rotary)
        y, moved = applied(layer, params, X), applied(layer, params, X[:, order])
        assert np.allclose(y[:, order], moved, atol=1e-5) != rotary


def test_shared_keys_are_repeated_ones():
    (grouped, params), (layer, _) = looker(4, kv_heads=2), looker(4)

    def repeated(array):  # each head of 2 columns for the two heads that read it
        return jnp.repeat(array.reshape(*array.shape[:-1], 2, 2), 2, axis=-2).reshape(
            *array.shape[:-1], WIDTH
        )

    assert params["key"]["kernel"].shape == (WIDTH, WIDTH // 2)
    own = params | {part: jax.tree.map(repeated, params[part]) for part in ("key", "value")}
    chex.assert_trees_all_close(
        applied(grouped, params, X), applied(layer, own, X), rtol=1e-5, atol=1e-6
    )


def test_a_query_that_sees_nothing_gives_the_bias_and_finite_gradients():
    layer, params = looker()
    mask = jnp.ones((2, TIME, TIME), bool).at[0, 1].set(False)

    def total(params, x):
        y, _ = layer.apply(params, {}, (x, mask))
        return jnp.square(y).sum(), y

    grads, y = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, X)
    np.testing.assert_array_equal(y[0, 1], params["output"]["bias"])
    chex.assert_tree_all_finite(grads)


def test_shares_are_dropped_in_training_only(key):
    layer, params = looker(drop_rate=0.5)
    free, _ = looker()
    wanted = applied(free, params, X)
    np.testing.assert_allclose(applied(layer, params, X), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(DTypeError, match="dropout key"):
        layer.apply(params, {}, X, train=True)
    keys = jax.random.split(key, 4000)
    draws = jax.jit(jax.vmap(lambda key: layer.apply(params, {}, X, key=key, train=True)[0]))(keys)
    deviation = np.abs(draws.mean(0) - wanted) / (np.std(draws, 0) / 4000**0.5)
    assert np.max(deviation) < 5
    assert np.min(np.std(draws, 0)) > 0


@pytest.mark.parametrize(
    ("options", "inner", "narrow"),
    [
        ({}, 8, 8),
        ({"kv_heads": 1}, 8, 4),
        ({"head_width": 3}, 6, 6),
        ({"head_width": 3, "kv_heads": 1}, 6, 3),
    ],
)
def test_init_gives_the_params_and_shapes_that_the_docstring_tells(options, inner, narrow, key):
    layer = nn.attention(2, **options)
    params, _, shape = layer.init(key, ((TIME, WIDTH), (TIME,)))
    kernels = {
        "query": (WIDTH, inner),
        "key": (WIDTH, narrow),
        "value": (WIDTH, narrow),
        "output": (inner, inner),
    }
    assert jax.tree.map(jnp.shape, params) == {
        n: {"kernel": s, "bias": s[1:]} for n, s in kernels.items()
    }
    assert applied(layer, params, (X, KEYS)).shape == (2, *shape) == (2, TIME, inner)


def test_without_bias_it_has_none_and_begins_as_it_is_told(key):
    layer = nn.attention(2, use_bias=False, kernel_init=nn.identity())
    params, _, _ = layer.init(key, (TIME, WIDTH))
    chex.assert_trees_all_equal(
        params, {n: {"kernel": jnp.eye(WIDTH)} for n in ("query", "key", "value", "output")}
    )


def test_a_part_may_be_replaced(key):
    layer = nn.replace(nn.attention(2), "output", nn.dense(5))
    params, _, shape = layer.init(key, (TIME, WIDTH))
    assert shape == (TIME, 5) and applied(layer, params, X).shape == (2, TIME, 5)


def test_a_memory_may_have_another_width(key):
    layer = nn.cross_attention(2, head_width=4)
    params, state, shape = layer.init(key, ((TIME, WIDTH), (3, 5)))
    assert params["key"]["kernel"].shape == (5, 8)
    assert layer.apply(params, state, (X, MEMORY[..., :5], KEYS[:, :3]))[0].shape == (2, *shape)
    with pytest.raises(
        ShapeError, match=r"cross_attention key: expected 8 wide .*got 6; give head_width="
    ):
        nn.cross_attention(2).init(key, ((TIME, WIDTH), (3, 6)))


def test_in_half_precision_it_stays_so():
    layer, params = looker(causal=True, rotary=True)
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
def test_options_out_of_range_are_told_at_once(maker, case):
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
def test_what_does_not_fit_is_told(case):
    x, error, message = ERRORS[case]
    layer, params = looker()
    with pytest.raises(error, match=message):
        layer.apply(params, {}, x)


def test_a_sequence_of_another_width_is_told_where_it_is():
    layer, params = looker()
    with pytest.raises(
        ShapeError, match=r"dense x: expected \(..., 8\) as in its kernel"
    ) as caught:
        layer.apply(params, {}, X[..., :6])
    assert caught.value.__notes__[0].startswith("in layer query: x float32[2,4,6]")


def test_what_is_asked_of_another_is_told(key):
    layer = nn.cross_attention(2)
    params, _, _ = layer.init(key, ((TIME, WIDTH), (3, WIDTH)))
    with pytest.raises(
        ShapeError, match=r"cross_attention: expected \(x, memory\), with or without a mask, got 1"
    ):
        layer.apply(params, {}, X)
    with pytest.raises(ShapeError, match="cross_attention memory: expected a batch of 2 as x"):
        layer.apply(params, {}, (X, MEMORY[:1]))
    with pytest.raises(DTypeError, match="cross_attention memory: expected floating"):
        layer.apply(params, {}, (X, MEMORY > 0))


def test_shapes_of_no_sequences_are_told(key):
    for shape in [(), (4,), (4, 4, 8), (0, 8)]:
        with pytest.raises(ShapeError, match=r"attention x: expected a shape \(time, width\)"):
            nn.attention(2).init(key, shape)
    with pytest.raises(
        ShapeError, match=r"attention mask: expected a shape \(4,\) or \(4, 4\), got \(8,\)"
    ):
        nn.attention(2).init(key, ((4, 8), (8,)))


def test_turning_needs_pairs(key):
    with pytest.raises(ShapeError, match="attention rotary: expected an even head width, got 3"):
        nn.attention(2, rotary=True).init(key, (4, 6))
