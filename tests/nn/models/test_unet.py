"""U-Net keeps the size of the image, and its skip connections go past the lower levels."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, images, initial_outputs, out_shapes, parameters

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError


def level(before, width, after):
    """Parameters of two convolutions with their norms."""
    return 9 * (before * width + width * after) + 2 * (width + after)


def test_the_parameters_add_up():
    up = 4 * 16 * 8 + 8  # kernels of 2 x 2 with bias
    assert (
        parameters(nn.unet((8, 16), 5), (6, 6, 3))
        == level(3, 8, 8) + level(8, 16, 16) + up + level(16, 8, 8) + 9 * 5
    )


@pytest.mark.parametrize("shape", [(8, 12, 3), (4, 4, 1)])
def test_the_shapes_agree(shape):
    assert out_shapes(nn.unet((3, 4, 5), 2), shape) == ((*shape[:2], 2), (*shape[:2], 2))


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["past", "through"])
def test_the_receptive_field_of_each_path_follows_its_depth(cut):
    """Past the lower level, four 3 x 3 convolutions reach 9 pixels; through it, all pixels."""
    # Channels of the skip connection come first, then those of the lower level.
    removed = slice(4, None) if cut == "through" else slice(4)

    def edit(params):
        first = params["levels"]["after"]["conv_1"]
        first["kernel"] = first["kernel"].at[:, :, removed].set(0)
        return params

    x = images(16, count=1)
    (unchanged, changed), _ = initial_outputs(
        nn.unet((4, 6), 2), jnp.concatenate([x, x.at[0, 7, 7, 0].add(1)]), edit, train=False
    )
    rows = np.flatnonzero(np.abs(changed - unchanged).max((1, 2)) > 0)
    assert (rows.min(), rows.max()) == ((3, 11) if cut == "through" else (0, 15))


@pytest.mark.parametrize("shape", [(6, 8, 3), (8, 6, 3)])
def test_an_image_that_cannot_be_halved_for_every_level_raises(shape, key):
    with pytest.raises(ShapeError, match=r"unet x: expected height and width in multiples of 4"):
        nn.unet((2, 2, 2), 2).init(key, shape)


def test_integers_raise():
    network = nn.unet((2, 2), 2)
    params, state = arrays(network, (4, 4, 3))
    with pytest.raises(DTypeError, match="unet x: expected floating"):
        network.apply(params, state, jnp.ones((1, 4, 4, 3), jnp.uint8), train=False)


@pytest.mark.parametrize("channels", [(), (4,), (4, 0), 4, None, (4, 8.0)])
def test_invalid_channels_raise(channels):
    with pytest.raises(ConfigError, match="unet channels: expected"):
        nn.unet(channels, 2)
