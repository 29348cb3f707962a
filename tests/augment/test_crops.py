"""Crops and padding against NumPy, resizing against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, draws, pictures
from PIL import Image as Pillow

from fnn import augment
from fnn.errors import ShapeError

pytestmark = pytest.mark.slow

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
MODES = ["reflect", "symmetric", "edge", "wrap", "constant"]
METHODS = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}


def windows(padding, mode, size):
    """All windows of the padded image."""
    padded = np.pad(BYTES, ((padding, padding), (padding, padding), (0, 0)), mode)
    offsets = np.ndindex(padded.shape[0] - size[0] + 1, padded.shape[1] - size[1] + 1)
    return [padded[i : i + size[0], j : j + size[1]] for i, j in offsets]


@pytest.mark.parametrize(
    ("padding", "size", "mode"),
    [
        (1, None, "reflect"),
        (0, 4, "constant"),
        (4, None, "wrap"),
        *((2, (4, 3), mode) for mode in MODES),
    ],
)
def test_random_crops_are_uniform_windows_of_numpy(padding, size, mode):
    sizes = {None: BYTES.shape[:2], 4: (4, 4)}.get(size, size)
    policy = augment.random_crop(padding=padding, mode=mode, size=size)
    results = augmented(policy, np.stack([BYTES] * 600))
    assert results.dtype == np.uint8
    counts = {window.tobytes(): 0 for window in windows(padding, mode, sizes)}
    # Some windows have equal pixels, such as those of a constant padding.
    weights = dict.fromkeys(counts, 0)
    for window in windows(padding, mode, sizes):
        weights[window.tobytes()] += 1
    for image in results:
        counts[image.tobytes()] += 1  # a KeyError is a window that NumPy does not have
    expected = np.array([600 * weights[name] / sum(weights.values()) for name in counts])
    if len(counts) > 1:
        assert scipy.stats.chisquare(list(counts.values()), expected).pvalue > 1e-4


@pytest.mark.parametrize("mode", ["symmetric", "constant"])
def test_a_random_crop_of_floats_is_the_window_at_its_offsets(mode):
    images = as_floats(pictures(16))
    policy = augment.random_crop(padding=3, mode=mode, size=(9, 14), fill=0.3)
    drawn = draws(policy, 16)
    results = apply_draws(policy, drawn, images)
    options = {"constant_values": np.float32(0.3)} if mode == "constant" else {}
    tops = drawn["top"] + 3
    lefts = drawn["left"] + 3
    for image, top, left, found in zip(images, tops, lefts, results, strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode, **options)
        np.testing.assert_array_equal(found, padded[top : top + 9, left : left + 14])


@pytest.mark.parametrize("size", [(12, 10), (5, 3), (6, 7), (1, 10)])
def test_a_central_crop_equals_slicing(size):
    images = pictures(4)
    top = round((12 - size[0]) / 2)
    left = round((10 - size[1]) / 2)
    results = augmented(augment.crop(size), images)
    np.testing.assert_array_equal(results, images[:, top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [(2, 3), 13])
def test_padding_equals_numpy(mode, padding):
    images = pictures(4)
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    pads = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    policy = augment.pad(padding, mode=mode, fill=0.2)
    for batch, fill in ((images, 51), (as_floats(images), np.float32(0.2))):
        options = {"constant_values": fill} if mode == "constant" else {}
        expected = np.pad(batch, pads, mode, **options)
        np.testing.assert_array_equal(augmented(policy, batch), expected)


@pytest.mark.parametrize(
    "maker", [augment.crop, lambda size: augment.random_crop(padding=1, size=size)]
)
def test_windows_larger_than_the_image_raise(maker):
    with pytest.raises(ShapeError, match="expected an image of at least"):
        maker((12, 20))(jax.random.key(0), jnp.zeros((12, 10, 3)))


def by_pillow(image, size, method):
    """The image resized by Pillow; floats channel by channel, because it rounds other modes."""
    columns_first = size[::-1]  # Pillow has (width, height)
    if image.dtype == np.uint8:
        resized = Pillow.fromarray(image).resize(columns_first, METHODS[method])
        return np.asarray(resized).astype(int)
    channels = []
    for k in range(image.shape[-1]):
        channel = Pillow.fromarray(image[..., k]).resize(columns_first, METHODS[method])
        channels.append(np.asarray(channel))
    return np.stack(channels, -1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(7, 10), (31, 17), (3, 40), (12, 10)])
def test_resize_equals_pillow(method, size):
    images = pictures(8)
    # Pillow clips bytes between its two passes, so the levels are such that none is clipped.
    for batch, tolerance in ((64 + images // 2, 1), (as_floats(images), 1e-5)):
        results = augmented(augment.resize(size, method=method), batch)
        assert results.shape == (8, *size, 3) and results.dtype == batch.dtype
        expected = np.stack([by_pillow(image, size, method) for image in batch])
        np.testing.assert_allclose(results.astype(expected.dtype), expected, atol=tolerance)


def test_resizing_to_the_same_size_is_the_identity():
    images = pictures(8)
    np.testing.assert_array_equal(augmented(augment.resize((12, 10)), images), images)


@pytest.mark.parametrize("method", METHODS)
def test_a_resized_crop_equals_pillow_on_the_window(method):
    images = pictures(32, (26, 40, 3))
    policy = augment.random_resized_crop((9, 13), method=method)
    drawn = draws(policy, 32, (26, 40, 3))
    boxes = np.stack([drawn[name] for name in ("top", "left", "height", "width")], -1).astype(int)
    for batch, tolerance in ((64 + images // 2, 1), (as_floats(images), 2e-5)):
        results = apply_draws(policy, drawn, batch)
        for image, box, found in zip(batch, boxes, results, strict=True):
            top, left, height, width = box
            window = np.ascontiguousarray(image[top : top + height, left : left + width])
            assert window.shape == (height, width, 3)
            expected = by_pillow(window, (9, 13), method)
            np.testing.assert_allclose(found.astype(expected.dtype), expected, atol=tolerance)


def torchvision_windows(draw, shape, area, ratio, count):
    """Rows of (top, left, height, width), as RandomResizedCrop.get_params draws them."""
    height, width = shape
    for _ in range(count):
        for _ in range(10):
            pixels = height * width * draw.uniform(*area)
            wide = np.exp(draw.uniform(*np.log(ratio)))
            w, h = round(np.sqrt(pixels * wide)), round(np.sqrt(pixels / wide))
            if 0 < w <= width and 0 < h <= height:
                yield draw.integers(0, height - h + 1), draw.integers(0, width - w + 1), h, w
                break
        else:
            wide = np.clip(width / height, *ratio)
            h, w = min(height, round(width / wide)), min(width, round(height * wide))
            yield (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("shape", "area", "ratio"),
    [
        ((40, 36), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((39, 12), (0.3, 0.9), (0.5, 2.0)),
        ((20, 33), (0.6, 0.6), (1.2, 1.3)),
    ],
)
def test_windows_have_the_distribution_of_torchvision(shape, area, ratio):
    drawn = draws(augment.random_resized_crop(8, area=area, ratio=ratio), 4000, (*shape, 3))
    draw = np.random.default_rng(0)
    expected = np.array(list(torchvision_windows(draw, shape, area, ratio, 4000)))
    for name, column in zip(("top", "left", "height", "width"), expected.T, strict=True):
        assert scipy.stats.ks_2samp(drawn[name], column, method="asymp").pvalue > 1e-4
    assert (drawn["top"] >= 0).all() and (drawn["top"] + drawn["height"] <= shape[0]).all()
    assert (drawn["left"] >= 0).all() and (drawn["left"] + drawn["width"] <= shape[1]).all()


@pytest.mark.parametrize(("shape", "window"), [((41, 6), (16, 0, 8, 6)), ((6, 43), (0, 17, 6, 8))])
def test_without_a_fitting_window_the_largest_central_one_is_used(shape, window):
    drawn = draws(augment.random_resized_crop(8, area=(1.0, 1.0)), 20, (*shape, 1))
    found = np.stack([drawn[name] for name in ("top", "left", "height", "width")], 1)
    np.testing.assert_array_equal(found, [window] * 20)
