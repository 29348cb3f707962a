"""The bound on norms is held to NumPy, unit by unit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import ConfigError
from fnn.objective import max_norm

float64 = pytest.mark.usefixtures("x64")


def kernel(*shape):
    return np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 2, shape[-1])


@float64
@pytest.mark.parametrize("shape", [(4, 5), (2, 2, 3, 5)])
def test_units_that_weigh_too_much_are_scaled_down(shape):
    w = kernel(*shape)
    norms = np.linalg.norm(w.reshape(-1, shape[-1]), axis=0)
    assert (norms > 1).any() and (norms < 1).any()
    got = max_norm(1.0)({"kernel": jnp.array(w), "bias": jnp.full(5, 7.0)})
    np.testing.assert_allclose(got["kernel"], w * np.minimum(1, 1 / norms), rtol=1e-14)
    np.testing.assert_array_equal(got["kernel"][..., norms < 1], w[..., norms < 1])
    np.testing.assert_array_equal(got["bias"], 7)


def test_only_what_it_is_on_is_bounded():
    tree = {"stem": {"kernel": jnp.ones((3, 2))}, "head": [jnp.ones((3, 2))]}
    got = max_norm(0.5, paths=["stem"])(tree)
    np.testing.assert_allclose(jnp.linalg.norm(got["stem"]["kernel"], axis=0), 0.5, rtol=1e-6)
    chex.assert_trees_all_equal(got["head"], tree["head"])


def test_a_unit_of_zeros_stays_with_a_finite_gradient():
    w, constraint = jnp.zeros((3, 2)).at[:, 1].set(4), max_norm(jnp.float32(1))
    assert not constraint(w)[:, 0].any()
    slope = jax.jacrev(constraint)(w)
    chex.assert_tree_all_finite(slope)
    np.testing.assert_allclose(slope[:, 0, :, 0], np.eye(3))


def test_short_parameters_stay_short():
    chex.assert_type(max_norm(0.1)(jnp.ones((3, 2), jnp.bfloat16)), jnp.bfloat16)


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match="max_norm limit: expected a number in"):
        max_norm(0.0)
    with pytest.raises(ConfigError, match=r"max_norm paths: expected a path among .*got 'steam'"):
        max_norm(1.0, paths=["steam"])({"stem": jnp.ones((2, 2))})
