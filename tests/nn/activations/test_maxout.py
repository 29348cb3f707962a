"""The largest of several linear maps is held to NumPy, and to the activations that it may become."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")


@float64
@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("use_bias", [True, False])
def test_it_is_the_largest_of_its_pieces(shape, pieces, use_bias):
    draw = np.random.default_rng(0)
    x, kernel, bias = draw.normal(size=shape), draw.normal(size=(4, 5, pieces)), draw.normal(size=(5, pieces))
    params = {"kernel": kernel.reshape(4, -1)} | ({"bias": bias.reshape(-1)} if use_bias else {})
    layer = nn.maxout(5, pieces=pieces, use_bias=use_bias)
    y, state = layer.apply({name: jnp.array(leaf) for name, leaf in params.items()}, {}, jnp.array(x))
    wanted = (np.einsum("...i,iup->...up", x, kernel) + (bias if use_bias else 0)).max(-1)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    assert state == {}


def test_it_may_become_the_size_of_x():
    x = jnp.linspace(-2, 2, 8).reshape(4, 2)
    kernel = jnp.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])  # of each number itself, and what is opposite
    y, _ = nn.maxout(2, use_bias=False).apply({"kernel": kernel}, {}, x)
    np.testing.assert_allclose(y, np.abs(x), rtol=1e-6)


def test_init_gives_the_shape_that_apply_gives(key):
    layer = nn.maxout(3, pieces=4)
    params, state, out_shape = layer.init(key, (6, 200))
    assert {name: leaf.shape for name, leaf in params.items()} == {"kernel": (200, 12), "bias": (12,)}
    assert layer.apply(params, state, jnp.ones((2, 6, 200)))[0].shape == (2, *out_shape)
    assert not params["bias"].any()
    assert abs(np.std(params["kernel"]) * 200**0.5 - 1) < 4 / (2 * 2400) ** 0.5


def test_it_begins_as_it_is_told(key):
    layer = nn.maxout(3, kernel_init=lambda key, shape: jnp.full(shape, 7.0))
    np.testing.assert_array_equal(layer.init(key, (2,))[0]["kernel"], np.full((2, 6), 7.0))


@pytest.mark.parametrize("option", ["units", "pieces"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_a_count_out_of_range_is_told_at_once(option, value):
    with pytest.raises(ConfigError, match=f"maxout {option}: expected"):
        nn.maxout(**{"units": 3} | {option: value})


def test_what_does_not_fit_is_told(key):
    layer, good = nn.maxout(3), {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)}
    with pytest.raises(ShapeError, match=r"maxout: expected a shape \(\.\.\., inputs\), got \(\)"):
        layer.init(key, ())
    with pytest.raises(ShapeError, match=r"maxout x: expected \(\.\.\., 4\).*got \(2, 5\)"):
        layer.apply(good, {}, jnp.ones((2, 5)))
    with pytest.raises(TreeMismatchError, match=r"maxout kernel: expected shape \(4, 9\), got shape \(4, 6\)"):
        nn.maxout(3, pieces=3).apply(good, {}, jnp.ones((2, 4)))
    with pytest.raises(DTypeError, match=r"maxout x: expected floating.*got uint8"):
        layer.apply(good, {}, jnp.ones((2, 4), jnp.uint8))
