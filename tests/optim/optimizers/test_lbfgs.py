"""L-BFGS on quadratics and on Rosenbrock's function, against scipy and the explicit H⁻¹."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fnn import optim
from fnn.errors import ConfigError

pytestmark = pytest.mark.usefixtures("x64")


def descend(optimizer, f, start, steps):
    """The value before each step, and the last params."""

    @jax.jit
    def whole(start):
        def one(carry, _):
            params, opt_state = carry
            value, grads = jax.value_and_grad(f)(params)
            return optim.step(optimizer, grads, opt_state, params, value_fn=f), value

        return jax.lax.scan(one, (start, optimizer.init(start)), length=steps)

    (params, _), values = whole(start)
    return values, params


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.slow
def test_rosenbrock_ends_at_the_minimum_of_scipy():
    start = jnp.array([1.3, 0.7, 0.8, 1.9, 1.2])
    wanted = scipy.optimize.minimize(
        rosenbrock, start, jac=jax.grad(rosenbrock), method="L-BFGS-B", tol=1e-15
    )
    values, end = descend(optim.lbfgs(), rosenbrock, start, 80)
    assert values[-1] < 1e-10
    np.testing.assert_allclose(end, wanted.x, atol=1e-4)
    np.testing.assert_allclose(end, np.ones(5), atol=1e-5)


def test_a_quadratic_converges_in_a_few_times_its_dimension():
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    hessian = jnp.array(turn * np.logspace(0, 2, 6) @ turn.T)
    center = jnp.array(draw.normal(size=6))
    params = {"a": jnp.zeros(2), "b": jnp.zeros((2, 2))}

    def f(params):
        x = jnp.concatenate([params["a"], params["b"].ravel()]) - center
        return x @ hessian @ x / 2

    values, _ = descend(optim.lbfgs(curvature=0.01), f, params, 16)
    assert values[-1] < 1e-12 * values[0]


def test_with_a_rate_steps_follow_the_explicit_inverse_hessian():
    """H⁻¹ as a matrix is updated by (I - ρ s yᵀ) H⁻¹ (I - ρ y sᵀ) + ρ s sᵀ."""
    draw = np.random.default_rng(0)
    hessian = np.diag([1.0, 3.0, 9.0])
    x, before, errors = draw.normal(size=3), None, []
    optimizer = optim.lbfgs(0.3, memory=2)
    params, opt_state, pairs = jnp.array(x), optimizer.init(jnp.array(x)), []
    for _ in range(6):
        g = hessian @ x
        if before is not None:
            pairs = [*pairs, (x - before[0], g - before[1])][-2:]
        inverse = np.eye(3) * (
            pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1]) if pairs else 1
        )
        for s, y in pairs:
            left = np.eye(3) - np.outer(s, y) / (s @ y)
            inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
        before, x = (x, g), x - 0.3 * inverse @ g
        params, opt_state = optim.step(optimizer, jnp.array(g), opt_state, params)
        errors.append(np.abs(params - x).max())
    assert max(errors) < 1e-13


def test_an_update_without_value_fn_raises():
    optimizer = optim.lbfgs()
    params = jnp.ones(2)
    with pytest.raises(
        ConfigError, match=r"lbfgs value_fn: expected the loss .* train\.run gives it"
    ):
        optimizer.update(params, optimizer.init(params), params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sufficient": 0.3, "curvature": 0.2},
            "lbfgs curvature: expected more than sufficient=0.3, got 0.2",
        ),
        ({"sufficient": 0.6}, "lbfgs sufficient: expected a number in"),
        ({"memory": 0}, "lbfgs memory: expected >= 1"),
        ({"rate": -1.0}, "lbfgs rate: expected"),
    ],
)
def test_numbers_out_of_range_raise(options, message):
    with pytest.raises(ConfigError, match=message):
        optim.lbfgs(**options)


@pytest.mark.parametrize("rate", [None, 0.5])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("loss_dtype", [jnp.float32, jnp.float64])
def test_params_and_loss_may_have_any_dtypes(rate, dtype, loss_dtype):
    def f(params):
        return jnp.square(params["w"].astype(loss_dtype) - 3).sum()

    params = {"w": jnp.array([1.0, -2.0, 0.5], dtype), "b": jnp.ones((1, 2), dtype)}
    values, end = descend(optim.lbfgs(rate), f, params, 12)
    assert end["w"].dtype == dtype
    assert values.dtype == loss_dtype
    tolerance = float(jnp.finfo(dtype).eps) * 4
    np.testing.assert_allclose(end["w"].astype(np.float64), 3, rtol=max(tolerance, 2e-3))


def test_a_state_in_half_precision_is_that_of_float32():
    half = {"w": jnp.ones(3, jnp.bfloat16)}
    wide = {"w": jnp.ones(3, jnp.float32)}
    optimizer = optim.lbfgs(0.1)
    updates, opt_state = optimizer.update(half, optimizer.init(half), half)
    wanted, wanted_state = optimizer.update(wide, optimizer.init(wide), wide)
    chex.assert_trees_all_equal(opt_state, wanted_state)
    assert updates["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(updates["w"].astype(np.float32), wanted["w"], rtol=4e-3)
