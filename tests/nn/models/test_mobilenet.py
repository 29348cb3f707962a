"""MobileNetV2 has the published number of parameters at every width."""

import jax
import pytest
from networks import out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError
from fnn.nn.core.composite import parts

PUBLISHED = {
    0.1: 1_367_080,
    0.5: 1_968_680,
    1.0: 3_504_872,
    1.4: 6_108_776,
}  # as torchvision counts


@pytest.mark.parametrize("width", PUBLISHED)
def test_it_has_so_many_parameters(width):
    assert parameters(nn.mobilenet_v2(width=width), (224, 224, 3)) == PUBLISHED[width]


def test_its_shapes_agree():
    assert out_shapes(nn.mobilenet_v2(7, width=0.1), (33, 20, 3)) == ((7,), (7,))


def test_its_last_map_is_a_32nd_of_the_image():
    network = nn.replace(nn.mobilenet_v2(7, width=0.1), "pool", nn.chain())
    network = nn.replace(network, "head", nn.chain())
    assert out_shapes(network, (224, 224, 3)) == ((7, 7, 1280), (7, 7, 1280))


@pytest.mark.parametrize(
    "block, around",
    [("stage_1/block_0", False), ("stage_3/block_0", False), ("stage_3/block_1", True)],
)
def test_only_blocks_that_keep_the_shape_go_around(block, around):
    assert ("sum" in parts(nn.take(nn.mobilenet_v2(), block))) is around


@pytest.mark.parametrize("width", [0, -1.0, "1", None])
def test_a_width_out_of_range_is_told(width):
    with pytest.raises(ConfigError, match="mobilenet_v2 width: expected"):
        nn.mobilenet_v2(width=width)


def test_a_traced_width_is_told():
    with pytest.raises(ConfigError, match="width: expected a static number"):
        jax.jit(lambda width: nn.mobilenet_v2(width=width))(1.0)
