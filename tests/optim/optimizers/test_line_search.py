"""A step that is long enough and low enough, on functions whose shape is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.optim.optimizers.line_search import strong_wolfe

pytestmark = pytest.mark.usefixtures("x64")

VALLEYS = {
    "parabola": lambda a: (a - 3) ** 2,
    "far": lambda a: (a / 1000 - 1) ** 2,
    "near": lambda a: (1000 * a - 1) ** 2,
    "wave": lambda a: jnp.sin(a + 2.0) + 0.1 * a,
    "quartic": lambda a: a**4 - 3 * a**3 + a**2 - a,
    "wall": lambda a: -a - jnp.log(2 - a),
    "rational": lambda a: -a / (a**2 + 2),
}


@pytest.mark.parametrize("first", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", VALLEYS)
def test_both_conditions_hold_where_it_stops(name, first):
    f = VALLEYS[name]
    slope = jax.grad(f)
    value, steep = f(0.0), slope(0.0)
    place = jax.jit(
        lambda: strong_wolfe(jax.value_and_grad(f), jnp.array(first), value, steep, 1e-4, 0.1)
    )()
    assert place > 0
    assert f(place) <= value + 1e-4 * place * steep
    assert abs(slope(place)) <= 0.1 * abs(steep)


def test_where_nothing_is_found_it_is_the_best_place_seen():
    """A line that falls for ever."""
    place = strong_wolfe(
        lambda a: (-a, -jnp.ones_like(a)),
        jnp.array(1.0),
        jnp.array(0.0),
        jnp.array(-1.0),
        1e-4,
        0.1,
    )
    np.testing.assert_equal(float(place), 2.0**24)


def test_lanes_are_searches_of_their_own():
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
