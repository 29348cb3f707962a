"""Pieces of a batch change nothing but the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels.batch_tiles import MOST, added, mapped, pieces

X, Y = (
    jnp.asarray(np.random.default_rng(k).normal(size=(12, 3, 2 + k)), jnp.float32) for k in range(2)
)


@pytest.mark.parametrize(
    ("made", "expected"), [(0, 1), (10, 1), (11, 2), (25, 3), (45, 6), (120, 12), (121, 1)], ids=str
)
def test_there_are_no_more_than_it_takes_and_they_are_equal(made, expected):
    assert pieces(12, made, 10) == expected


def test_there_is_a_limit_to_them():
    assert pieces(4 * MOST, 10 * MOST, 10) == MOST
    assert pieces(4 * MOST, 11 * MOST, 10) == 1


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_they_come_to_the_whole(parts):
    def product(x, y):
        return jnp.einsum("nij,nik->jk", x, y)

    np.testing.assert_array_equal(mapped(jnp.sin, X, parts), jnp.sin(X))
    np.testing.assert_allclose(added(product, parts, X, Y), product(X, Y), rtol=1e-5, atol=1e-6)
    loops = [
        " while(" in jax.jit(function).lower(X, Y).compile().as_text()
        for function in (
            lambda x, y: mapped(jnp.sin, x, parts),
            lambda x, y: added(product, parts, x, y),
        )
    ]
    assert loops == [parts > 1] * 2
