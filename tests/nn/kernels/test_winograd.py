"""Fewer multiplications, and how exact float32 stays; as a convolution it is tested with the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import reference, winograd
from fnn.nn.kernels.reference import Geometry

GEOMETRY = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))


def operands(images, inputs, outputs):
    draw = np.random.default_rng(0)
    x, w = draw.normal(size=(images, 8, 8, inputs)), draw.normal(size=(3, 3, inputs, outputs))
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)


def test_the_transforms_give_the_products_of_taps_and_neighbors():
    """y_k = Σ_j w_j x_(k + j), for each k and j alone."""
    found = np.einsum("ki,ij,il->kjl", winograd.OUTPUT, winograd.KERNEL, winograd.INPUT)
    expected = np.eye(winograd.SEEN)[np.add.outer(range(winograd.RESULTS), range(winograd.TAPS))]
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("form", ["forward", "kernel_gradient"])
@pytest.mark.parametrize(("images", "channels"), [(2, 64), (2, 256), (128, 64)])
def test_float32_stays_exact_also_in_pieces_of_the_batch(images, channels, form, x64):
    x, w = operands(images, channels, channels)
    other = w if form == "forward" else operands(images, channels, channels)[0][::-1]
    exact = getattr(reference, f"xla_{form}")(
        x.astype(jnp.float64), other.astype(jnp.float64), GEOMETRY
    )
    found = np.asarray(getattr(winograd, form)(x, other, GEOMETRY), np.float64)
    assert np.abs(found - exact).max() / np.abs(exact).max() <= 2e-6


def test_half_of_the_multiplications_are_left():
    def operations(form):
        return (
            jax.jit(lambda x, w: form(x, w, GEOMETRY))
            .lower(*operands(32, 64, 64))
            .compile()
            .cost_analysis()["flops"]
        )

    assert operations(winograd.forward) <= 0.65 * operations(reference.xla_forward)


def test_images_go_in_pieces_that_the_cache_holds():
    x, w = operands(128, 64, 64)
    loops = [
        " while("
        in jax.jit(lambda x, w: winograd.forward(x, w, GEOMETRY))
        .lower(x[:n], w)
        .compile()
        .as_text()
        for n in (1, 128)
    ]
    assert loops == [False, True]
