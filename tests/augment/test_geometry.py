"""Geometric augmentations against NumPy and Pillow, and against SciPy with float64 coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import apply_draws, as_floats, augmented, augmented_at, draws, pictures, smooth
from PIL import Image as Pillow
from PIL import ImageOps

from fnn import augment
from fnn.errors import ShapeError

pytestmark = pytest.mark.slow

SHAPE = (12, 10, 3)
IMAGES = pictures(16)
FLOATS = as_floats(IMAGES)


@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["bytes", "floats"])
@pytest.mark.parametrize(
    ("maker", "mirror"),
    [(augment.flip_lr, ImageOps.mirror), (augment.flip_ud, ImageOps.flip)],
    ids=["lr", "ud"],
)
def test_flips_equal_pillow_or_keep_the_image(maker, mirror, images):
    always = augmented_at(maker, images, np.full(16, 1.0))
    never = augmented_at(maker, images, np.full(16, 0.0))
    mirrored = np.stack([np.asarray(mirror(Pillow.fromarray(image))) for image in IMAGES])
    np.testing.assert_array_equal(always, mirrored if images is IMAGES else as_floats(mirrored))
    np.testing.assert_array_equal(never, images)


@pytest.mark.parametrize("maker", [augment.flip_lr, augment.flip_ud])
def test_flips_have_their_probability(maker):
    flipped = draws(maker(0.3), 2000)["flipped"].sum()
    assert scipy.stats.binomtest(int(flipped), 2000, 0.3).pvalue > 1e-3


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2, 3, 6])
def test_quarter_turns_equal_numpy(turns):
    np.testing.assert_array_equal(
        augmented(augment.rot90(turns), IMAGES), np.rot90(IMAGES, turns, (1, 2))
    )


def test_random_quarter_turns_are_equally_likely():
    images = np.repeat(pictures(1, (8, 8, 3)), 1000, 0)
    results = augmented(augment.rot90(), images)
    rotations = np.stack([np.rot90(images[0], turns) for turns in range(4)])
    # (images, rotations)
    equal = (results[:, None] == rotations[None]).all((2, 3, 4))
    assert equal.sum(1).tolist() == [1] * 1000
    assert scipy.stats.chisquare(equal.sum(0)).pvalue > 1e-3


def test_random_quarter_turns_need_a_square():
    with pytest.raises(ShapeError, match="rot90: expected a square image"):
        augment.rot90()(jax.random.key(0), jnp.zeros(SHAPE))


# Matrices from old coordinates (row, column, 1) to new ones, in float64.


def translation(rows, columns):
    return np.array([[1, 0, rows], [0, 1, columns], [0, 0, 1.0]])


def about_center(linear, shape=SHAPE):
    rows, columns = ((length - 1) / 2 for length in shape[:2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    return translation(rows, columns) @ matrix @ translation(-rows, -columns)


def rotation(degrees):
    """Counterclockwise: a point to the right moves up, so its row decreases."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def shearing(rows, columns):
    return np.array([[1, np.tan(np.deg2rad(rows))], [np.tan(np.deg2rad(columns)), 1]])


def affine(degrees, rows, columns, factor, shear_rows, shear_columns):
    linear = rotation(degrees) @ (factor * np.eye(2)) @ shearing(shear_rows, shear_columns)
    return translation(rows * SHAPE[0], columns * SHAPE[1]) @ about_center(linear)


def perspective(**inward):
    """The homography that moves the four corners inward by these shares of half a side."""
    equations = []
    targets = []
    for vertical, row in (("top", 0), ("bottom", SHAPE[0] - 1)):
        for horizontal, column in (("left", 0), ("right", SHAPE[1] - 1)):
            row_share = inward[f"{vertical}_{horizontal}_rows"]
            column_share = inward[f"{vertical}_{horizontal}_columns"]
            to_row = row + row_share * SHAPE[0] / 2 * (1 if row == 0 else -1)
            to_column = column + column_share * SHAPE[1] / 2 * (1 if column == 0 else -1)
            equations.append([row, column, 1, 0, 0, 0, -to_row * row, -to_row * column])
            equations.append([0, 0, 0, row, column, 1, -to_column * row, -to_column * column])
            targets += [to_row, to_column]
    return np.append(np.linalg.solve(equations, targets), 1).reshape(3, 3)


WARPS = {
    "rotate": (
        augment.rotate,
        {"degrees": (-150.0, 70.0)},
        lambda degrees: about_center(rotation(degrees)),
    ),
    "translate": (
        augment.translate,
        {"rows": (-0.3, 0.5), "columns": (-0.7, 0.1)},
        lambda rows, columns: translation(rows * SHAPE[0], columns * SHAPE[1]),
    ),
    "shear": (
        augment.shear,
        {"rows": (-30.0, 50.0), "columns": (-20.0, 10.0)},
        lambda rows, columns: about_center(shearing(rows, columns)),
    ),
    "scale": (
        augment.scale,
        {"factor": (0.4, 2.5)},
        lambda factor: about_center(factor * np.eye(2)),
    ),
    "affine": (
        augment.affine,
        {
            "degrees": (-90.0, 90.0),
            "rows": (-0.2, 0.2),
            "columns": (0.0, 0.3),
            "factor": (0.5, 1.5),
            "shear_rows": (-10.0, 20.0),
            "shear_columns": (5.0, 15.0),
        },
        affine,
    ),
    "perspective": (augment.perspective, {"distortion": 0.6}, perspective),
}
# The modes of scipy.ndimage by those of numpy.pad.
SCIPY_MODES = {
    "constant": "grid-constant",
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "wrap": "grid-wrap",
}


