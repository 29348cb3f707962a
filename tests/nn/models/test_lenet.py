"""LeNet-5 has the parameters that its paper's sizes give."""

import pytest
from networks import arrays, out_shapes, parameters

from fnn import nn
from fnn.errors import ShapeError


def test_it_has_so_many_parameters():
    assert parameters(nn.lenet5(), (32, 32, 1)) == 61_706


@pytest.mark.parametrize("shape", [(32, 32, 1), (16, 16, 3), (28, 30, 1)])
def test_its_shapes_agree(shape):
    assert out_shapes(nn.lenet5(7), shape) == ((7,), (7,))


def test_an_image_too_small_is_told():
    with pytest.raises(ShapeError, match="an image of at least"):
        arrays(nn.lenet5(), (15, 15, 1))
