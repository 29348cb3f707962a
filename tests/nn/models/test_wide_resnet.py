"""Wide residual networks have the published numbers of parameters; a block is what is said of it."""

import numpy as np
import pytest
from networks import begun, images, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError

PUBLISHED = {(40, 4): 8.9, (16, 8): 11.0, (28, 10): 36.5}  # millions, Zagoruyko & Komodakis 2016, tables 4 and 5


@pytest.mark.parametrize("depth, width", PUBLISHED)
def test_it_has_so_many_parameters(depth, width):
    assert abs(parameters(nn.wide_resnet(depth, width), (32, 32, 3)) / 1e6 - PUBLISHED[depth, width]) < 0.1


def test_every_number_of_wrn_28_10_is_accounted_for():
    stem, widths = 9 * 3 * 16, (160, 320, 640)
    convolutions = sum(
        9 * before * w + 7 * 9 * w * w + before * w for before, w in zip((16, 160, 320), widths, strict=True)
    )
    norms = 2 * (16 + 7 * 160 + 160 + 7 * 320 + 320 + 7 * 640 + 640)
    assert parameters(nn.wide_resnet(), (32, 32, 3)) == stem + convolutions + norms + 641 * 10


def test_its_shapes_agree():
    assert out_shapes(nn.wide_resnet(10, 1, classes=7, drop_rate=0.3), (9, 8, 3)) == ((7,), (7,))


def without_body(path):
    """An x, what a block whose body gives 0 makes of it, and the block's params."""

    def edit(params):
        body = params["sum"]["body"]
        body.get("body", body)["conv_2"]["kernel"] *= 0
        return params

    x = images(4, 16)
    return np.asarray(x), *begun(nn.take(nn.wide_resnet(10, 1), path), x, edit)


def test_a_block_that_keeps_the_shape_goes_around_everything():
    x, y, _ = without_body("stage_1/block_0")
    np.testing.assert_array_equal(y, x)


def test_a_block_that_changes_it_goes_around_what_comes_after_the_norm():
    x, y, params = without_body("stage_2/block_0")
    bent = np.maximum((x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), 0)
    np.testing.assert_allclose(y, bent[:, ::2, ::2] @ params["sum"]["shortcut"]["kernel"][0, 0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("depth", [4, 9, 20, 28.0])
def test_another_depth_is_told(depth):
    with pytest.raises(ConfigError, match="wide_resnet depth: expected"):
        nn.wide_resnet(depth)
