"""Winograd convolution: multiplications and rounding errors; see also test_convolution.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import reference, winograd
from fnn.nn.kernels.reference import Geometry

pytestmark = pytest.mark.slow

GEOMETRY = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))


def operands(images, inputs, outputs):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(images, 8, 8, inputs))
    w = draw.normal(size=(3, 3, inputs, outputs))
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)


def test_transforms_give_the_convolution():
    """y_k = Σ_j w_j x_(k + j), as a tensor over k, j and the neighbors."""
    got = np.einsum("ki,ij,il->kjl", winograd.OUTPUT, winograd.KERNEL, winograd.INPUT)
    neighbors = np.add.outer(range(winograd.RESULTS), range(winograd.TAPS))
    expected = np.eye(winograd.NUM_POINTS)[neighbors]
    np.testing.assert_allclose(got, expected, atol=1e-14)


@pytest.mark.parametrize("form", ["forward", "kernel_gradient"])
@pytest.mark.parametrize(("images", "channels"), [(2, 64), (2, 256), (128, 64)])
def test_float32_is_exact_also_with_several_tiles(images, channels, form, x64):
    x, w = operands(images, channels, channels)
    other = w if form == "forward" else operands(images, channels, channels)[0][::-1]
    float64_operands = (x.astype(jnp.float64), other.astype(jnp.float64))
    exact = getattr(reference, f"xla_{form}")(*float64_operands, GEOMETRY)
    got = np.asarray(getattr(winograd, form)(x, other, GEOMETRY), np.float64)
    assert np.abs(got - exact).max() / np.abs(exact).max() <= 2e-6


def test_program_has_about_half_of_the_operations():
    def operations(form):
        convolve = jax.jit(lambda x, w: form(x, w, GEOMETRY))
        program = convolve.lower(*operands(32, 64, 64)).compile()
        return program.cost_analysis()["flops"]

    assert operations(winograd.forward) <= 0.65 * operations(reference.xla_forward)


def test_large_batch_is_tiled_to_fit_the_cache():
    x, w = operands(128, 64, 64)
    convolve = jax.jit(lambda x, w: winograd.forward(x, w, GEOMETRY))
    for n in (1, 128):
        program = convolve.lower(x[:n], w).compile().as_text()
        assert (" while(" in program) == (n == 128)
