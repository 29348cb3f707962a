"""The network of the speed runs: its size, its frozen params, and its whitening layer."""

import jax.numpy as jnp
import numpy as np
import pytest
from networks import arrays, images, out_shapes, parameters

from fnn import nn, trees
from fnn.errors import ConfigError, ShapeError
from fnn.types import FROZEN


def test_the_number_of_parameters_equals_the_paper():
    network = nn.cifar_speedrun(images(32))
    frozen = {
        path: leaf
        for path, leaf in trees.named_leaves(arrays(network, (32, 32, 3))[1]).items()
        if FROZEN in path
    }
    assert sorted({path.rpartition("/")[2] for path in frozen}) == ["kernel", "scale"]
    assert (
        parameters(network, (32, 32, 3)) + sum(leaf.size for leaf in frozen.values()) == 1_972_792
    )


def test_the_shapes_agree():
    network = nn.cifar_speedrun(images(32), 7, widths=(2, 3, 4))
    assert out_shapes(network, (32, 32, 3)) == ((7,), (7,))


def test_the_first_layer_whitens(key):
    x = images(12, count=64) @ jnp.array([[1.0, 0.9, 0.2], [0.0, 0.5, 0.1], [0.0, 0.0, 0.1]])
    layer = nn.take(nn.cifar_speedrun(x, widths=(2,)), "whiten")
    params, state, _ = layer.init(key, x.shape[1:])
    y = np.asarray(layer.apply(params, state, x)[0]).reshape(-1, 24)
    moments = y.T @ y / len(y)
    np.testing.assert_allclose(y[:, 12:], -y[:, :12], atol=1e-5)
    np.testing.assert_allclose(moments[:12, :12], np.diag(np.diag(moments[:12, :12])), atol=1e-3)
    assert (np.diag(moments) <= 1).all() and moments[0, 0] > 0.99  # eps holds back the weakest


@pytest.mark.parametrize("stage, conv", [("stage_1", "conv_2"), ("stage_2", "conv_1")])
def test_kernels_begin_as_the_identity_on_their_first_outputs(stage, conv, key):
    layer = nn.take(nn.cifar_speedrun(images(8), widths=(6, 9)), f"{stage}/{conv}")
    kernel = np.array(layer.init(key, (8, 8, 6))[0]["kernel"])
    np.testing.assert_array_equal(kernel[1, 1, :, :6], np.eye(6))
    kernel[1, 1, :, :6] = 0
    assert not kernel[..., :6].any() and kernel[..., 6:].all()


def test_images_of_another_rank_raise():
    with pytest.raises(ShapeError, match="cifar_speedrun images: expected rank 4"):
        nn.cifar_speedrun(images(8)[0])


def test_empty_widths_raise():
    with pytest.raises(ConfigError, match="cifar_speedrun widths"):
        nn.cifar_speedrun(images(8), widths=())
