"""Windows against NumPy's padding, and resized ones against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as
from PIL import Image as Pillow

from fnn import augment
from fnn.errors import ShapeError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
MODES = ["reflect", "symmetric", "edge", "wrap", "constant"]
METHODS = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}


def windows(padding, mode, size):
    """Every window that a crop may show, by NumPy."""
    padded = np.pad(BYTES, ((padding, padding), (padding, padding), (0, 0)), mode)
    places = np.ndindex(padded.shape[0] - size[0] + 1, padded.shape[1] - size[1] + 1)
    return [padded[i : i + size[0], j : j + size[1]] for i, j in places]


@pytest.mark.parametrize(
    ("padding", "size", "mode"),
    [
        (1, None, "reflect"),
        (0, 4, "constant"),
        (4, None, "wrap"),
        *((2, (4, 3), mode) for mode in MODES),
    ],
)
def test_a_crop_is_one_of_numpys_windows_each_as_likely(padding, size, mode):
    sizes = BYTES.shape[:2] if size is None else (size, size) if isinstance(size, int) else size
    shown = seen(
        augment.random_crop(padding=padding, mode=mode, size=size), np.stack([BYTES] * 600)
    )
    assert shown.dtype == np.uint8
    allowed = {window.tobytes(): 0 for window in windows(padding, mode, sizes)}
    weights = dict.fromkeys(allowed, 0)
    for window in windows(padding, mode, sizes):
        weights[window.tobytes()] += 1
    for image in shown:
        allowed[image.tobytes()] += 1  # a KeyError is a window that NumPy does not have
    expected = np.array([600 * weights[name] / sum(weights.values()) for name in allowed])
    if len(allowed) > 1:
        assert scipy.stats.chisquare(list(allowed.values()), expected).pvalue > 1e-4


@pytest.mark.parametrize("mode", ["symmetric", "constant"])
def test_a_crop_of_floats_is_numpys_window_at_the_offsets_that_were_drawn(mode):
    images, policy = (
        as_floats(pictures(16)),
        augment.random_crop(padding=3, mode=mode, size=(9, 14), fill=0.3),
    )
    drawn = draws(policy, 16)
    shown = seen_as(policy, drawn, images)
    options = {"constant_values": np.float32(0.3)} if mode == "constant" else {}
    for image, top, left, found in zip(
        images, drawn["top"] + 3, drawn["left"] + 3, shown, strict=True
    ):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode, **options)
        np.testing.assert_array_equal(found, padded[top : top + 9, left : left + 14])


@pytest.mark.parametrize("size", [(12, 10), (5, 3), (6, 7), (1, 10)])
def test_a_crop_in_the_middle_is_numpys(size):
    images = pictures(4)
    top, left = (round((n - own) / 2) for n, own in zip((12, 10), size, strict=True))
    shown = seen(augment.crop(size), images)
    np.testing.assert_array_equal(shown, images[:, top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [(2, 3), 13])
def test_padding_is_numpys(mode, padding):
    images = pictures(4)
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    pads = ((0, 0), (rows, rows), (columns, columns), (0, 0))
    for own, fill in ((images, 51), (as_floats(images), np.float32(0.2))):
        options = {"constant_values": fill} if mode == "constant" else {}
        expected = np.pad(own, pads, mode, **options)
        np.testing.assert_array_equal(
            seen(augment.pad(padding, mode=mode, fill=0.2), own), expected
        )


@pytest.mark.parametrize(
    "maker", [augment.crop, lambda size: augment.random_crop(padding=1, size=size)]
)
def test_no_window_is_larger_than_the_image(maker):
    with pytest.raises(ShapeError, match="expected an image of at least"):
        maker((12, 20))(jax.random.key(0), jnp.zeros((12, 10, 3)))


def by_pillow(image, size, method):
    """Bytes (height, width, channels) resized by Pillow; of floats each channel by itself, which it does not round."""
    columns_first = size[::-1]
    if image.dtype == np.uint8:
        return np.asarray(Pillow.fromarray(image).resize(columns_first, METHODS[method])).astype(
            int
        )
    channels = [
        Pillow.fromarray(image[..., k]).resize(columns_first, METHODS[method])
        for k in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(7, 10), (31, 17), (3, 40), (12, 10)])
def test_a_resized_image_is_pillows(method, size):
    images = pictures(8)
    # Between its two passes Pillow clips bytes, so they are of levels that no pass leaves.
    for own, tolerance in ((64 + images // 2, 1), (as_floats(images), 1e-5)):
        shown = seen(augment.resize(size, method=method), own)
        assert shown.shape == (8, *size, 3) and shown.dtype == own.dtype
        expected = np.stack([by_pillow(image, size, method) for image in own])
        np.testing.assert_allclose(shown.astype(expected.dtype), expected, atol=tolerance)


def test_an_image_of_its_own_size_is_resized_to_itself():
    images = pictures(8)
    np.testing.assert_array_equal(seen(augment.resize((12, 10)), images), images)


@pytest.mark.parametrize("method", METHODS)
def test_a_resized_window_is_pillows_of_the_window_alone(method):
    images, policy = pictures(32, (26, 40, 3)), augment.random_resized_crop((9, 13), method=method)
    drawn = draws(policy, 32, (26, 40, 3))
    for own, tolerance in ((64 + images // 2, 1), (as_floats(images), 2e-5)):
        shown = seen_as(policy, drawn, own)
        for image, top, left, height, width, found in zip(
            own,
            *(drawn[name].astype(int) for name in ("top", "left", "height", "width")),
            shown,
            strict=True,
        ):
            window = np.ascontiguousarray(image[top : top + height, left : left + width])
            assert window.shape == (height, width, 3)
            expected = by_pillow(window, (9, 13), method)
            np.testing.assert_allclose(found.astype(expected.dtype), expected, atol=tolerance)


def torchvisions_windows(draw, shape, area, ratio, count):
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
def test_windows_come_as_often_as_torchvisions(shape, area, ratio):
    drawn = draws(augment.random_resized_crop(8, area=area, ratio=ratio), 4000, (*shape, 3))
    expected = np.array(
        list(torchvisions_windows(np.random.default_rng(0), shape, area, ratio, 4000))
    )
    for name, own in zip(("top", "left", "height", "width"), expected.T, strict=True):
        assert scipy.stats.ks_2samp(drawn[name], own, method="asymp").pvalue > 1e-4
    place = (drawn["top"] + drawn["height"] <= shape[0]) & (
        drawn["left"] + drawn["width"] <= shape[1]
    )
    assert place.all() and (drawn["top"] >= 0).all() and (drawn["left"] >= 0).all()


@pytest.mark.parametrize(("shape", "window"), [((41, 6), (16, 0, 8, 6)), ((6, 43), (0, 17, 6, 8))])
def test_where_no_window_fits_the_largest_in_the_middle_is_shown(shape, window):
    drawn = draws(augment.random_resized_crop(8, area=(1.0, 1.0)), 20, (*shape, 1))
    found = np.stack([drawn[name] for name in ("top", "left", "height", "width")], 1)
    np.testing.assert_array_equal(found, [window] * 20)
