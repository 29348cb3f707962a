"""VGG networks have the published numbers of parameters."""

import pytest
from networks import arrays, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, ShapeError

# As torchvision tells, without and with batch norm.
PUBLISHED = {
    11: (132_863_336, 132_868_840),
    13: (133_047_848, 133_053_736),
    16: (138_357_544, 138_365_992),
    19: (143_667_240, 143_678_248),
}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_it_has_so_many_parameters(depth):
    shape = (224, 224, 3)
    found = tuple(parameters(nn.vgg(depth, batch_norm=norm), shape) for norm in (False, True))
    assert found == PUBLISHED[depth]


@pytest.mark.parametrize("shape", [(32, 32, 3), (70, 40, 1)])
def test_its_shapes_agree(shape):
    assert out_shapes(nn.vgg(11, 7, width=2, units=5), shape) == ((7,), (7,))


@pytest.mark.parametrize("depth", [0, 12, 16.0, "16"])
def test_another_depth_is_told(depth):
    with pytest.raises(ConfigError, match="vgg depth: expected"):
        nn.vgg(depth)


def test_an_image_too_small_is_told():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.vgg(11, width=2), (31, 31, 3))
