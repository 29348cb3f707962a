"""MobileNetV2 has the published number of parameters at every width."""

import jax
import pytest
from networks import out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError
from fnn.nn.core.composite import parts

# Numbers of parameters in torchvision by width.
PARAMETERS = {
    0.1: 1_367_080,
    0.5: 1_968_680,
    1.0: 3_504_872,
    1.4: 6_108_776,
}


@pytest.mark.parametrize("width", PARAMETERS)
def test_the_number_of_parameters_equals_torchvision(width):
    assert parameters(nn.mobilenet_v2(width=width), (224, 224, 3)) == PARAMETERS[width]


def test_the_shapes_agree():
    assert out_shapes(nn.mobilenet_v2(7, width=0.1), (33, 20, 3)) == ((7,), (7,))


def test_the_last_feature_map_is_a_32nd_of_the_image():
    network = nn.replace(nn.mobilenet_v2(7, width=0.1), "pool", nn.chain())
    network = nn.replace(network, "head", nn.chain())
    assert out_shapes(network, (224, 224, 3)) == ((7, 7, 1280), (7, 7, 1280))


@pytest.mark.parametrize(
    "block, has_shortcut",
    [("stage_1/block_0", False), ("stage_3/block_0", False), ("stage_3/block_1", True)],
)
def test_only_blocks_that_keep_the_shape_have_a_shortcut(block, has_shortcut):
    assert ("sum" in parts(nn.take(nn.mobilenet_v2(), block))) is has_shortcut


@pytest.mark.parametrize("width", [0, -1.0, "1", None])
def test_an_invalid_width_raises(width):
    with pytest.raises(ConfigError, match="mobilenet_v2 width: expected"):
        nn.mobilenet_v2(width=width)


def test_a_traced_width_raises():
    with pytest.raises(ConfigError, match="width: expected a static number"):
        jax.jit(lambda width: nn.mobilenet_v2(width=width))(1.0)
