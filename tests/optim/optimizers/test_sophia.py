"""Sophia against its formulas, on a diagonal Hessian where its estimate is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError

KEY = jax.random.key(3)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_steps_follow_the_paper_for_a_diagonal_hessian():
    curvatures, start = np.array([0.5, 2.0, 30.0, -1.0]), np.array([1.0, -2.0, 0.3, 0.7])
    knobs = {"b1": 0.8, "b2": 0.7, "scale": 0.5, "eps": 1e-3, "weight_decay": 0.05}

    def f(params):
        return (curvatures * params**2).sum() / 2

    optimizer = optim.sophia(KEY, 0.1, every=3, **knobs)
    params = jnp.array(start)
    opt_state = optimizer.init(params)
    p, m, h = start, 0.0, 0.0
    for t in range(10):
        g = curvatures * p
        h = 0.7 * h + 0.3 * curvatures if t % 3 == 0 else h
        m = 0.8 * m + 0.2 * g
        p = p - 0.1 * (np.clip(m / np.maximum(0.5 * h, 1e-3), -1, 1) + 0.05 * p)
        params, opt_state = optim.step(
            optimizer, jax.grad(f)(params), opt_state, params, value_fn=f
        )
        np.testing.assert_allclose(params, p, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_mean_estimate_is_the_diagonal():
    hessian = np.array([[2.0, 1.0], [1.0, 3.0]])

    def estimate(key):
        optimizer = optim.sophia(key, 0.1, b2=0.0)
        params = jnp.ones(2)
        args = params, optimizer.init(params), params
        return optimizer.update(*args, value_fn=lambda p: p @ hessian @ p / 2)[1].curvature

    estimates = jax.vmap(estimate)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(estimates.mean(0), np.diag(hessian), atol=0.06)
    np.testing.assert_allclose(jnp.unique(estimates[:, 0]), [1.0, 3.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0.1), "sophia key: expected a key"), ((KEY, -0.1), "sophia rate: expected")],
    ids=["key", "rate"],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        optim.sophia(*arguments)


def test_an_update_without_value_fn_raises():
    optimizer = optim.sophia(KEY, 0.1)
    with pytest.raises(ConfigError, match=r"sophia value_fn: .*train\.run gives it"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))