def by_scipy(image, forward, border="constant", fill=0.0, order=1):
    """The image warped by a matrix from old coordinates to new ones, as SciPy interpolates."""
    grid = np.stack([*np.indices(image.shape[:2]), np.ones(image.shape[:2])])
    homogeneous = np.tensordot(np.linalg.inv(forward), grid, 1)
    coordinates = homogeneous[:2] / homogeneous[2]
    options = {"order": order, "mode": SCIPY_MODES[border], "cval": fill}
    channels = []
    for k in range(image.shape[-1]):
        channel = image[..., k].astype(np.float64)
        channels.append(scipy.ndimage.map_coordinates(channel, coordinates, **options))
    return np.stack(channels, -1)


def warp_each(drawn, forward, images, **options):
    """Each image warped by SciPy with its own draw."""
    results = []
    for index, image in enumerate(images):
        parameters = {name: float(values[index]) for name, values in drawn.items()}
        results.append(by_scipy(image, forward(**parameters), **options))
    return np.stack(results)


@pytest.mark.parametrize("name", WARPS)
def test_warps_equal_scipy(name):
    maker, spans, forward = WARPS[name]
    policy = maker(**spans, fill=0.4)
    drawn = draws(policy, 16)
    expected = warp_each(drawn, forward, FLOATS, fill=0.4)
    np.testing.assert_allclose(apply_draws(policy, drawn, FLOATS), expected, atol=1e-4)
    levels = apply_draws(policy, drawn, IMAGES)
    assert levels.dtype == np.uint8
    assert np.abs(levels - 255 * expected).max() < 0.5 + 0.02


@pytest.mark.parametrize(
    ("order", "border"),
    [*((1, border) for border in SCIPY_MODES), (0, "constant"), (0, "reflect")],
)
def test_padding_modes_equal_scipy(order, border):
    method = ("nearest", "bilinear")[order]
    policy = augment.rotate((-180.0, 180.0), mode=border, method=method, fill=0.4)
    drawn = draws(policy, 16)
    expected = warp_each(drawn, WARPS["rotate"][2], FLOATS, border=border, fill=0.4, order=order)
    np.testing.assert_allclose(apply_draws(policy, drawn, FLOATS), expected, atol=1e-4)


def test_rotation_equals_pillow_inside_of_the_border():
    degrees = np.linspace(-170, 170, 16)
    images = (smooth(16, (30, 36, 3)) * 255).astype(np.uint8)
    results = augmented_at(augment.rotate, images, degrees)
    for image, angle, found in zip(images, degrees, results, strict=True):
        rotated = Pillow.fromarray(image).rotate(float(angle), Pillow.Resampling.BILINEAR)
        expected = np.asarray(rotated)
        # At the border Pillow keeps the last pixel, but fnn interpolates between it and the fill.
        forward = about_center(rotation(angle), (30, 36))
        inner = by_scipy(np.ones((30, 36, 1)), forward)[..., 0] > 1 - 1e-6
        assert inner.sum() > 300
        assert np.abs(found.astype(int) - expected)[inner].max() <= 1


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_rotation_by_right_angles_is_exact(method):
    images = pictures(8, (9, 9, 3))
    turns = np.arange(-3, 5)

    def rotate(degrees):
        return augment.rotate(degrees, method=method)

    results = augmented_at(rotate, images, 90.0 * turns)
    expected = [np.rot90(image, count) for count, image in zip(turns, images, strict=True)]
    np.testing.assert_array_equal(results, np.stack(expected))


@pytest.mark.parametrize("name", WARPS)
def test_pairs_are_drawn_uniformly_and_independently(name):
    maker, spans, _ = WARPS[name]
    drawn = draws(maker(**spans), 4000)
    for parameter, numbers in drawn.items():
        low, high = spans.get(parameter, (0.0, spans.get("distortion")))
        assert scipy.stats.kstest(numbers, "uniform", (low, high - low)).pvalue > 1e-4
        assert low <= numbers.min() and numbers.max() <= high
    # The bound is 4.4 standard deviations of the correlation of independent draws.
    parameters = np.stack(list(drawn.values()))
    correlations = np.atleast_2d(np.corrcoef(parameters)) - np.eye(len(parameters))
    assert np.abs(correlations).max() < 0.07


def test_a_number_is_used_as_it_is():
    drawn = draws(augment.affine(degrees=-20.0, factor=1.3), 5)
    values = {name: set(numbers.tolist()) for name, numbers in drawn.items()}
    assert values == {
        "degrees": {-20.0},
        "factor": {np.float32(1.3).item()},
        "rows": {0.0},
        "columns": {0.0},
        "shear_rows": {0.0},
        "shear_columns": {0.0},
    }


DIFFERENTIABLE = {
    "rotate": (augment.rotate, 17.0),
    "scale": (augment.scale, 1.1),
    "translate": (augment.translate, 0.13),
    "shear": (augment.shear, 12.0),
}


def test_gradients_equal_finite_differences():
    image = jnp.asarray(smooth(1)[0])
    weights = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE), jnp.float32)

    @jax.jit
    def found(steps):
        rows = []
        for maker, at in DIFFERENTIABLE.values():

            def level(magnitude, maker=maker):
                return (maker(magnitude, mode="reflect")(jax.random.key(0), image) * weights).sum()

            step = at * steps
            slope = jax.grad(level)(jnp.float32(at))
            difference = (level(at + step) - level(at - step)) / 2 / step
            rows.append(jnp.stack([slope, difference]))
        return jnp.stack(rows)

    slopes, differences = np.asarray(found(jnp.float32(1e-3))).T
    np.testing.assert_allclose(slopes, differences, rtol=0.02)
