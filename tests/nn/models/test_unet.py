"""The U-Net keeps the image's size and looks past its lower levels."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, begun, images, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError


def level(before, width, after):
    """Parameters of two convolutions with their norms."""
    return 9 * (before * width + width * after) + 2 * (width + after)


def test_every_number_is_accounted_for():
    up = 4 * 16 * 8 + 8  # kernels of 2 x 2 with bias
    assert (
        parameters(nn.unet((8, 16), 5), (6, 6, 3))
        == level(3, 8, 8) + level(8, 16, 16) + up + level(16, 8, 8) + 9 * 5
    )


@pytest.mark.parametrize("shape", [(8, 12, 3), (4, 4, 1)])
def test_its_shapes_agree(shape):
    assert out_shapes(nn.unet((3, 4, 5), 2), shape) == ((*shape[:2], 2), (*shape[:2], 2))


@pytest.mark.parametrize("cut", ["past", "through"])
def test_a_pixel_reaches_as_far_as_each_way_goes(cut):
    """Four convolutions of 3 x 3 reach 9 pixels wide past the lower level; through it they reach the whole image."""
    lost = (
        slice(4, None) if cut == "through" else slice(4)
    )  # of the way past and the way through, in this order

    def edit(params):
        first = params["levels"]["after"]["conv_1"]
        first["kernel"] = first["kernel"].at[:, :, lost].set(0)
        return params

    x = images(16, count=1)
    (none, moved), _ = begun(
        nn.unet((4, 6), 2), jnp.concatenate([x, x.at[0, 7, 7, 0].add(1)]), edit, train=False
    )
    rows = np.flatnonzero(np.abs(moved - none).max((1, 2)) > 0)
    assert (rows.min(), rows.max()) == ((3, 11) if cut == "through" else (0, 15))


@pytest.mark.parametrize("shape", [(6, 8, 3), (8, 6, 3)])
def test_an_image_that_the_levels_do_not_divide_is_told(shape, key):
    with pytest.raises(ShapeError, match=r"unet x: expected height and width in multiples of 4"):
        nn.unet((2, 2, 2), 2).init(key, shape)


def test_integers_are_told():
    network = nn.unet((2, 2), 2)
    params, state = arrays(network, (4, 4, 3))
    with pytest.raises(DTypeError, match="unet x: expected floating"):
        network.apply(params, state, jnp.ones((1, 4, 4, 3), jnp.uint8), train=False)


@pytest.mark.parametrize("channels", [(), (4,), (4, 0), 4, None, (4, 8.0)])
def test_what_are_no_levels_is_told(channels):
    with pytest.raises(ConfigError, match="unet channels: expected"):
        nn.unet(channels, 2)
