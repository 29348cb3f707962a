"""Residual networks have the published numbers of parameters, begin as their shortcuts, and learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import begun, images, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError

LARGE = {
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}  # as torchvision tells
STAGES = [f"stage_{place}" for place in range(1, 5)]
SMALL = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}  # millions, He et al. 2016, table 6


@pytest.mark.parametrize("depth", LARGE)
def test_for_large_images_it_has_so_many_parameters(depth):
    assert parameters(nn.resnet(depth), (224, 224, 3)) == LARGE[depth]


@pytest.mark.parametrize("depth", SMALL)
def test_for_small_images_it_has_so_many_parameters(depth):
    count = parameters(nn.resnet_cifar(depth), (32, 32, 3)) / 1e6
    assert abs(count - SMALL[depth]) < (0.05 if depth == 110 else 0.005)  # so many digits are told


def test_every_number_of_resnet20_is_accounted_for():
    convolutions = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    assert (
        parameters(nn.resnet_cifar(20), (32, 32, 3))
        == convolutions + 2 * 7 * 16 + 2 * 6 * (32 + 64) + 65 * 10
    )


@pytest.mark.parametrize("depth, shape", [(18, (33, 40, 3)), (50, (32, 32, 1))])
def test_the_shapes_for_large_images_agree(depth, shape):
    assert out_shapes(nn.resnet(depth, 7, width=4), shape) == ((7,), (7,))


def test_the_shapes_for_small_images_agree():
    assert out_shapes(nn.resnet_cifar(8, 7, width=4), (9, 9, 3)) == ((7,), (7,))


def test_the_last_map_is_a_32nd_of_the_image():
    network = nn.chain(
        **{name: nn.take(nn.resnet(18, width=2), name) for name in ("stem", *STAGES)}
    )
    assert out_shapes(network, (224, 224, 3)) == ((7, 7, 16), (7, 7, 16))


@pytest.mark.parametrize("depth, last", [(18, "norm_2"), (50, "norm_3")])
def test_a_block_begins_as_its_shortcut(depth, last):
    x = jnp.abs(images(4, 2 if depth == 18 else 8))
    y, params = begun(nn.take(nn.resnet(depth, width=2), "stage_1/block_1"), x)
    np.testing.assert_array_equal(y, x)
    assert not params["sum"]["body"][last]["scale"].any()


def test_a_shortcut_without_params_takes_every_second_pixel_and_adds_zeros():
    block = nn.take(nn.resnet_cifar(8, width=3), "stage_2/block_0/sum/shortcut")
    x = images(5)
    y, _ = block.apply({}, {}, x)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert y.shape == (8, 3, 3, 6) and not y[..., 3:].any()


def test_it_learns():
    found = losses(nn.resnet_cifar(8, 4, width=4), images(), jnp.arange(8) % 4)
    assert found[-1] < found[0] / 2


@pytest.mark.parametrize("depth", [0, 17, 20, 18.0, "50"])
def test_another_depth_is_told(depth):
    with pytest.raises(ConfigError, match="resnet depth: expected"):
        nn.resnet(depth)


@pytest.mark.parametrize("depth", [2, 18, 21, 20.0])
def test_another_depth_for_small_images_is_told(depth):
    with pytest.raises(ConfigError, match="resnet_cifar depth: expected"):
        nn.resnet_cifar(depth)


PUBLISHED = {
    (40, 4): 8.9,
    (16, 8): 11.0,
    (28, 10): 36.5,
}  # millions, Zagoruyko & Komodakis 2016, tables 4 and 5


@pytest.mark.parametrize("depth, width", PUBLISHED)
def test_it_has_so_many_parameters(depth, width):
    assert (
        abs(parameters(nn.wide_resnet(depth, width), (32, 32, 3)) / 1e6 - PUBLISHED[depth, width])
        < 0.1
    )


def test_every_number_of_wrn_28_10_is_accounted_for():
    stem, widths = 9 * 3 * 16, (160, 320, 640)
    convolutions = sum(
        9 * before * w + 7 * 9 * w * w + before * w
        for before, w in zip((16, 160, 320), widths, strict=True)
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
    np.testing.assert_allclose(
        y, bent[:, ::2, ::2] @ params["sum"]["shortcut"]["kernel"][0, 0], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("depth", [4, 9, 20, 28.0])
def test_another_depth_is_told_of_wide_resnet(depth):
    with pytest.raises(ConfigError, match="wide_resnet depth: expected"):
        nn.wide_resnet(depth)
