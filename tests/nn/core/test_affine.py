"""Affine parameters: the bias along the last axis, initial values, errors for other widths."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import ShapeError, TreeMismatchError
from fnn.nn.core.affine import add_bias, expect_affine, init_affine


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 4, 5, 3)])
def test_bias_is_added_along_the_last_axis(shape):
    bias = np.array([1.0, 2.0, 3.0], np.float32)
    y = np.float32(np.random.default_rng(0).normal(size=shape))
    got = add_bias(jnp.array(y), {"bias": jnp.array(bias)}, True)
    np.testing.assert_array_equal(got, y + bias)


def test_without_bias_y_is_returned_unchanged():
    y = jnp.ones((2, 3))
    assert add_bias(y, {}, False) is y


@pytest.mark.parametrize("use_bias", [True, False])
def test_initial_params_are_the_initializer_and_zeros(use_bias, key):
    params = init_affine("dense", key, (2, 3), lambda key, shape: jnp.full(shape, 7.0), use_bias)
    assert params.keys() == ({"kernel", "bias"} if use_bias else {"kernel"})
    np.testing.assert_array_equal(params["kernel"], np.full((2, 3), 7))
    assert not use_bias or not params["bias"].any()


def test_wrong_width_raises_an_error_about_x():
    params = {"kernel": jnp.ones((3, 3, 2, 4))}
    x = jnp.ones((1, 5, 5, 6))
    message = r"conv x: expected \(..., 4\) as in its kernel \(3, 3, 2, 4\), got \(1, 5, 5, 6\)"
    with pytest.raises(ShapeError, match=message):
        expect_affine("conv", params, x, (3, 3, 3, 4), False)


def test_kernel_of_another_rank_raises_an_error_about_params():
    message = r"dense kernel: expected shape \(2, 4\), got shape \(2, 2, 4\)"
    with pytest.raises(TreeMismatchError, match=message):
        expect_affine("dense", {"kernel": jnp.ones((2, 2, 4))}, jnp.ones((1, 2)), (2, 4), False)
