"""Whitening kernels are compared with the eigenvectors of NumPy, and their outputs are white."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

float64 = pytest.mark.usefixtures("x64")


def correlated(*shape):
    """Images with correlated channels."""
    draw = np.random.default_rng(0)
    return jnp.asarray(draw.normal(size=shape) @ draw.normal(size=(shape[-1], shape[-1])))


@float64
def test_the_output_is_white(key):
    images = correlated(20, 6, 5, 3)
    layer = nn.conv(
        24, 2, padding="VALID", use_bias=False, kernel_init=nn.whitening(images, eps=0.0)
    )
    params, state, _ = layer.init(key, (6, 5, 3))
    y = np.asarray(layer.apply(params, state, images)[0]).reshape(-1, 24)
    unit = np.eye(12)
    np.testing.assert_allclose(
        y.T @ y / len(y), np.block([[unit, -unit], [-unit, unit]]), atol=1e-9
    )


@float64
@pytest.mark.parametrize("outputs", [2, 4, 6])
def test_the_strongest_directions_come_first(outputs, key):
    x = correlated(50, 3)
    kernel = nn.whitening(x, eps=0.1)(key, (3, outputs))
    values, vectors = np.linalg.eigh(np.asarray(x.T @ x) / 50)
    wanted = (vectors / np.sqrt(values + 0.1))[:, ::-1][:, : outputs // 2]
    np.testing.assert_allclose(np.abs(kernel[:, : outputs // 2]), np.abs(wanted), rtol=1e-9)
    np.testing.assert_array_equal(kernel[:, outputs // 2 :], -kernel[:, : outputs // 2])


def test_a_direction_without_variance_is_finite(key):
    kernel = nn.whitening(jnp.ones((4, 5, 5, 2)))(key, (2, 2, 2, 16))
    assert jnp.isfinite(kernel).all() and jnp.abs(kernel).max() <= 5e-4**-0.5 * 1.001


def test_the_images_may_be_traced(key):
    images = correlated(4, 5, 5, 2).astype(jnp.float32)
    traced = jax.jit(lambda images: nn.whitening(images)(jax.random.key(0), (2, 2, 2, 16)))(images)
    np.testing.assert_allclose(
        np.abs(traced), np.abs(nn.whitening(images)(key, (2, 2, 2, 16))), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "shape", [(2, 2, 3, 4), (6, 2, 2, 4), (2, 2, 4), (2, 2, 2, 3), (2, 2, 2, 18)]
)
def test_a_kernel_that_does_not_fit_raises(shape, key):
    with pytest.raises(ShapeError, match="whitening: expected"):
        nn.whitening(jnp.ones((4, 5, 5, 2)))(key, shape)


def test_integers_raise():
    with pytest.raises(DTypeError, match="whitening images: expected floating"):
        nn.whitening(jnp.ones((4, 5, 5, 2), jnp.uint8))


def test_an_invalid_eps_raises():
    with pytest.raises(ConfigError, match="whitening eps: expected"):
        nn.whitening(jnp.ones((4, 5, 5, 2)), eps=-1.0)


def test_known_images_are_not_constants_of_the_program(key):
    """The compiler would fold their moments, which takes seconds."""
    images = correlated(4, 5, 5, 2).astype(jnp.float32)
    traced = jax.make_jaxpr(lambda key: nn.whitening(images)(key, (2, 2, 2, 16)))(key)
    assert max(const.size for const in traced.consts) == 8 * 8
