"""Convolution as a matrix product, against XLA's convolution and its gradients, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import im2col, reference
from fnn.nn.kernels.reference import Geometry

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (7, 7)])
@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((3, 1), (2, 4)), ((-1, 1), (1, -1))])
def test_value_and_gradients_equal_xla(kernel, pads, stride, x64):
    draw = np.random.default_rng(sum(kernel))
    geometry = Geometry(stride, pads, (1, 1), 1, (9, 10), kernel)
    x = jnp.asarray(draw.normal(size=(2, 9, 10, 3)))
    w = jnp.asarray(draw.normal(size=(*kernel, 3, 5)))

    @jax.jit
    def results(x, w):
        y = reference.xla_forward(x, w, geometry)
        each = [
            (
                im2col.forward(x, w, geometry, min_results),
                im2col.input_gradient(y, w, geometry, min_results),
                im2col.kernel_gradient(x, y, geometry, min_results),
            )
            for min_results in (1, 3)
        ]
        dx = reference.xla_input_gradient(y, w, geometry)
        dw = reference.xla_kernel_gradient(x, y, geometry)
        return each, (y, dx, dw)

    each, expected = results(x, w)
    for got in each:
        for one, other, atol in zip(got, expected, (1e-12, 1e-11, 1e-10), strict=True):
            np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize("name", ["input_gradient", "kernel_gradient"])
def test_sums_in_half_precision_are_rounded_once(name, monkeypatch):
    monkeypatch.setattr(im2col, "CACHE", 1e4)  # small, so that there are several tiles
    draw = np.random.default_rng(0)
    geometry = Geometry((2, 2), ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))
    shapes = ((64, 8, 8, 4), (3, 3, 4, 5), (64, 4, 4, 5))
    x, w, y = (jnp.asarray(draw.normal(size=shape), jnp.bfloat16) for shape in shapes)
    operands = (y, w) if name == "input_gradient" else (x, y)
    got = getattr(im2col, name)(*operands, geometry, 1)
    float32_operands = [operand.astype(jnp.float32) for operand in operands]
    exact = getattr(reference, f"xla_{name}")(*float32_operands, geometry)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "inputs", "has_loop"), [(2, 32, True), (1, 3, False)], ids=["copies", "results"]
)
def test_batch_is_tiled_only_where_copies_are_larger_than_results(
    stride, inputs, has_loop, monkeypatch
):
    monkeypatch.setattr(im2col, "CACHE", 4e4)
    geometry = Geometry((stride,) * 2, ((1, 1), (1, 1)), (1, 1), 1, (8, 8), (3, 3))
    x, w = jnp.ones((16, 8, 8, inputs)), jnp.ones((3, 3, inputs, 32))
    forward = jax.jit(lambda x, w: im2col.forward(x, w, geometry, 2))
    program = forward.lower(x, w).compile().as_text()
    assert (" while(" in program) == has_loop
