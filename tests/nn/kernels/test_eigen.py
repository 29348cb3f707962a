"""Further lines and two results at once: the same results, from the fast code of XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import cpu, eigen, reference
from fnn.nn.kernels.reference import Geometry

pytestmark = pytest.mark.slow

# (stride, padding, dilation, image, kernel)
CASES = {
    "padded": ((1, 1), ((1, 1), (1, 1)), (1, 1), (9, 7), (3, 3)),
    "unevenly": ((1, 1), ((2, 0), (0, 3)), (1, 1), (7, 9), (3, 4)),
    "not padded": ((1, 1), ((0, 0), (0, 0)), (1, 1), (12, 12), (5, 5)),
    "results longer than the image": ((1, 1), ((4, 4), (3, 4)), (1, 1), (6, 6), (5, 5)),
    "padded above and far below": ((1, 1), ((1, 6), (4, 4)), (1, 1), (6, 6), (5, 5)),
    "dilated": ((1, 1), ((2, 2), (1, 1)), (2, 1), (9, 9), (3, 3)),
    "strided down": ((2, 1), ((1, 1), (1, 1)), (1, 1), (8, 8), (3, 3)),
    "strided": ((2, 2), ((1, 1), (1, 1)), (1, 1), (8, 8), (3, 3)),
    "an odd width": ((1, 1), ((1, 0), (0, 1)), (1, 1), (6, 5), (3, 2)),
    "many extra lines": ((1, 1), ((0, 0), (0, 0)), (1, 1), (8, 8), (7, 7)),
}
# With some channels, enough multiplications for several cores.
LARGE = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1, (16, 16), (3, 3))


def operands(geometry, images=2, inputs=5, outputs=20, dtype="float64"):
    """Random x, w and y."""
    draw = np.random.default_rng(0)
    x = (images, *geometry.image, inputs)
    w = (*geometry.kernel, inputs, outputs)
    y = reference.output_shape(x, w, geometry)
    return [jnp.asarray(draw.normal(size=shape), dtype) for shape in (x, w, y)]


def convolve(x, w, geometry):
    return eigen.convolve(x, w, geometry.stride, geometry.padding, geometry.dilation)


@pytest.mark.parametrize("outputs", [20, 200])
@pytest.mark.parametrize("case", CASES)
def test_results_equal_those_of_xla(case, outputs, x64, monkeypatch):
    monkeypatch.setattr(eigen, "SMALL", 0)
    stride, padding, dilation, image, kernel = CASES[case]
    geometry = Geometry(stride, padding, dilation, 1, image, kernel)
    x, w, y = operands(geometry, outputs=outputs)

    @jax.jit
    def results(x, w, y):
        got = convolve(x, w, geometry), cpu.dense_kernel_gradient(x, y, geometry)
        forward = reference.xla_forward(x, w, geometry)
        return got, (forward, reference.xla_kernel_gradient(x, y, geometry))

    for got, expected in zip(*results(x, w, y), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def program(function, *operands):
    return jax.jit(function).lower(*operands).compile().as_text()


@pytest.mark.parametrize(
    "geometry",
    [LARGE, LARGE._replace(padding=((0, 0), (0, 0))), LARGE._replace(padding=((2, 2), (2, 2)))],
    ids=["padded", "not padded", "results longer than the image"],
)
def test_large_convolutions_use_eigen_without_a_flipped_kernel(geometry):
    x, w, y = operands(geometry, 256, 20, 48, "float32")
    forward = program(lambda x, w: convolve(x, w, geometry), x, w)
    gradient = program(lambda x, y: cpu.dense_kernel_gradient(x, y, geometry), x, y)
    for text in (forward, gradient):
        assert " convolution(" in text
        assert "ynn" not in text
        assert "rhs_reversal" not in text


def test_xla_uses_ynnpack_for_them():
    """If this fails, `eigen` may be unnecessary: see benchmarks/conv_in_scan.py."""
    x, w, _ = operands(LARGE, 64, 20, 24, "float32")
    assert "ynn" in program(lambda x, w: reference.xla_forward(x, w, LARGE), x, w)


def test_narrow_kernel_larger_than_its_image_is_not_flipped():
    geometry = LARGE._replace(padding=((2, 2), (2, 2)))
    x, _, y = operands(geometry, 4, 8, 8, "float32")
    text = program(lambda x, y: cpu.dense_kernel_gradient(x, y, geometry), x, y)
    assert " convolution(" in text
    assert "rhs_reversal" not in text


STRIDED = LARGE._replace(stride=(2, 1), padding=((2, 2), (1, 1)))
WIDE_STRIDE = LARGE._replace(stride=(1, 2))
DILATED = LARGE._replace(dilation=(1, 2))
SHRUNK = LARGE._replace(padding=((0, 0), (0, 0)), kernel=(9, 9))
# (geometry, images, inputs, outputs, shape of the kernel and of the results that XLA gets)
XLA_SHAPES = {
    "small": (LARGE, 1, 20, 30, (3, 3, 20, 30), (1, 16, 16, 30)),
    "large": (LARGE, 64, 20, 30, (3, 3, 20, 30), (64, 17, 16, 30)),
    "few channels": (LARGE, 1, 8, 12, (3, 4, 8, 24), (1, 16, 8, 24)),
    "few channels, large": (LARGE, 64, 12, 20, (3, 4, 12, 40), (64, 17, 8, 40)),
    "few channels, a stride": (WIDE_STRIDE, 1, 8, 12, (3, 3, 8, 12), (1, 16, 8, 12)),
    "few channels, dilated": (DILATED, 1, 8, 12, (3, 3, 8, 12), (1, 16, 14, 12)),
    "large, a stride": (STRIDED, 64, 20, 30, (3, 3, 20, 30), (64, 9, 16, 30)),
    "large, many extra lines": (SHRUNK, 64, 20, 30, (9, 9, 20, 30), (64, 8, 8, 30)),
}


@pytest.mark.parametrize("case", XLA_SHAPES)
def test_shapes_of_the_convolution_of_xla(case):
    """One further line where several cores are faster, two results at once for few channels."""
    geometry, images, inputs, outputs, kernel, results = XLA_SHAPES[case]
    x, w, _ = operands(geometry, images, inputs, outputs, "float32")
    jaxpr = jax.make_jaxpr(lambda x, w: convolve(x, w, geometry))(x, w)
    (conv,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "conv_general_dilated"]
    assert conv.invars[1].aval.shape == kernel
    assert conv.outvars[0].aval.shape == results
