"""Tests of weight sharing against separate layers with equal params, whose gradients add up."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, FnnError, TreeMismatchError
from fnn.types import FROZEN

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
TWICE = nn.shared(nn.dense(4), lambda tied: nn.chain(tied, nn.tanh(), nn.dense(4), tied))
SEPARATE = nn.chain(nn.dense(4), nn.tanh(), nn.dense(4), nn.dense(4))


def separate_params(params):
    """The same params for separate layers."""
    return {
        "dense_0": params["shared"],
        "dense_2": params["body"]["dense_2"],
        "dense_3": params["shared"],
    }


def test_positions_share_their_params(key):
    params, state, out_shape = TWICE.init(key, (4,))
    assert (list(params["body"]), state, out_shape) == (["dense_2"], {}, (4,))
    y, _ = TWICE.apply(params, state, X)
    np.testing.assert_allclose(y, SEPARATE.apply(separate_params(params), {}, X)[0], rtol=1e-6)


def test_the_gradient_is_the_sum_over_the_positions(key):
    params, state, _ = TWICE.init(key, (4,))
    slope = jax.jit(jax.grad(lambda params: jnp.sin(TWICE.apply(params, state, X)[0]).sum()))(
        params
    )
    separate = jax.jit(jax.grad(lambda params: jnp.sin(SEPARATE.apply(params, {}, X)[0]).sum()))(
        separate_params(params)
    )
    summed = jax.tree.map(jnp.add, separate["dense_0"], separate["dense_3"])
    wanted = {"shared": summed, "body": {"dense_2": separate["dense_2"]}}
    chex.assert_trees_all_close(slope, wanted, rtol=1e-5, atol=1e-6)


def test_each_position_has_separate_state(key):
    layer = nn.shared(
        nn.batch_norm(), lambda tied: nn.chain(tied, nn.elementwise(lambda x: 3 * x), tied)
    )
    params, state, _ = layer.init(key, (4,))
    assert params.keys() == {"shared"}
    _, moved = layer.apply(params, state, X, train=True)
    first, second = (moved["body"][name]["var"] for name in ("batch_norm_0", "batch_norm_2"))
    np.testing.assert_allclose(first, 0.9 + 0.1 * np.var(X, 0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(second, 0.9 + 0.1 * 9 * 5 / 4, rtol=1e-4)  # normalized, then tripled


def test_each_position_draws_different_noise(key):
    layer = nn.shared(nn.dropout(0.5), lambda tied: nn.parallel(tied, tied))
    y, _ = layer.apply({}, {}, jnp.ones((50, 20)), key=key, train=True)
    assert np.any(y[:, :20] != y[:, 20:])


def test_a_layer_may_be_shared_by_a_repeated_body(key):
    layer = nn.shared(nn.dense(4), lambda tied: nn.repeat(nn.chain(tied, nn.tanh()), 3))
    params, state, _ = layer.init(key, (4,))
    chex.assert_trees_all_equal_shapes(
        params, {"shared": nn.dense(4).init(jax.random.key(1), (4,))[0]}
    )
    y, _ = jax.jit(layer.apply)(params, state, X)
    wanted = X
    for _ in range(3):
        wanted = np.tanh(wanted @ params["shared"]["kernel"])
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


def test_shared_layers_nest(key):
    layer = nn.shared(nn.dense(4), lambda a: nn.shared(nn.dense(4), lambda b: nn.chain(a, b, a, b)))
    params, state, _ = layer.init(key, (4,))
    a, b = params["shared"]["kernel"], params["body"]["shared"]["kernel"]
    np.testing.assert_allclose(
        layer.apply(params, state, X)[0], X @ a @ b @ a @ b, rtol=1e-4, atol=1e-5
    )


def test_frozen_params_are_shared(key):
    layer = nn.shared(nn.freeze(nn.dense(4)), lambda tied: nn.chain(tied, tied))
    params, state, _ = layer.init(key, (4,))
    kernel = state["body"]["dense_0"][FROZEN]["kernel"]
    np.testing.assert_allclose(
        layer.apply(params, state, X)[0], X @ kernel @ kernel, rtol=1e-4, atol=1e-5
    )


def test_a_position_that_needs_other_params_raises(key):
    layer = nn.shared(nn.dense(5), lambda tied: nn.chain(tied, nn.tanh(), tied))
    message = r"shared position 1 kernel: expected float32\[4,5\], got float32\[5,5\]"
    with pytest.raises(TreeMismatchError, match=message):
        layer.init(key, (4,))


def test_wrong_arguments_of_shared_raise(key):
    with pytest.raises(ConfigError, match="shared use: expected a network with the layer in it"):
        nn.shared(nn.dense(4), lambda tied: nn.dense(4)).init(key, (4,))
    with pytest.raises(ConfigError, match="shared use: expected a Layer"):
        nn.shared(nn.dense(4), lambda tied: nn.relu)
    with pytest.raises(ConfigError, match="shared layer: expected a Layer"):
        nn.shared(nn.relu, lambda tied: tied)


def test_an_error_names_the_position(key):
    params, state, _ = TWICE.init(key, (4,))
    with pytest.raises(FnnError) as caught:
        TWICE.apply(params | {"shared": {}}, state, X)
    assert caught.value.__notes__[0] == "in layer body/dense_0: x float32[5,4]"
