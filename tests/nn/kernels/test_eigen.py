"""Neither lines more nor two results at once change a number, and both bring a convolution where it is fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels import cpu, eigen, reference
from fnn.nn.kernels.reference import Geometry

# Stride, padding, dilation, image and kernel.
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
    "too many lines more": ((1, 1), ((0, 0), (0, 0)), (1, 1), (8, 8), (7, 7)),
}
# Enough multiplications.
LARGE = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1), 1, (16, 16), (3, 3))


def operands(geometry, images=2, inputs=5, outputs=20, dtype="float64"):
    draw = np.random.default_rng(0)
    x, w = (images, *geometry.image, inputs), (*geometry.kernel, inputs, outputs)
    return [
        jnp.asarray(draw.normal(size=size), dtype)
        for size in (x, w, reference.output_shape(x, w, geometry))
    ]


def convolve(x, w, geometry):
    return eigen.convolve(x, w, geometry.stride, geometry.padding, geometry.dilation)


@pytest.mark.parametrize("outputs", [20, 200])
@pytest.mark.parametrize("case", CASES)
def test_no_number_changes(case, outputs, x64, monkeypatch):
    monkeypatch.setattr(eigen, "SMALL", 0)
    stride, padding, dilation, image, kernel = CASES[case]
    geometry = Geometry(stride, padding, dilation, 1, image, kernel)
    x, w, y = operands(geometry, outputs=outputs)
    np.testing.assert_allclose(
        convolve(x, w, geometry), reference.xla_forward(x, w, geometry), rtol=1e-12, atol=1e-12
    )
    found = cpu.dense_kernel_gradient(x, y, geometry)
    np.testing.assert_allclose(
        found, reference.xla_kernel_gradient(x, y, geometry), rtol=1e-12, atol=1e-12
    )


def program(function, *operands):
    return jax.jit(function).lower(*operands).compile().as_text()


@pytest.mark.parametrize(
    "geometry",
    [LARGE, LARGE._replace(padding=((0, 0), (0, 0))), LARGE._replace(padding=((2, 2), (2, 2)))],
    ids=["padded", "not padded", "results longer than the image"],
)
def test_large_ones_are_left_to_eigen_which_needs_its_kernel_unturned(geometry):
    x, w, y = operands(geometry, 256, 20, 48, "float32")
    for text in (
        program(lambda x, w: convolve(x, w, geometry), x, w),
        program(lambda x, y: cpu.dense_kernel_gradient(x, y, geometry), x, y),
    ):
        assert " convolution(" in text and "ynn" not in text and "rhs_reversal" not in text


def test_xla_leaves_those_to_ynnpack():
    """Where this fails there may be no need of all this any more: benchmarks/conv_in_scan.py tells."""
    x, w, _ = operands(LARGE, 64, 20, 24, "float32")
    assert "ynn" in program(lambda x, w: reference.xla_forward(x, w, LARGE), x, w)


def test_a_narrow_kernel_of_more_pixels_than_its_image_is_not_turned_around_either():
    geometry = LARGE._replace(padding=((2, 2), (2, 2)))
    x, _, y = operands(geometry, 4, 8, 8, "float32")
    text = program(lambda x, y: cpu.dense_kernel_gradient(x, y, geometry), x, y)
    assert " convolution(" in text and "rhs_reversal" not in text


STRIDED = LARGE._replace(stride=(2, 1), padding=((2, 2), (1, 1)))
SHRUNK = LARGE._replace(padding=((0, 0), (0, 0)), kernel=(9, 9))
GIVEN = {
    "small": (LARGE, 1, 20, 30, (3, 3, 20, 30), (1, 16, 16, 30)),
    "large": (LARGE, 64, 20, 30, (3, 3, 20, 30), (64, 17, 16, 30)),
    "few channels": (LARGE, 1, 8, 12, (3, 4, 8, 24), (1, 16, 8, 24)),
    "few channels, large": (LARGE, 64, 12, 20, (3, 4, 12, 40), (64, 17, 8, 40)),
    "few channels, a stride": (
        LARGE._replace(stride=(1, 2)),
        1,
        8,
        12,
        (3, 3, 8, 12),
        (1, 16, 8, 12),
    ),
    "few channels, dilated": (
        LARGE._replace(dilation=(1, 2)),
        1,
        8,
        12,
        (3, 3, 8, 12),
        (1, 16, 14, 12),
    ),
    "large, a stride": (STRIDED, 64, 20, 30, (3, 3, 20, 30), (64, 9, 16, 30)),
    "large, too many lines more": (SHRUNK, 64, 20, 30, (9, 9, 20, 30), (64, 8, 8, 30)),
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_xla_is_given(case):
    """A line more where all cores are worth it, and two results at once for few channels."""
    geometry, images, inputs, outputs, kernel, results = GIVEN[case]
    x, w, _ = operands(geometry, images, inputs, outputs, "float32")
    equations = jax.make_jaxpr(lambda x, w: convolve(x, w, geometry))(x, w).eqns
    (found,) = [
        equation for equation in equations if equation.primitive.name == "conv_general_dilated"
    ]
    assert (found.invars[1].aval.shape, found.outvars[0].aval.shape) == (kernel, results)
