"""Kernels of any width by blocks, against XLA's convolution and its derivative, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import im2col, reference
from fnn.nn.kernels.reference import Geometry


@pytest.mark.parametrize("least", [1, 3])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (7, 7)])
@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((3, 1), (2, 4)), ((-1, 1), (1, -1))])
def test_it_is_the_convolution(kernel, pads, stride, least, x64):
    draw = np.random.default_rng(sum(kernel))
    geometry = Geometry(stride, pads, (1, 1), 1, (9, 10), kernel)
    x, w = (
        jnp.asarray(draw.normal(size=(2, 9, 10, 3))),
        jnp.asarray(draw.normal(size=(*kernel, 3, 5))),
    )
    y = reference.xla_forward(x, w, geometry)
    np.testing.assert_allclose(im2col.forward(x, w, geometry, least), y, atol=1e-12)
    np.testing.assert_allclose(
        im2col.input_gradient(y, w, geometry, least),
        reference.xla_input_gradient(y, w, geometry),
        atol=1e-11,
    )
    gradient = im2col.kernel_gradient(x, y, geometry, least)
    np.testing.assert_allclose(gradient, reference.xla_kernel_gradient(x, y, geometry), atol=1e-10)


@pytest.mark.parametrize("name", ["input_gradient", "kernel_gradient"])
def test_sums_of_narrow_numbers_round_once(name, monkeypatch):
    monkeypatch.setattr(im2col, "CACHE", 1e4)  # so that there are pieces
    draw = np.random.default_rng(0)
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))
    x, w, y = (
        jnp.asarray(draw.normal(size=s), jnp.bfloat16)
        for s in ((64, 8, 8, 4), (3, 3, 4, 5), (64, 4, 4, 5))
    )
    operands = (y, w) if name == "input_gradient" else (x, y)
    found = getattr(im2col, name)(*operands, geometry, 1)
    exact = getattr(reference, f"xla_{name}")(
        *(own.astype(jnp.float32) for own in operands), geometry
    )
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "inputs", "loops"), [(2, 32, True), (1, 3, False)], ids=["more seen", "more made"]
)
def test_images_go_in_pieces_only_where_they_see_more_than_they_make(
    stride, inputs, loops, monkeypatch
):
    monkeypatch.setattr(im2col, "CACHE", 4e4)
    geometry = Geometry((stride,) * 2, ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))
    x, w = jnp.ones((16, 8, 8, inputs)), jnp.ones((3, 3, inputs, 32))
    text = jax.jit(lambda x, w: im2col.forward(x, w, geometry, 2)).lower(x, w).compile().as_text()
    assert (" while(" in text) == loops
