"""Antialiased scaling, against Pillow and against its definition as a weighted sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import __version__ as PILLOW_VERSION

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


def pillow_coefficients(old, new, method):
    """Whole weights (new, old) of one axis in units of 2⁻²², by the formulas of Pillow."""
    kernel, radius = KERNELS[method]
    factor = old / new
    wide = max(1, factor)
    weights = np.zeros((new, old))
    for i in range(new):
        center = (i + 0.5) * factor
        low = max(0, int(center - radius * wide + 0.5))
        high = min(old, int(center + radius * wide + 0.5))
        distance = (np.arange(low, high) + 0.5 - center) / wide
        weights[i, low:high] = kernel(jnp.asarray(distance, jnp.float32))
    weights /= weights.sum(1, keepdims=True)
    return np.round(weights * 2**22).astype(np.int64)


def resized_by_axis(image, size, axes, method):
    """Resize bytes along one axis after the other, clipped and rounded after each."""
    for axis in axes:
        weights = pillow_coefficients(image.shape[axis], size[axis], method)
        total = np.tensordot(weights, image.astype(np.int64), (1, axis))
        mean = np.clip(total + 2**21 >> 22, 0, 255)
        image = np.moveaxis(mean, 0, axis)
    return image


# Old and new size, and the axis that Pillow 13 resizes first: rows (0) or columns (1).
ORDERS = [
    ((33, 9), (15, 5), 0),
    ((60, 20), (20, 10), 0),
    ((20, 11), (10, 40), 0),
    ((21, 30), (11, 25), 1),
    ((22, 30), (11, 25), 0),
    ((9, 33), (15, 20), 1),
    ((24, 24), (10, 10), 1),
    ((90, 90), (7, 7), 1),
]


@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize(("old", "new", "first"), ORDERS)
def test_bytes_are_resized_in_the_order_of_pillow(old, new, first, method):
    # Black and white, whose bicubic overshoot is clipped after the first axis.
    image = 255 * np.random.default_rng(1).integers(0, 2, (*old, 3)).astype(np.uint8)
    found = np.asarray(resized(image, new, (0, 0, *old), method)).astype(int)
    wanted = resized_by_axis(image, new, (first, 1 - first), method)
    assert np.abs(found - wanted).max() <= 1
    if int(PILLOW_VERSION.split(".")[0]) >= 13:
        by_pillow = Pillow.fromarray(image).resize(new[::-1], FILTERS[method])
        assert np.abs(found - np.asarray(by_pillow)).max() <= 1


def test_windows_of_a_batch_of_bytes_equal_single_ones():
    images = np.random.default_rng(2).integers(0, 256, (3, 24, 18, 2), np.uint8)
    ops = [np.diag([factor, 0.5, 1]).astype(np.float32) for factor in (0.5, 1.0, 2.0)]

    def apply(image, m):
        return rescale(image, GeometricOp(m, (12, 10), support=(5, 3)))

    single = [jax.jit(apply)(image, m) for image, m in zip(images, ops, strict=True)]
    batch = jax.jit(jax.vmap(apply))(images, np.stack(ops))
    np.testing.assert_array_equal(batch, np.stack(single))


@pytest.mark.parametrize("method", KERNELS)
def test_words_equal_the_dense_product_of_bytes(monkeypatch, method):
    size, window = CASES["a window"]
    words = resized(BYTES, size, window, method)
    monkeypatch.setattr(scale, "FEW_TAPS_OF_WORDS", 0)
    np.testing.assert_array_equal(resized(BYTES, size, window, method), words)


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
