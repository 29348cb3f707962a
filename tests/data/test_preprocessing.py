"""Scaling and standardizing, against scikit-learn and NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing

from fnn import data

BYTES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)


def test_bytes_become_floats_in_the_unit_interval():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(data.to_float(every), every / 255, rtol=1.2e-7)
    assert data.to_float(every).max() == 1


@pytest.mark.parametrize("x", [jnp.float32([0.5]), jnp.bfloat16([2]), jnp.int32([7])])
def test_other_dtypes_pass_unchanged(x):
    assert data.to_float(x).dtype == x.dtype
    np.testing.assert_array_equal(data.to_float(x), x)


@pytest.mark.parametrize("inputs", [BYTES, BYTES / np.float32(7)], ids=["bytes", "floats"])
def test_standardize_is_scikit_learns_scaler_per_channel(inputs):
    scaled = inputs / 255 if inputs.dtype == np.uint8 else inputs
    oracle = sklearn.preprocessing.StandardScaler().fit(scaled.reshape(-1, 3).astype(np.float64))
    prepare = data.standardize(inputs)
    wanted = oracle.transform(scaled.reshape(-1, 3).astype(np.float64)).reshape(scaled.shape)
    np.testing.assert_allclose(prepare(jnp.asarray(inputs)), wanted, atol=2e-6)
    np.testing.assert_allclose(prepare(jnp.asarray(inputs[:2])), wanted[:2], atol=2e-6)  # fitted once, applied anywhere


def test_a_constant_channel_becomes_zero():
    np.testing.assert_array_equal(data.standardize(np.full((5, 2), 3.0, np.float32))(jnp.full((1, 2), 3.0)), 0)
