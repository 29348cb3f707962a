"""Means and variances are held to NumPy's, and the way from them to y to its formula."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.normalization.moments import moments, normalize

float64 = pytest.mark.usefixtures("x64")
X = np.random.default_rng(0).normal(size=(4, 3, 5))


@float64
@pytest.mark.parametrize("axes", [(0,), (0, 1), (1, 2), (-1,)])
def test_moments_are_those_of_numpy(axes):
    mean, var = moments(jnp.array(X), axes)
    np.testing.assert_allclose(mean, X.mean(axes, keepdims=True), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(var, X.var(axes, keepdims=True), rtol=1e-13)


@float64
@pytest.mark.parametrize("names", [(), ("scale",), ("bias",), ("scale", "bias")])
@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_params_meet_the_last_axes(names, shape):
    own = {name: np.random.default_rng(1).normal(size=shape) for name in names}
    mean, var = X.mean(0, keepdims=True), X.var(0, keepdims=True)
    y = normalize(jnp.array(X), mean, jnp.array(var), 0.1, {name: jnp.array(own[name]) for name in own})
    wanted = own.get("scale", 1) * (X - mean) / np.sqrt(var + 0.1) + own.get("bias", 0)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)


def test_the_variance_of_numbers_far_from_zero_does_not_cancel():
    x = np.float32(3000 + X)
    _, var = moments(jnp.array(x), (0, 1, 2))
    np.testing.assert_allclose(var.ravel(), x.var(dtype=np.float64), rtol=1e-5)
