"""Antialiased scaling, against Pillow and against its definition as a weighted sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow

from fnn.augment.ops import GeometricOp
from fnn.augment.resample import scale
from fnn.augment.resample.scale import KERNELS, cubic, rescale, triangle

pytestmark = pytest.mark.slow

# Levels in [60, 195] keep bicubic pixels in the range of bytes; Pillow clips after each axis.
BYTES = np.random.default_rng(0).integers(60, 196, (24, 18, 3), np.uint8)
FILTERS = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}
# The new size, and the window (top, left, bottom, right) of the old image that is resized.
CASES = {
    "up": ((37, 29), (0, 0, 24, 18)),
    "down": ((7, 5), (0, 0, 24, 18)),
    "down much": ((2, 3), (0, 0, 24, 18)),
    "up and down": ((50, 6), (0, 0, 24, 18)),
    "a window": ((12, 10), (3, 2, 20, 17)),
    "as it is": ((24, 18), (0, 0, 24, 18)),
}


def resized(image, size, window, method):
    """The window of an image in another size, by an op as of `random_resized_crop`."""
    factors = [(window[axis + 2] - window[axis]) / size[axis] for axis in (0, 1)]
    m = np.diag([*factors, 1]).astype(np.float32)
    m[:2, 2] = [window[axis] + factors[axis] / 2 - 0.5 for axis in (0, 1)]
    radius = KERNELS[method][1]
    support = tuple(int(np.ceil(2 * radius * max(1, factor))) + 1 for factor in factors)

    def apply(image, m):
        return rescale(image, GeometricOp(m, size, support=support, method=method))

    return jax.jit(apply)(image, m)


@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("case", CASES)
def test_bytes_are_resized_as_by_pillow_to_one_level(case, method):
    size, window = CASES[case]
    found = np.asarray(resized(BYTES, size, window, method))
    top, left, bottom, right = window
    cropped = Pillow.fromarray(BYTES).crop((left, top, right, bottom))
    wanted = np.asarray(cropped.resize(size[::-1], FILTERS[method])).astype(int)
    assert found.dtype == np.uint8
    # Pillow rounds after each axis, in whole numbers.
    assert np.abs(found - wanted).max() <= 1
    assert (found == wanted).mean() > 0.7
    if case == "as it is":
        np.testing.assert_array_equal(found, BYTES)


def summed(image, size, window, method):
    """Resize by the definition: weighted means of the window, along rows, then columns."""
    kernel, radius = KERNELS[method]
    for axis in (0, 1):
        low, high = window[axis], window[axis + 2]
        factor = (high - low) / size[axis]
        wide = max(1, factor)
        old = np.arange(low, high) + 0.5
        new = low + (np.arange(size[axis]) + 0.5) * factor
        distance = (old[None] - new[:, None]) / wide
        values = np.asarray(kernel(jnp.asarray(distance)))
        weights = np.where(np.abs(distance) <= radius, values, 0.0)
        weights /= weights.sum(1, keepdims=True)
        pixels = np.take(image, np.arange(low, high), axis)
        image = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
    return image


@pytest.mark.parametrize(
    ("case", "method"), [("up", "bicubic"), ("down", "bilinear"), ("a window", "bicubic")]
)
def test_floats_equal_the_weighted_sums(case, method):
    floats = (BYTES / 255).astype(np.float32)
    size, window = CASES[case]
    found = resized(floats, size, window, method)
    np.testing.assert_allclose(found, summed(floats, size, window, method), atol=2e-5)


def test_gathered_taps_equal_the_dense_product(monkeypatch):
    floats = (BYTES / 255).astype(np.float32)
    size, window = CASES["a window"]
    one_by_one = resized(floats, size, window, "bicubic")
    monkeypatch.setattr(scale, "FEW_TAPS", 0)
    np.testing.assert_allclose(resized(floats, size, window, "bicubic"), one_by_one, atol=1e-6)


@pytest.mark.parametrize("case", ["up", "down much"])
def test_a_flat_image_stays_flat(case):
    size, window = CASES[case]
    flat = resized(np.full((24, 18, 1), 0.3, np.float32), size, window, "bicubic")
    np.testing.assert_allclose(flat, np.full((*size, 1), 0.3), rtol=1e-6)


def test_the_kernels_are_one_at_their_center_and_sum_to_one():
    values = cubic(jnp.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5]))
    np.testing.assert_allclose(values, [1, 0.5625, 0, -0.0625, 0, 0])
    values = triangle(jnp.array([0.0, 0.25, -0.5, 1.0, 2.0]))
    np.testing.assert_allclose(values, [1, 0.75, 0.5, 0, 0])
    shifts = jnp.linspace(0, 1, 11)[:, None] + jnp.arange(-3, 4, dtype=jnp.float32)[None]
    for kernel in (triangle, cubic):
        np.testing.assert_allclose(kernel(shifts).sum(1), np.ones(11), rtol=1e-6)
