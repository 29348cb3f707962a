"""Codes of positions are held to their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError


def waves(time: int, width: int, base: float) -> np.ndarray:
    """The code as the paper tells it, number by number."""
    code = np.zeros((time, width))
    for t in range(time):
        for i in range(width):
            angle = t / base ** (2 * (i // 2) / width)
            code[t, i] = np.cos(angle) if i % 2 else np.sin(angle)
    return code


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("time", "width", "base"), [(7, 6, 10_000.0), (3, 5, 10_000.0), (1, 1, 7.0), (4, 2, 3.0)])
def test_waves_are_those_of_the_paper(time, width, base):
    x = np.random.default_rng(0).normal(size=(2, time, width))
    y, _ = jax.jit(nn.sinusoidal_positions(base=base).apply)({}, {}, x)
    np.testing.assert_allclose(y, x + waves(time, width, base), rtol=1e-12, atol=1e-12)


def test_waves_are_as_exact_as_float32_allows():
    y, _ = jax.jit(nn.sinusoidal_positions().apply)({}, {}, jnp.zeros((1, 1000, 8)))
    np.testing.assert_allclose(y[0], waves(1000, 8, 10_000.0), atol=1e-4)


def test_waves_in_half_precision_are_rounded_once():
    y, _ = jax.jit(nn.sinusoidal_positions().apply)({}, {}, jnp.zeros((1, 300, 4), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y[0].astype(float), waves(300, 4, 10_000.0), atol=2**-8)


@pytest.mark.parametrize("base", [0.0, -1.0, np.nan, "10"])
def test_a_base_out_of_range_is_told(base):
    with pytest.raises(ConfigError, match="sinusoidal_positions base: expected"):
        nn.sinusoidal_positions(base=base)


@pytest.mark.parametrize("time", [1, 3, 4])
def test_learned_ones_are_rows_of_a_table(time, key):
    layer, x = nn.learned_positions(4), jnp.linspace(-1, 1, 2 * time * 3).reshape(2, time, 3)
    params, state, shape = layer.init(key, (time, 3))
    assert params["table"].shape == (4, 3) and shape == (time, 3)
    y, pull = jax.vjp(lambda params: layer.apply(params, state, x)[0], params)
    np.testing.assert_allclose(y, x + params["table"][None, :time], rtol=1e-6)
    (grads,) = pull(jnp.ones_like(y))
    np.testing.assert_array_equal(grads["table"], np.where(np.arange(4)[:, None] < time, 2, 0) * np.ones((4, 3)))


def test_learned_ones_begin_small(key):
    table = nn.learned_positions(100).init(key, (7, 50))[0]["table"]
    assert abs(np.std(table) / 0.02 - 1) < 4 / (2 * 5000) ** 0.5
    assert not nn.learned_positions(3, table_init=nn.zeros()).init(key, (2, 2))[0]["table"].any()


def test_a_longer_sequence_is_told(key):
    layer = nn.learned_positions(4)
    with pytest.raises(ShapeError, match=r"learned_positions x: expected at most 4 positions, got \(5, 3\)"):
        layer.init(key, (5, 3))
    with pytest.raises(ShapeError, match=r"at most 4 positions"):
        layer.apply({"table": jnp.ones((4, 3))}, {}, jnp.ones((2, 5, 3)))


@pytest.mark.parametrize("layer", [nn.learned_positions(8), nn.sinusoidal_positions()])
def test_what_is_no_sequence_is_told(layer, key):
    params = {} if layer.init(key, (8, 4))[0] == {} else {"table": jnp.ones((8, 4))}
    with pytest.raises(ShapeError, match=r"_positions: expected a shape \(time, width\), got \(4,\)"):
        layer.init(key, (4,))
    with pytest.raises(ShapeError, match=r"_positions: expected a shape \(time, width\), got \(4, 4, 4\)"):
        layer.apply(params, {}, jnp.ones((2, 4, 4, 4)))
    with pytest.raises(DTypeError, match="_positions x: expected floating"):
        layer.apply(params, {}, jnp.ones((2, 8, 4), int))
    with pytest.raises(TreeMismatchError, match=r"learned_positions table|sinusoidal_positions other"):
        layer.apply({"other": jnp.ones(3)}, {}, jnp.ones((2, 8, 4)))


@pytest.mark.parametrize("length", [0, 2.0, None])
def test_a_length_out_of_range_is_told(length):
    with pytest.raises(ConfigError, match="learned_positions length: expected"):
        nn.learned_positions(length)
