"""The multilayer perceptron is its formula, and its shapes are those asked for."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, begun, images, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, ShapeError


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


def test_it_has_so_many_parameters_of_lenet():
    assert parameters(nn.lenet5(), (32, 32, 1)) == 61_706


@pytest.mark.parametrize("shape", [(32, 32, 1), (16, 16, 3), (28, 30, 1)])
def test_its_shapes_agree_of_lenet(shape):
    assert out_shapes(nn.lenet5(7), shape) == ((7,), (7,))


def test_an_image_too_small_is_told():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.lenet5(), (15, 15, 1))


# As torchvision tells, without and with batch norm.
PUBLISHED = {
    11: (132_863_336, 132_868_840),
    13: (133_047_848, 133_053_736),
    16: (138_357_544, 138_365_992),
    19: (143_667_240, 143_678_248),
}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_it_has_so_many_parameters_of_vgg(depth):
    shape = (224, 224, 3)
    found = tuple(parameters(nn.vgg(depth, batch_norm=norm), shape) for norm in (False, True))
    assert found == PUBLISHED[depth]


@pytest.mark.parametrize("shape", [(32, 32, 3), (70, 40, 1)])
def test_its_shapes_agree_of_vgg(shape):
    assert out_shapes(nn.vgg(11, 7, width=2, units=5), shape) == ((7,), (7,))


@pytest.mark.parametrize("depth", [0, 12, 16.0, "16"])
def test_another_depth_is_told(depth):
    with pytest.raises(ConfigError, match="vgg depth: expected"):
        nn.vgg(depth)


def test_an_image_too_small_is_told_of_vgg():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.vgg(11, width=2), (31, 31, 3))
