"""What is hidden, against the definition, pixel by pixel, and how often it comes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as

from fnn import augment

IMAGES = pictures(32)
DTYPES = pytest.mark.parametrize(
    ("images", "level"), [(IMAGES, 51), (as_floats(IMAGES), 0.2)], ids=["bytes", "floats"]
)


def runs(begins, lengths, size):
    """Masks (n, size): from each beginning, so many."""
    places = np.arange(size)[None]
    return (places >= begins[:, None]) & (places < (begins + lengths)[:, None])


def covered(images, rows, columns, level):
    hidden = rows[:, :, None] & columns[:, None, :]
    assert 0 < hidden.mean() < 1
    return np.where(hidden[..., None], np.asarray(level, images.dtype), images)


def flat(size, shape, count=800):
    return seen(augment.cutout(size), np.full((count, *shape), 7, np.uint8))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 20])
def test_what_is_hidden_is_a_square_cut_off_by_the_edges(size):
    height, width = 6, 5
    masks = {tuple(m) for m in (flat(size, (height, width, 2))[..., 0] == 0).reshape(800, -1)}
    expected = set()
    for row, column in np.ndindex(height, width):
        mask = np.zeros((height, width), bool)
        top, left = row - size // 2, column - size // 2
        mask[max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = True
        expected.add(tuple(mask.reshape(-1)))
    assert masks == expected


def test_every_center_is_as_likely():
    hidden = (flat(1, (4, 4, 1))[..., 0] == 0).sum(0).reshape(-1)
    assert hidden.sum() == 800
    assert scipy.stats.chisquare(hidden).pvalue > 1e-4


def test_all_channels_are_hidden_alike_and_the_rest_stays():
    images = flat(3, (6, 6, 3))
    assert set(np.unique(images)) == {0, 7}
    np.testing.assert_array_equal(images[..., 0], images[..., 2])


@DTYPES
def test_a_square_is_where_it_was_drawn_and_of_the_level(images, level):
    policy = augment.cutout(5, fill=0.2)
    drawn = draws(policy, 32)
    rows, columns = (runs(drawn[name] - 2, 5, n) for name, n in (("row", 12), ("column", 10)))
    np.testing.assert_array_equal(
        seen_as(policy, drawn, images), covered(images, rows, columns, level)
    )


@DTYPES
def test_a_rectangle_is_where_it_was_drawn_and_of_the_level(images, level):
    policy = augment.random_erasing(0.7, fill=0.2)
    drawn = draws(policy, 32)
    rows = runs(drawn["top"], drawn["height"], 12) & drawn["erases"][:, None]
    columns = runs(drawn["left"], drawn["width"], 10)
    np.testing.assert_array_equal(
        seen_as(policy, drawn, images), covered(images, rows, columns, level)
    )


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
def test_a_rectangle_of_noise_holds_any_level_and_leaves_the_rest(images):
    policy = augment.random_erasing(1.0, area=(0.4, 0.4), fill="noise")
    drawn = draws(policy, 32)
    shown = seen_as(policy, drawn, images)
    rows, columns = runs(drawn["top"], drawn["height"], 12), runs(drawn["left"], drawn["width"], 10)
    hidden = rows[:, :, None] & columns[:, None, :] & drawn["erases"][:, None, None]
    np.testing.assert_array_equal(shown[~hidden], images[~hidden])
    levels = shown[hidden].astype(np.float64)  # (pixels, channels)
    assert len(levels) > 1000
    if images.dtype == np.uint8:
        assert scipy.stats.chisquare(np.histogram(levels, 16, (0, 256))[0]).pvalue > 1e-4
    else:
        assert scipy.stats.kstest(levels.reshape(-1), "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(levels.T)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(len(levels))


def torchvisions_rectangles(draw, shape, area, ratio, count):
    """Rows of (top, left, height, width) as RandomErasing.get_params draws them, of zeros where it hides nothing."""
    height, width = shape
    for _ in range(count):
        for _ in range(10):
            pixels, tall = (
                height * width * draw.uniform(*area),
                np.exp(draw.uniform(*np.log(ratio))),
            )
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
def test_rectangles_come_as_often_as_torchvisions(shape, area, ratio):
    drawn = draws(augment.random_erasing(1.0, area=area, ratio=ratio), 4000, (*shape, 3))
    expected = np.array(
        list(torchvisions_rectangles(np.random.default_rng(0), shape, area, ratio, 4000))
    )
    for name, own in zip(("top", "left", "height", "width"), expected.T, strict=True):
        found = np.where(drawn["erases"], drawn[name], 0)
        assert scipy.stats.ks_2samp(found, own, method="asymp").pvalue > 1e-4


def test_whether_it_is_erased_has_nothing_to_do_with_where():
    drawn = draws(augment.random_erasing(0.3), 4000, (40, 36, 3))
    erases = drawn["erases"]
    assert scipy.stats.binomtest(int(erases.sum()), 4000, 0.3).pvalue > 1e-3
    for name in ("top", "left", "height", "width"):
        assert (
            scipy.stats.ks_2samp(drawn[name][erases], drawn[name][~erases], method="asymp").pvalue
            > 1e-3
        )


@DTYPES
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_the_squares_of_a_grid_are_where_they_were_drawn(images, level, ratio):
    policy = augment.grid_mask((0.2, 0.7), ratio=ratio, probability=0.8, fill=0.2)
    drawn = draws(policy, 32)
    hidden = np.zeros(images.shape[:3], bool)
    for k, (unit, row, column, masks) in enumerate(
        zip(*(drawn[n] for n in ("unit", "row", "column", "masks")), strict=True)
    ):
        count = np.round(unit * ratio)
        for i, j in np.ndindex(12, 10):
            hidden[k, i, j] = masks and (i + row) % unit < count and (j + column) % unit < count
    expected = np.where(hidden[..., None], np.asarray(level, images.dtype), images)
    assert hidden.any((1, 2)).sum() == (0 if ratio == 0 else drawn["masks"].sum())
    np.testing.assert_array_equal(seen_as(policy, drawn, images), expected)


def test_a_grid_has_any_unit_and_offset_and_comes_with_its_chance():
    drawn = draws(augment.grid_mask((0.2, 0.7), probability=0.3), 4000, (100, 120, 3))
    assert scipy.stats.binomtest(int(drawn["masks"].sum()), 4000, 0.3).pvalue > 1e-3
    # Units are whole pixels: spread over half a pixel each way they are uniform.
    within = np.random.default_rng(0).uniform(-0.5, 0.5, 4000)
    inner = (drawn["unit"] > 20) & (drawn["unit"] < 70)
    assert scipy.stats.kstest((drawn["unit"] + within)[inner], "uniform", (20.5, 49)).pvalue > 1e-4
    for name in ("row", "column"):
        parts = (drawn[name] + within + 0.5) / drawn["unit"]
        assert scipy.stats.kstest(parts, "uniform").pvalue > 1e-4
    masks = drawn["masks"]
    assert (
        scipy.stats.ks_2samp(drawn["unit"][masks], drawn["unit"][~masks], method="asymp").pvalue
        > 1e-3
    )


def test_hidden_pixels_have_no_slope_by_the_image_and_one_by_the_level():
    image = jnp.asarray(as_floats(IMAGES)[2])

    @jax.jit
    def slopes(image, fill):
        def total(image, fill):
            return augment.cutout(5, fill=fill)(jax.random.key(0), image).sum()

        return jax.grad(total, (0, 1))(image, fill)

    by_image, by_level = slopes(image, jnp.float32(0.3))
    assert set(np.unique(by_image)) == {0, 1}
    assert float(by_level) == int((by_image == 0).sum()) > 0
