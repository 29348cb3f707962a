"""A residual is held to addition, and to ends that fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError

X = jnp.float32(np.random.default_rng(0).normal(size=(3, 4)))


def test_residual_adds_x(key):
    layer = nn.residual(nn.dense(4))
    params, state, out_shape = layer.init(key, (4,))
    assert (params.keys(), state, out_shape) == ({"body"}, {}, (4,))
    y, _ = layer.apply(params, state, X)
    np.testing.assert_allclose(y, X + X @ params["body"]["kernel"], rtol=1e-5, atol=1e-6)


def test_residual_adds_its_shortcut(key):
    layer = nn.residual(nn.dense(5), nn.dense(5, use_bias=False))
    params, state, out_shape = layer.init(key, (4,))
    assert (params.keys(), params["shortcut"].keys(), out_shape) == ({"body", "shortcut"}, {"kernel"}, (5,))
    y, _ = layer.apply(params, state, X)
    wanted = X @ (params["body"]["kernel"] + params["shortcut"]["kernel"])
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shortcut", [None, nn.dense(3)])
def test_ends_that_differ_are_told(shortcut, key):
    wanted = r"\(4,\)" if shortcut is None else r"\(3,\)"
    with pytest.raises(ShapeError, match=rf"residual body: expected to end in {wanted}, got \(5,\)"):
        nn.residual(nn.dense(5), shortcut).init(key, (4,))


def test_ends_that_broadcast_are_told(key):
    with pytest.raises(ShapeError, match=r"residual body: expected to end in \(4, 4, 2\), got \(4, 4, 1\)"):
        nn.residual(nn.conv(1)).init(key, (4, 4, 2))


@pytest.mark.parametrize("thing", [nn.relu, None, "relu", (1, 2)])
def test_what_is_no_layer_is_told_at_once(thing):
    with pytest.raises(ConfigError, match="residual body: expected a Layer"):
        nn.residual(thing)
