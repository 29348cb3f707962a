"""Embeddings are rows of their table; positions follow the formula of the paper or a table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError, TreeMismatchError

TABLE = jnp.arange(15.0).reshape(5, 3)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 4, 3), (0, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_embed_gives_the_row_of_each_token(shape, dtype):
    tokens = np.random.default_rng(0).integers(0, 5, shape).astype(dtype)
    y, state = nn.embed(5, 3).apply({"table": TABLE}, {}, jnp.array(tokens))
    np.testing.assert_array_equal(y, np.asarray(TABLE)[tokens])
    assert state == {}


def test_the_gradient_of_a_row_is_the_sum_over_its_tokens():
    tokens, weight = jnp.array([[1, 1, 4]]), jnp.arange(9.0).reshape(1, 3, 3)
    grads = jax.jit(
        jax.grad(
            lambda table: (nn.embed(5, 3).apply({"table": table}, {}, tokens)[0] * weight).sum()
        )
    )(TABLE)
    wanted = np.zeros((5, 3))
    wanted[1], wanted[4] = weight[0, 0] + weight[0, 1], weight[0, 2]
    np.testing.assert_array_equal(grads, wanted)


def test_embed_begins_with_standard_normals(key):
    params, state, shape = nn.embed(100, 50).init(key, (7,))
    assert (state, shape) == ({}, (7, 50))
    assert abs(np.std(params["table"]) - 1) < 4 / (2 * 5000) ** 0.5
    start = nn.embed(4, 2, table_init=nn.zeros()).init(key, ())[0]
    chex.assert_trees_all_equal(start, {"table": jnp.zeros((4, 2))})


@pytest.mark.parametrize("token", [5, -1, 255])
def test_a_token_out_of_range_raises(token):
    with pytest.raises(
        RangeError, match=rf"embed x: expected 0 <= x < 5, got {token} at index \(0, 1\) \(1 of 2\)"
    ):
        nn.embed(5, 3).apply({"table": TABLE}, {}, jnp.array([[0, token]]))


@pytest.mark.parametrize("token", [5, -1])
def test_a_traced_token_out_of_range_makes_values_and_gradients_nan(token):
    def total(table, tokens):
        y, _ = nn.embed(5, 3).apply({"table": table}, {}, tokens)
        return (y * 0).sum(), y

    grads, y = jax.jit(jax.grad(total, has_aux=True))(TABLE, jnp.array([[0, token]]))
    np.testing.assert_array_equal(np.isnan(y), [[[False] * 3, [True] * 3]])
    assert np.isnan(grads).any()


ERRORS = {
    "floats": (
        TABLE,
        jnp.ones((2, 3)),
        DTypeError,
        "embed x: expected an integer dtype, got float32",
    ),
    "booleans": (
        TABLE,
        jnp.ones((2, 3), bool),
        DTypeError,
        "embed x: expected an integer dtype, got bool",
    ),
    "no batch": (TABLE, jnp.int32(0), ShapeError, r"embed x: expected a batch"),
    "other table": (
        TABLE.T,
        jnp.zeros((2, 3), int),
        TreeMismatchError,
        r"embed table: expected shape \(5, 3\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_and_params_of_embed_raise(case):
    table, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.embed(5, 3).apply({"table": table}, {}, x)


@pytest.mark.parametrize("size", [0, -1, 2.0, None, True])
def test_invalid_sizes_raise(size):
    with pytest.raises(ConfigError, match="embed vocabulary: expected"):
        nn.embed(size, 3)
    with pytest.raises(ConfigError, match="embed width: expected"):
        nn.embed(3, size)
    with pytest.raises(ConfigError, match="unembed vocabulary: expected"):
        nn.unembed(nn.embed(3, 3), size)


def test_unembed_multiplies_with_the_table():
    layer, x = nn.unembed(nn.embed(5, 3), 5), jnp.linspace(-1, 1, 2 * 4 * 3).reshape(2, 4, 3)
    y, _ = layer.apply({"embedding": {"table": TABLE}}, {}, x)
    np.testing.assert_allclose(y, np.asarray(x) @ np.asarray(TABLE).T, rtol=1e-6)


def test_init_and_apply_of_unembed_agree_on_the_shape(key):
    layer = nn.unembed(nn.embed(5, 3), 5)
    params, state, shape = layer.init(key, (4, 3))
    assert jax.tree.map(jnp.shape, params) == {"embedding": {"table": (5, 3)}}
    assert layer.apply(params, state, jnp.ones((2, 4, 3)))[0].shape == (2, *shape)


def test_embed_and_unembed_may_share_a_table(key):
    network = nn.shared(nn.embed(5, 3), lambda tied: nn.chain(tied, nn.tanh(), nn.unembed(tied, 5)))
    params, state, shape = network.init(key, (4,))
    (table,) = jax.tree.leaves(params)
    assert (table.shape, shape) == ((5, 3), (4, 5))
    tokens = jnp.array([[0, 4, 1, 1]])
    y, _ = network.apply(params, state, tokens)
    np.testing.assert_allclose(y, np.tanh(table)[tokens] @ np.asarray(table).T, rtol=1e-5)


def test_a_wrong_width_raises_in_unembed(key):
    layer = nn.unembed(nn.embed(5, 3), 5)
    with pytest.raises(ShapeError, match=r"unembed x: expected to end in \(3,\).*got \(4, 2\)"):
        layer.init(key, (4, 2))
    with pytest.raises(ShapeError, match=r"unembed x: expected to end in \(3,\)"):
        layer.apply({"embedding": {"table": TABLE}}, {}, jnp.ones((2, 4, 2)))
    with pytest.raises(ShapeError, match=r"unembed x: expected to end in \(3,\)"):
        layer.init(key, ())


def sinusoids(time: int, width: int, base: float) -> np.ndarray:
    """The formula of the paper, number by number."""
    code = np.zeros((time, width))
    for t in range(time):
        for i in range(width):
            angle = t / base ** (2 * (i // 2) / width)
            code[t, i] = np.cos(angle) if i % 2 else np.sin(angle)
    return code


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("time", "width", "base"), [(7, 6, 10_000.0), (3, 5, 10_000.0), (1, 1, 7.0), (4, 2, 3.0)]
)
def test_sinusoidal_positions_follow_the_paper(time, width, base):
    x = np.random.default_rng(0).normal(size=(2, time, width))
    y, _ = jax.jit(nn.sinusoidal_positions(base=base).apply)({}, {}, x)
    np.testing.assert_allclose(y, x + sinusoids(time, width, base), rtol=1e-12, atol=1e-12)


def test_sinusoidal_positions_are_exact_to_float32():
    y, _ = jax.jit(nn.sinusoidal_positions().apply)({}, {}, jnp.zeros((1, 1000, 8)))
    np.testing.assert_allclose(y[0], sinusoids(1000, 8, 10_000.0), atol=1e-4)


def test_sinusoidal_positions_in_bfloat16_are_rounded_once():
    y, _ = jax.jit(nn.sinusoidal_positions().apply)({}, {}, jnp.zeros((1, 300, 4), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y[0].astype(float), sinusoids(300, 4, 10_000.0), atol=2**-8)


@pytest.mark.parametrize("base", [0.0, -1.0, np.nan, "10"])
def test_an_invalid_base_raises(base):
    with pytest.raises(ConfigError, match="sinusoidal_positions base: expected"):
        nn.sinusoidal_positions(base=base)


@pytest.mark.parametrize("time", [1, 3, 4])
def test_learned_positions_add_the_rows_of_the_table(time, key):
    layer, x = nn.learned_positions(4), jnp.linspace(-1, 1, 2 * time * 3).reshape(2, time, 3)
    params, state, shape = layer.init(key, (time, 3))
    assert params["table"].shape == (4, 3) and shape == (time, 3)
    y, pull_back = jax.vjp(lambda params: layer.apply(params, state, x)[0], params)
    np.testing.assert_allclose(y, x + params["table"][None, :time], rtol=1e-6)
    (grads,) = pull_back(jnp.ones_like(y))
    np.testing.assert_array_equal(
        grads["table"], np.where(np.arange(4)[:, None] < time, 2, 0) * np.ones((4, 3))
    )


def test_learned_positions_begin_with_std_0_02(key):
    table = nn.learned_positions(100).init(key, (7, 50))[0]["table"]
    assert abs(np.std(table) / 0.02 - 1) < 4 / (2 * 5000) ** 0.5
    assert not nn.learned_positions(3, table_init=nn.zeros()).init(key, (2, 2))[0]["table"].any()


def test_a_sequence_above_the_length_raises(key):
    layer = nn.learned_positions(4)
    with pytest.raises(
        ShapeError, match=r"learned_positions x: expected at most 4 positions, got \(5, 3\)"
    ):
        layer.init(key, (5, 3))
    with pytest.raises(ShapeError, match=r"at most 4 positions"):
        layer.apply({"table": jnp.ones((4, 3))}, {}, jnp.ones((2, 5, 3)))


@pytest.mark.parametrize("layer", [nn.learned_positions(8), nn.sinusoidal_positions()])
def test_wrong_inputs_and_params_of_positions_raise(layer, key):
    params = {} if layer.init(key, (8, 4))[0] == {} else {"table": jnp.ones((8, 4))}
    with pytest.raises(
        ShapeError, match=r"_positions: expected a shape \(time, width\), got \(4,\)"
    ):
        layer.init(key, (4,))
    with pytest.raises(
        ShapeError, match=r"_positions: expected a shape \(time, width\), got \(4, 4, 4\)"
    ):
        layer.apply(params, {}, jnp.ones((2, 4, 4, 4)))
    with pytest.raises(DTypeError, match="_positions x: expected floating"):
        layer.apply(params, {}, jnp.ones((2, 8, 4), int))
    with pytest.raises(
        TreeMismatchError, match=r"learned_positions table|sinusoidal_positions other"
    ):
        layer.apply({"other": jnp.ones(3)}, {}, jnp.ones((2, 8, 4)))


@pytest.mark.parametrize("length", [0, 2.0, None])
def test_an_invalid_length_raises(length):
    with pytest.raises(ConfigError, match="learned_positions length: expected"):
        nn.learned_positions(length)
