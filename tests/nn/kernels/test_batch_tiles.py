"""Tiles of a batch change the program but not the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels.batch_tiles import MAX_TILES, map_tiles, sum_tiles, tile_count

X = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3, 2)), jnp.float32)
Y = jnp.asarray(np.random.default_rng(1).normal(size=(12, 3, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("needed", "expected"),
    [(0, 1), (10, 1), (11, 2), (25, 3), (45, 6), (120, 12), (121, 1)],
    ids=str,
)
def test_tile_count_is_the_smallest_divisor_that_fits(needed, expected):
    assert tile_count(12, needed, 10) == expected


def test_tile_count_has_a_limit():
    assert tile_count(4 * MAX_TILES, 10 * MAX_TILES, 10) == MAX_TILES
    assert tile_count(4 * MAX_TILES, 11 * MAX_TILES, 10) == 1


@pytest.mark.parametrize("tiles", [1, 2, 3, 12])
def test_tiles_give_the_results_of_the_whole_batch(tiles):
    def product(x, y):
        return jnp.einsum("nij,nik->jk", x, y)

    def mapped(x, y):
        return map_tiles(jnp.sin, x, tiles)

    def summed(x, y):
        return sum_tiles(product, tiles, x, y)

    np.testing.assert_array_equal(mapped(X, Y), jnp.sin(X))
    np.testing.assert_allclose(summed(X, Y), product(X, Y), rtol=1e-5, atol=1e-6)
    for function in (mapped, summed):
        program = jax.jit(function).lower(X, Y).compile().as_text()
        assert (" while(" in program) == (tiles > 1)
