"""Moves of pixels, against NumPy and Pillow, and against SciPy at places that are worked out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as, seen_at, smooth
from PIL import Image as Pillow
from PIL import ImageOps

from fnn import augment
from fnn.errors import ShapeError

SHAPE = (12, 10, 3)
IMAGES = pictures(16)
FLOATS = as_floats(IMAGES)


@pytest.mark.parametrize("images", [IMAGES, FLOATS], ids=["bytes", "floats"])
@pytest.mark.parametrize(
    ("maker", "mirror"),
    [(augment.flip_lr, ImageOps.mirror), (augment.flip_ud, ImageOps.flip)],
    ids=["lr", "ud"],
)
def test_a_flip_is_pillows_or_nothing(maker, mirror, images):
    always, never = (seen_at(maker, images, np.full(16, chance)) for chance in (1.0, 0.0))
    mirrored = np.stack([np.asarray(mirror(Pillow.fromarray(image))) for image in IMAGES])
    np.testing.assert_array_equal(always, mirrored if images is IMAGES else as_floats(mirrored))
    np.testing.assert_array_equal(never, images)


@pytest.mark.parametrize("maker", [augment.flip_lr, augment.flip_ud])
def test_a_flip_comes_with_its_chance(maker):
    flipped = draws(maker(0.3), 2000)["flipped"].sum()
    assert scipy.stats.binomtest(int(flipped), 2000, 0.3).pvalue > 1e-3


@pytest.mark.parametrize("turns", [-3, -1, 0, 1, 2, 3, 6])
def test_quarter_turns_are_numpys(turns):
    np.testing.assert_array_equal(
        seen(augment.rot90(turns), IMAGES), np.rot90(IMAGES, turns, (1, 2))
    )


def test_a_quarter_turn_that_is_drawn_is_one_of_four_each_as_likely():
    images = np.repeat(pictures(1, (8, 8, 3)), 1000, 0)
    shown = seen(augment.rot90(), images)
    ways = np.stack([np.rot90(images[0], turns) for turns in range(4)])
    alike = (shown[:, None] == ways[None]).all((2, 3, 4))
    assert alike.sum(1).tolist() == [1] * 1000
    assert scipy.stats.chisquare(alike.sum(0)).pvalue > 1e-3


def test_a_quarter_turn_that_is_drawn_needs_a_square():
    with pytest.raises(ShapeError, match="rot90: expected a square image"):
        augment.rot90()(jax.random.key(0), jnp.zeros(SHAPE))


# Where old places go, as matrices over (row, column, 1), in float64.


def shifted(rows, columns):
    return np.array([[1, 0, rows], [0, 1, columns], [0, 0, 1.0]])


def centered(linear, shape=SHAPE):
    m, (rows, columns) = np.eye(3), ((n - 1) / 2 for n in shape[:2])
    m[:2, :2] = linear
    return shifted(rows, columns) @ m @ shifted(-rows, -columns)


def turned(degrees):
    """A point to the right goes up, so its row gets less."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def slanted(rows, columns):
    return np.array([[1, np.tan(np.deg2rad(rows))], [np.tan(np.deg2rad(columns)), 1]])


def affine(degrees, rows, columns, factor, shear_rows, shear_columns):
    linear = turned(degrees) @ (factor * np.eye(2)) @ slanted(shear_rows, shear_columns)
    return shifted(rows * SHAPE[0], columns * SHAPE[1]) @ centered(linear)


def seen_from_aside(**inwards):
    """The map (row, column) -> (row, column) of a projective plane that the four corners and where they go tell."""
    lines, ends = [], []
    for vertical, row in (("top", 0), ("bottom", SHAPE[0] - 1)):
        for horizontal, column in (("left", 0), ("right", SHAPE[1] - 1)):
            by = [inwards[f"{vertical}_{horizontal}_{axis}"] for axis in ("rows", "columns")]
            to_row = row + by[0] * SHAPE[0] / 2 * (1 if row == 0 else -1)
            to_column = column + by[1] * SHAPE[1] / 2 * (1 if column == 0 else -1)
            lines.append([row, column, 1, 0, 0, 0, -to_row * row, -to_row * column])
            lines.append([0, 0, 0, row, column, 1, -to_column * row, -to_column * column])
            ends += [to_row, to_column]
    return np.append(np.linalg.solve(lines, ends), 1).reshape(3, 3)


MOVES = {
    "rotate": (
        augment.rotate,
        {"degrees": (-150.0, 70.0)},
        lambda degrees: centered(turned(degrees)),
    ),
    "translate": (
        augment.translate,
        {"rows": (-0.3, 0.5), "columns": (-0.7, 0.1)},
        lambda rows, columns: shifted(rows * SHAPE[0], columns * SHAPE[1]),
    ),
    "shear": (
        augment.shear,
        {"rows": (-30.0, 50.0), "columns": (-20.0, 10.0)},
        lambda rows, columns: centered(slanted(rows, columns)),
    ),
    "scale": (augment.scale, {"factor": (0.4, 2.5)}, lambda factor: centered(factor * np.eye(2))),
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
    "perspective": (augment.perspective, {"distortion": 0.6}, seen_from_aside),
}
BORDERS = {
    "constant": "grid-constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "grid-wrap"
}  # fmt: skip


