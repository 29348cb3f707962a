"""Residual networks have the published numbers of parameters and begin as their shortcuts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import images, initial_outputs, losses, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError

pytestmark = pytest.mark.slow

# Numbers of parameters in torchvision by depth.
RESNET_PARAMETERS = {
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}
STAGE_NAMES = [f"stage_{index}" for index in range(1, 5)]
# Millions of parameters by depth, He et al. 2016, table 6.
CIFAR_PARAMETERS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


@pytest.mark.parametrize("depth", RESNET_PARAMETERS)
def test_resnet_has_the_number_of_parameters_of_torchvision(depth):
    assert parameters(nn.resnet(depth), (224, 224, 3)) == RESNET_PARAMETERS[depth]


@pytest.mark.parametrize("depth, count", [(18, 11_708_744), (50, 25_576_264)])
def test_resnet_d_has_the_number_of_parameters_of_timm(depth, count):
    assert parameters(nn.resnet(depth, variant="D"), (224, 224, 3)) == count


def test_the_shortcut_of_resnet_d_is_a_projection_of_averages():
    shortcut = nn.take(nn.resnet(18, width=2, variant="D"), "stage_2/block_0/sum/shortcut")
    x = images(5)[..., :2]
    params, state, _ = shortcut.init(jax.random.key(0), x.shape[1:])
    y, _ = shortcut.apply(params, state, x, train=False)
    # The last row and column have windows of two pixels, and of one in the corner.
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge").reshape(8, 3, 2, 3, 2, 2)
    wanted = padded.mean((2, 4)) @ params["conv"]["kernel"][0, 0] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", [{"variant": "C"}, {"variant": "D", "width": 3}])
def test_an_invalid_variant_of_resnet_raises(option):
    with pytest.raises(ConfigError, match=r"resnet (variant|width): expected"):
        nn.resnet(18, **option)


@pytest.mark.parametrize("depth", CIFAR_PARAMETERS)
def test_resnet_cifar_has_the_published_number_of_parameters(depth):
    count = parameters(nn.resnet_cifar(depth), (32, 32, 3)) / 1e6
    rounding = 0.05 if depth == 110 else 0.005
    assert abs(count - CIFAR_PARAMETERS[depth]) < rounding


def test_the_parameters_of_resnet20_add_up():
    convolutions = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    norms = 2 * 7 * 16 + 2 * 6 * (32 + 64)
    assert parameters(nn.resnet_cifar(20), (32, 32, 3)) == convolutions + norms + 65 * 10


@pytest.mark.parametrize("variant", ["B", "D"])
@pytest.mark.parametrize("depth, shape", [(18, (33, 40, 3)), (50, (32, 32, 1))])
def test_the_shapes_of_resnet_agree(depth, shape, variant):
    network = nn.resnet(depth, 7, width=4, variant=variant)
    assert out_shapes(network, shape) == ((7,), (7,))


def test_the_shapes_of_resnet_cifar_agree():
    assert out_shapes(nn.resnet_cifar(8, 7, width=4), (9, 9, 3)) == ((7,), (7,))


def test_the_last_feature_map_of_resnet_is_a_32nd_of_the_image():
    whole = nn.resnet(18, width=2)
    network = nn.chain(**{name: nn.take(whole, name) for name in ("stem", *STAGE_NAMES)})
    assert out_shapes(network, (224, 224, 3)) == ((7, 7, 16), (7, 7, 16))


@pytest.mark.parametrize("depth, last", [(18, "norm_2"), (50, "norm_3")])
def test_a_block_begins_as_its_shortcut(depth, last):
    x = jnp.abs(images(4, 2 if depth == 18 else 8))
    y, params = initial_outputs(nn.take(nn.resnet(depth, width=2), "stage_1/block_1"), x)
    np.testing.assert_array_equal(y, x)
    assert not params["sum"]["body"][last]["scale"].any()


def test_the_padding_shortcut_takes_every_second_pixel_and_adds_zeros():
    block = nn.take(nn.resnet_cifar(8, width=3), "stage_2/block_0/sum/shortcut")
    x = images(5)
    y, _ = block.apply({}, {}, x)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert y.shape == (8, 3, 3, 6) and not y[..., 3:].any()


def test_resnet_cifar_learns():
    found = losses(nn.resnet_cifar(8, 4, width=4), images(), jnp.arange(8) % 4)
    assert found[-1] < found[0] / 2


@pytest.mark.parametrize("depth", [0, 17, 20, 18.0, "50"])
def test_an_invalid_depth_of_resnet_raises(depth):
    with pytest.raises(ConfigError, match="resnet depth: expected"):
        nn.resnet(depth)


@pytest.mark.parametrize("depth", [2, 18, 21, 20.0])
def test_an_invalid_depth_of_resnet_cifar_raises(depth):
    with pytest.raises(ConfigError, match="resnet_cifar depth: expected"):
        nn.resnet_cifar(depth)


# Millions of parameters by depth and width, Zagoruyko & Komodakis 2016, tables 4 and 5.
WIDE_PARAMETERS = {(40, 4): 8.9, (16, 8): 11.0, (28, 10): 36.5}


@pytest.mark.parametrize("depth, width", WIDE_PARAMETERS)
def test_wide_resnet_has_the_published_number_of_parameters(depth, width):
    count = parameters(nn.wide_resnet(depth, width), (32, 32, 3)) / 1e6
    assert abs(count - WIDE_PARAMETERS[depth, width]) < 0.1


def test_the_parameters_of_wrn_28_10_add_up():
    stem, widths = 9 * 3 * 16, (160, 320, 640)
    convolutions = sum(
        9 * before * w + 7 * 9 * w * w + before * w
        for before, w in zip((16, 160, 320), widths, strict=True)
    )
    norms = 2 * (16 + 7 * 160 + 160 + 7 * 320 + 320 + 7 * 640 + 640)
    assert parameters(nn.wide_resnet(), (32, 32, 3)) == stem + convolutions + norms + 641 * 10


def test_the_shapes_of_wide_resnet_agree():
    assert out_shapes(nn.wide_resnet(10, 1, classes=7, drop_rate=0.3), (9, 8, 3)) == ((7,), (7,))


def without_body(path):
    """An x, the output for it of a block whose body gives 0, and the params of the block."""

    def edit(params):
        body = params["sum"]["body"]
        body.get("body", body)["conv_2"]["kernel"] *= 0
        return params

    x = images(4, 16)
    return np.asarray(x), *initial_outputs(nn.take(nn.wide_resnet(10, 1), path), x, edit)


def test_a_wide_block_that_keeps_the_shape_has_an_identity_shortcut():
    x, y, _ = without_body("stage_1/block_0")
    np.testing.assert_array_equal(y, x)


def test_a_wide_block_that_changes_the_shape_projects_the_normalized_input():
    x, y, params = without_body("stage_2/block_0")
    normalized = np.maximum((x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), 0)
    np.testing.assert_allclose(
        y, normalized[:, ::2, ::2] @ params["sum"]["shortcut"]["kernel"][0, 0], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("depth", [4, 9, 20, 28.0])
def test_an_invalid_depth_of_wide_resnet_raises(depth):
    with pytest.raises(ConfigError, match="wide_resnet depth: expected"):
        nn.wide_resnet(depth)
