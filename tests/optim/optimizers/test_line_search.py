"""The strong Wolfe conditions on functions of one number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.optim.optimizers.line_search import strong_wolfe

pytestmark = pytest.mark.usefixtures("x64")

FUNCTIONS = {
    "parabola": lambda a: (a - 3) ** 2,
    "far": lambda a: (a / 1000 - 1) ** 2,
    "near": lambda a: (1000 * a - 1) ** 2,
    "wave": lambda a: jnp.sin(a + 2.0) + 0.1 * a,
    "quartic": lambda a: a**4 - 3 * a**3 + a**2 - a,
    "wall": lambda a: -a - jnp.log(2 - a),
    "rational": lambda a: -a / (a**2 + 2),
}


@pytest.mark.parametrize("first", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_satisfies_both_conditions(name, first):
    f = FUNCTIONS[name]
    slope = jax.grad(f)
    value, first_slope = f(0.0), slope(0.0)
    along = jax.value_and_grad(f)

    def search():
        return strong_wolfe(along, jnp.array(first), value, first_slope, 1e-4, 0.1)

    length = jax.jit(search)()
    assert length > 0
    assert f(length) <= value + 1e-4 * length * first_slope
    assert abs(slope(length)) <= 0.1 * abs(first_slope)


def test_without_a_minimum_the_result_is_the_best_trial():
    """The function is -a, which has no minimum; the trial doubles 24 times."""
    length = strong_wolfe(
        lambda a: (-a, -jnp.ones_like(a)),
        jnp.array(1.0),
        jnp.array(0.0),
        jnp.array(-1.0),
        1e-4,
        0.1,
    )
    np.testing.assert_equal(float(length), 2.0**24)


def test_lanes_equal_single_searches():
    def search(center):
        def f(a):
            return (a - center) ** 4

        return strong_wolfe(
            jax.value_and_grad(f), jnp.array(1.0), f(0.0), jax.grad(f)(0.0), 1e-4, 0.5
        )

    centers = jnp.array([0.1, 1.0, 50.0])
    np.testing.assert_allclose(
        jax.vmap(search)(centers), [search(center) for center in centers], rtol=1e-12
    )