def by_scipy(image, forward, border="constant", fill=0.0, order=1):
    """The image moved by a matrix that sends old places to new ones, as SciPy interpolates."""
    grid = np.stack([*np.indices(image.shape[:2]), np.ones(image.shape[:2])])
    sent = np.tensordot(np.linalg.inv(forward), grid, 1)
    places = sent[:2] / sent[2]
    channels = [
        scipy.ndimage.map_coordinates(
            image[..., k].astype(np.float64), places, order=order, mode=BORDERS[border], cval=fill
        )
        for k in range(image.shape[-1])
    ]
    return np.stack(channels, -1)


def moved(drawn, forward, images, **options):
    return np.stack(
        [
            by_scipy(
                image,
                forward(**{name: float(own[place]) for name, own in drawn.items()}),
                **options,
            )
            for place, image in enumerate(images)
        ]
    )


@pytest.mark.parametrize("name", MOVES)
def test_a_move_shows_what_scipy_finds_at_its_places(name):
    maker, spans, forward = MOVES[name]
    policy = maker(**spans, fill=0.4)
    drawn = draws(policy, 16)
    expected = moved(drawn, forward, FLOATS, fill=0.4)
    np.testing.assert_allclose(seen_as(policy, drawn, FLOATS), expected, atol=1e-4)
    levels = seen_as(policy, drawn, IMAGES)
    assert levels.dtype == np.uint8
    assert np.abs(levels - 255 * expected).max() < 0.5 + 0.02


@pytest.mark.parametrize(
    ("order", "border"), [*((1, border) for border in BORDERS), (0, "constant"), (0, "reflect")]
)
def test_what_lies_outside_is_as_the_border_tells(order, border):
    policy = augment.rotate(
        (-180.0, 180.0), mode=border, method=("nearest", "bilinear")[order], fill=0.4
    )
    drawn = draws(policy, 16)
    expected = moved(drawn, MOVES["rotate"][2], FLOATS, border=border, fill=0.4, order=order)
    np.testing.assert_allclose(seen_as(policy, drawn, FLOATS), expected, atol=1e-4)


def test_a_rotation_turns_as_pillows_does():
    degrees = np.linspace(-170, 170, 16)
    images = (smooth(16, (30, 36, 3)) * 255).astype(np.uint8)
    shown = seen_at(augment.rotate, images, degrees)
    for image, own, found in zip(images, degrees, shown, strict=True):
        expected = np.asarray(
            Pillow.fromarray(image).rotate(float(own), Pillow.Resampling.BILINEAR)
        )
        # At its edge Pillow shows the last pixel as it is, where fnn mixes it with what lies outside.
        inner = by_scipy(np.ones((30, 36, 1)), centered(turned(own), (30, 36)))[..., 0] > 1 - 1e-6
        assert inner.sum() > 300
        assert np.abs(found.astype(int) - expected)[inner].max() <= 1


@pytest.mark.parametrize("order", ["nearest", "bilinear"])
def test_a_rotation_by_right_angles_is_exact(order):
    images = pictures(8, (9, 9, 3))
    shown = seen_at(
        lambda degrees: augment.rotate(degrees, method=order), images, 90 * np.arange(-3.0, 5.0)
    )
    expected = np.stack(
        [np.rot90(image, turns) for turns, image in zip(range(-3, 5), images, strict=True)]
    )
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("name", MOVES)
def test_what_is_drawn_is_uniform_between_the_two(name):
    maker, spans, _ = MOVES[name]
    drawn = draws(maker(**spans), 4000)
    for own, numbers in drawn.items():
        low, high = spans.get(own, (0.0, spans.get("distortion")))
        assert scipy.stats.kstest(numbers, "uniform", (low, high - low)).pvalue > 1e-4
        assert low <= numbers.min() and numbers.max() <= high
    each = np.stack(list(drawn.values()))
    alike = np.corrcoef(each)[np.triu_indices(len(each), 1)] if len(each) > 1 else np.zeros(1)
    assert np.abs(alike).max() < 0.07  # 4.4 standard deviations of independent draws


def test_one_number_is_taken_as_it_is():
    drawn = draws(augment.affine(degrees=-20.0, factor=1.3), 5)
    assert {name: set(own.tolist()) for name, own in drawn.items()} == {
        "degrees": {-20.0}, "factor": {np.float32(1.3).item()}, "rows": {0.0}, "columns": {0.0}, "shear_rows": {0.0},
        "shear_columns": {0.0},
    }  # fmt: skip


SLOPED = {
    "rotate": (augment.rotate, 17.0),
    "scale": (augment.scale, 1.1),
    "translate": (augment.translate, 0.13),
    "shear": (augment.shear, 12.0),
}


def test_moved_floats_have_the_slopes_of_differences():
    image, weights = (
        jnp.asarray(smooth(1)[0]),
        jnp.asarray(np.random.default_rng(0).normal(size=SHAPE), jnp.float32),
    )

    @jax.jit
    def found(steps):
        rows = []
        for maker, at in SLOPED.values():

            def level(magnitude, maker=maker):
                return (maker(magnitude, mode="reflect")(jax.random.key(0), image) * weights).sum()

            step = at * steps
            rows.append(
                jnp.stack(
                    [
                        jax.grad(level)(jnp.float32(at)),
                        (level(at + step) - level(at - step)) / 2 / step,
                    ]
                )
            )
        return jnp.stack(rows)

    slopes, differences = np.asarray(found(jnp.float32(1e-3))).T
    np.testing.assert_allclose(slopes, differences, rtol=0.02)
