"""Walls that change nothing but the program."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn.walls import on_cpu_else, walled

BYTES = np.random.default_rng(0).integers(0, 100, (4, 5, 1), np.uint8)


def test_a_wall_hides_nothing():
    for first in (jnp.nan, -jnp.inf, jnp.inf):
        found = jax.jit(lambda x: walled(lambda x: 2 * x, x))(jnp.array([first, 1.0]))
        np.testing.assert_array_equal(found, [2 * first, 2.0])


def test_a_wall_changes_nothing_but_stands_in_the_compiled_program():
    def function(image):
        return {"twice": image * 2, "sum": image.astype(jnp.int32).sum()}

    image = jnp.asarray(BYTES)
    compiled = jax.jit(lambda image: walled(function, image)).lower(image).compile()
    assert " conditional(" in compiled.as_text()
    assert " conditional(" not in jax.jit(function).lower(image).compile().as_text()
    found, expected = compiled(image), function(image)
    np.testing.assert_array_equal(found["twice"], expected["twice"])
    assert found["sum"] == expected["sum"]
    elsewhere = (
        jax.jit(lambda image: walled(function, image)).trace(image).lower(lowering_platforms=("cuda",)).as_text()
    )
    assert "stablehlo.compare" not in elsewhere  # the condition is a constant, by which the conditional goes
    empty = jax.jit(lambda image: walled(lambda x: x + 1, image))(jnp.zeros((0, 3), jnp.uint8))
    assert empty.shape == (0, 3)


def test_the_function_is_chosen_by_the_platform():
    function = on_cpu_else(lambda x: x + 1, lambda x: x - 1)
    assert jax.jit(function)(jnp.float32(1)) == 2
    lowered = jax.jit(function).trace(jnp.float32(1)).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.subtract" in lowered
    assert "stablehlo.add" not in lowered
