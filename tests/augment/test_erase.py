"""Erased pixels against the definition, and their distribution against torchvision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, draws, pictures

from fnn import augment

IMAGES = pictures(32)
both_dtypes = pytest.mark.parametrize(
    ("images", "level"), [(IMAGES, 51), (as_floats(IMAGES), 0.2)], ids=["bytes", "floats"]
)


def range_masks(begins, lengths, size):
    """Masks (n, size) of the indices begin, ..., begin + length - 1."""
    index = np.arange(size)[None]
    return (index >= begins[:, None]) & (index < (begins + lengths)[:, None])


def erase(images, rows, columns, level):
    erased = rows[:, :, None] & columns[:, None, :]
    assert 0 < erased.mean() < 1
    return np.where(erased[..., None], np.asarray(level, images.dtype), images)


def cutout_of_sevens(size, shape, count=800):
    return augmented(augment.cutout(size), np.full((count, *shape), 7, np.uint8))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20])
def test_cutout_erases_squares_cut_off_by_the_border(size):
    height, width = 6, 5
    erased = cutout_of_sevens(size, (height, width, 2))[..., 0] == 0
    masks = {tuple(mask) for mask in erased.reshape(800, -1)}
    expected = set()
    for row, column in np.ndindex(height, width):
        mask = np.zeros((height, width), bool)
        top, left = row - size // 2, column - size // 2
        mask[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = True
        expected.add(tuple(mask.reshape(-1)))
    assert masks == expected


def test_all_centers_are_equally_likely():
    counts = (cutout_of_sevens(1, (4, 4, 1))[..., 0] == 0).sum(0).reshape(-1)
    assert counts.sum() == 800
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_all_channels_are_erased_and_other_pixels_kept():
    images = cutout_of_sevens(3, (6, 6, 3))
    assert set(np.unique(images)) == {0, 7}
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


@both_dtypes
def test_the_square_has_its_position_and_level(images, level):
    policy = augment.cutout(5, fill=0.2)
    drawn = draws(policy, 32)
    rows = range_masks(drawn["row"] - 2, 5, 12)
    columns = range_masks(drawn["column"] - 2, 5, 10)
    expected = erase(images, rows, columns, level)
    np.testing.assert_array_equal(apply_draws(policy, drawn, images), expected)


@both_dtypes
def test_the_rectangle_has_its_position_and_level(images, level):
    policy = augment.random_erasing(0.7, fill=0.2)
    drawn = draws(policy, 32)
    rows = range_masks(drawn["top"], drawn["height"], 12) & drawn["erases"][:, None]
    columns = range_masks(drawn["left"], drawn["width"], 10)
    expected = erase(images, rows, columns, level)
    np.testing.assert_array_equal(apply_draws(policy, drawn, images), expected)


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_noise_in_the_rectangle_is_uniform_and_other_pixels_are_kept(images):
    policy = augment.random_erasing(1.0, area=(0.4, 0.4), fill="noise")
    drawn = draws(policy, 32)
    results = apply_draws(policy, drawn, images)
    rows = range_masks(drawn["top"], drawn["height"], 12)
    columns = range_masks(drawn["left"], drawn["width"], 10)
    erased = rows[:, :, None] & columns[:, None, :] & drawn["erases"][:, None, None]
    np.testing.assert_array_equal(results[~erased], images[~erased])
    levels = results[erased].astype(np.float64)  # (pixels, channels)
    assert len(levels) > 1000
    if images.dtype == np.uint8:
        assert scipy.stats.chisquare(np.histogram(levels, 16, (0, 256))[0]).pvalue > 1e-4
    else:
        assert scipy.stats.kstest(levels.reshape(-1), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(levels.T)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(len(levels))


def torchvision_rectangles(draw, shape, area, ratio, count):
    """Rows (top, left, height, width) as RandomErasing draws them; zeros if it erases nothing."""
    height, width = shape
    for _ in range(count):
        for _ in range(10):
            pixels = height * width * draw.uniform(*area)
            tall = np.exp(draw.uniform(*np.log(ratio)))
            h, w = round(np.sqrt(pixels * tall)), round(np.sqrt(pixels / tall))
            if h < height and w < width:
                yield draw.integers(0, height - h + 1), draw.integers(0, width - w + 1), h, w
                break
        else:
            yield 0, 0, 0, 0


@pytest.mark.parametrize(
    ("shape", "area", "ratio"),
    [
        ((40, 36), (0.02, 0.33), (0.3, 3.3)),
        ((40, 10), (0.5, 0.8), (0.3, 3.3)),
        ((9, 30), (0.1, 0.9), (1.0, 2.0)),
    ],
)
def test_rectangles_have_the_distribution_of_torchvision(shape, area, ratio):
    drawn = draws(augment.random_erasing(1.0, area=area, ratio=ratio), 4000, (*shape, 3))
    draw = np.random.default_rng(0)
    expected = np.array(list(torchvision_rectangles(draw, shape, area, ratio, 4000)))
    for name, column in zip(("top", "left", "height", "width"), expected.T, strict=True):
        found = np.where(drawn["erases"], drawn[name], 0)
        assert scipy.stats.ks_2samp(found, column, method="asymp").pvalue > 1e-4


def test_erasing_is_independent_of_the_position():
    drawn = draws(augment.random_erasing(0.3), 4000, (40, 36, 3))
    erases = drawn["erases"]
    assert scipy.stats.binomtest(int(erases.sum()), 4000, 0.3).pvalue > 1e-3
    for name in ("top", "left", "height", "width"):
        samples = drawn[name][erases], drawn[name][~erases]
        assert scipy.stats.ks_2samp(*samples, method="asymp").pvalue > 1e-3


@both_dtypes
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_the_squares_of_a_grid_have_their_positions(images, level, ratio):
    policy = augment.grid_mask((0.2, 0.7), ratio=ratio, probability=0.8, fill=0.2)
    drawn = draws(policy, 32)
    erased = np.zeros(images.shape[:3], bool)
    for k in range(len(images)):
        unit = drawn["unit"][k]
        count = np.round(unit * ratio)
        rows = (np.arange(12) + drawn["row"][k]) % unit < count
        columns = (np.arange(10) + drawn["column"][k]) % unit < count
        erased[k] = drawn["masks"][k] & rows[:, None] & columns[None]
    expected = np.where(erased[..., None], np.asarray(level, images.dtype), images)
    assert erased.any((1, 2)).sum() == (0 if ratio == 0 else drawn["masks"].sum())
    np.testing.assert_array_equal(apply_draws(policy, drawn, images), expected)


def test_grids_have_uniform_units_and_offsets_and_their_probability():
    drawn = draws(augment.grid_mask((0.2, 0.7), probability=0.3), 4000, (100, 120, 3))
    assert scipy.stats.binomtest(int(drawn["masks"].sum()), 4000, 0.3).pvalue > 1e-3
    # Units are whole pixels: with uniform noise of one pixel they are uniform.
    within = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    inner = (drawn["unit"] > 20) & (drawn["unit"] < 70)
    assert scipy.stats.kstest((drawn["unit"] + within)[inner], "uniform", (20.5, 49)).pvalue > 1e-4
    for name in ("row", "column"):
        parts = (drawn[name] + within + 0.5) / drawn["unit"]
        assert scipy.stats.kstest(parts, "uniform").pvalue > 1e-4
    masks = drawn["masks"]
    samples = drawn["unit"][masks], drawn["unit"][~masks]
    assert scipy.stats.ks_2samp(*samples, method="asymp").pvalue > 1e-3


FILLED = {
    "cutout": augment.cutout(5, fill=0.5),
    "random_erasing": augment.random_erasing(1.0, fill=0.5),
    "grid_mask": augment.grid_mask(fill=0.5),
    "channel_drop": augment.channel_drop(1.0, fill=0.5),
    "pad": augment.pad(2, fill=0.5, mode="constant"),
    "rotate": augment.rotate(45.0, method="nearest", fill=0.5),
}


@pytest.mark.parametrize("name", FILLED)
def test_a_fill_of_one_half_is_the_byte_128(name):
    # 127.5 is rounded to the nearest whole number, half to even, not down.
    filled = jax.jit(FILLED[name])(jax.random.key(1), np.zeros((16, 16, 3), np.uint8))
    assert set(np.unique(filled)) == {0, 128}


def test_erased_pixels_have_gradient_zero_by_the_image_and_one_by_the_level():
    image = jnp.asarray(as_floats(IMAGES)[2])

    @jax.jit
    def slopes(image, fill):
        def total(image, fill):
            return augment.cutout(5, fill=fill)(jax.random.key(0), image).sum()

        return jax.grad(total, (0, 1))(image, fill)

    by_image, by_level = slopes(image, jnp.float32(0.3))
    assert set(np.unique(by_image)) == {0, 1}
    assert float(by_level) == int((by_image == 0).sum()) > 0
