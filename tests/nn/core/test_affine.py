"""What dense and conv share: where a bias goes, and whose fault a width is."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import ShapeError, TreeMismatchError
from fnn.nn.core.affine import add_bias, along_last, expect_affine, init_affine


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (2, 4, 5, 3)])
def test_a_bias_goes_to_its_channel(shape):
    bias = np.array([1.0, 2.0, 3.0], np.float32)
    y = np.float32(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_array_equal(add_bias(jnp.array(y), {"bias": jnp.array(bias)}, True), y + bias)
    assert along_last(jnp.array(bias), jnp.array(y)).shape == (1,) * (len(shape) - 1) + (3,)


def test_without_bias_nothing_is_added():
    y = jnp.ones((2, 3))
    assert add_bias(y, {}, False) is y


@pytest.mark.parametrize("use_bias", [True, False])
def test_params_begin_as_the_initializer_and_zeros(use_bias, key):
    params = init_affine("dense", key, (2, 3), lambda key, shape: jnp.full(shape, 7.0), use_bias)
    assert params.keys() == ({"kernel", "bias"} if use_bias else {"kernel"})
    np.testing.assert_array_equal(params["kernel"], np.full((2, 3), 7))
    assert not use_bias or not params["bias"].any()


def test_a_width_that_the_kernel_does_not_have_is_the_fault_of_x():
    params = {"kernel": jnp.ones((3, 3, 2, 4))}
    with pytest.raises(
        ShapeError,
        match=r"conv x: expected \(..., 4\) as in its kernel \(3, 3, 2, 4\), got \(1, 5, 5, 6\)",
    ):
        expect_affine("conv", params, jnp.ones((1, 5, 5, 6)), (3, 3, 3, 4), False)


def test_a_kernel_of_another_rank_is_the_fault_of_the_params():
    with pytest.raises(
        TreeMismatchError, match=r"dense kernel: expected shape \(2, 4\), got shape \(2, 2, 4\)"
    ):
        expect_affine("dense", {"kernel": jnp.ones((2, 2, 4))}, jnp.ones((1, 2)), (2, 4), False)
