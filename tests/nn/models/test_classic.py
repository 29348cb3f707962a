"""Classic networks have the published numbers of parameters; an MLP follows its formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, images, initial_outputs, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, ShapeError


@pytest.mark.parametrize("units, wanted", [((10,), 650), ((32, 10), 2410), ([64, 32, 10], 6570)])
def test_the_number_of_parameters_of_mlp(units, wanted):
    assert parameters(nn.mlp(units), (64,)) == wanted


def test_mlp_follows_its_formula():
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    y, params = initial_outputs(nn.mlp((4, 3, 2), activation=nn.tanh()), x)
    for index in (1, 2, 3):
        own = params[f"dense_{index}"]
        x = (np.tanh(x) if index > 1 else x) @ own["kernel"] + own["bias"]
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)


def test_mlp_drops_only_between_layers():
    def edit(params):
        return params | {"dense_2": params["dense_2"] | {"bias": jnp.arange(7.0)}}

    y, _ = initial_outputs(nn.mlp((200, 7), drop_rate=0.999999), np.ones((3, 5), np.float32), edit)
    np.testing.assert_array_equal(y, np.broadcast_to(np.arange(7), (3, 7)))


def test_mlp_learns():
    network = nn.chain(nn.flatten(), nn.mlp((16, 4)))
    found = losses(network, images(4), jnp.arange(8) % 4)
    assert found[-1] < found[0] / 2


def test_the_shapes_of_mlp_agree():
    assert out_shapes(nn.mlp((4, 2)), (3, 5)) == ((3, 2), (3, 2))


@pytest.mark.parametrize("units", [(), 3, (0,), (3, 2.0), None, (nn.relu(),)])
def test_invalid_units_of_mlp_raise(units):
    with pytest.raises(ConfigError, match="mlp units: expected"):
        nn.mlp(units)


def test_lenet5_has_the_published_number_of_parameters():
    assert parameters(nn.lenet5(), (32, 32, 1)) == 61_706


@pytest.mark.parametrize("shape", [(32, 32, 1), (16, 16, 3), (28, 30, 1)])
def test_the_shapes_of_lenet5_agree(shape):
    assert out_shapes(nn.lenet5(7), shape) == ((7,), (7,))


def test_an_image_too_small_for_lenet5_raises():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.lenet5(), (15, 15, 1))


# Numbers of parameters in torchvision, without and with batch normalization.
VGG_PARAMETERS = {
    11: (132_863_336, 132_868_840),
    13: (133_047_848, 133_053_736),
    16: (138_357_544, 138_365_992),
    19: (143_667_240, 143_678_248),
}


@pytest.mark.parametrize("depth", VGG_PARAMETERS)
def test_vgg_has_the_number_of_parameters_of_torchvision(depth):
    shape = (224, 224, 3)
    found = tuple(parameters(nn.vgg(depth, batch_norm=norm), shape) for norm in (False, True))
    assert found == VGG_PARAMETERS[depth]


@pytest.mark.parametrize("shape", [(32, 32, 3), (70, 40, 1)])
def test_the_shapes_of_vgg_agree(shape):
    assert out_shapes(nn.vgg(11, 7, width=2, units=5), shape) == ((7,), (7,))


@pytest.mark.parametrize("depth", [0, 12, 16.0, "16"])
def test_an_invalid_depth_of_vgg_raises(depth):
    with pytest.raises(ConfigError, match="vgg depth: expected"):
        nn.vgg(depth)


def test_an_image_too_small_for_vgg_raises():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.vgg(11, width=2), (31, 31, 3))
