"""The multilayer perceptron is its formula, and its shapes are those asked for."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import begun, images, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError


@pytest.mark.parametrize("units, wanted", [((10,), 650), ((32, 10), 2410), ([64, 32, 10], 6570)])
def test_it_has_so_many_parameters(units, wanted):
    assert parameters(nn.mlp(units), (64,)) == wanted


def test_it_is_its_formula():
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    y, params = begun(nn.mlp((4, 3, 2), activation=nn.tanh()), x)
    for place in (1, 2, 3):
        own = params[f"dense_{place}"]
        x = (np.tanh(x) if place > 1 else x) @ own["kernel"] + own["bias"]
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)


def test_what_is_dropped_is_dropped_between_layers_only():
    def edit(params):
        return params | {"dense_2": params["dense_2"] | {"bias": jnp.arange(7.0)}}

    y, _ = begun(nn.mlp((200, 7), drop_rate=0.999999), np.ones((3, 5), np.float32), edit)
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(7), (3, 7)))


def test_it_learns():
    network = nn.chain(nn.flatten(), nn.mlp((16, 4)))
    found = losses(network, images(4), jnp.arange(8) % 4)
    assert found[-1] < found[0] / 2


def test_its_shapes_agree():
    assert out_shapes(nn.mlp((4, 2)), (3, 5)) == ((3, 2), (3, 2))


@pytest.mark.parametrize("units", [(), 3, (0,), (3, 2.0), None, (nn.relu(),)])
def test_what_is_no_sequence_of_units_is_told(units):
    with pytest.raises(ConfigError, match="mlp units: expected"):
        nn.mlp(units)
