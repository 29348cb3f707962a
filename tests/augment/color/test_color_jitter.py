"""Color jitter in every order, against the changes done one after another in float64, and what is drawn for it."""

import colorsys
import itertools

import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as

from fnn import augment

NAMES = ("brightness", "contrast", "saturation", "hue")
ORDERS = list(itertools.permutations(NAMES))
GRAY = np.array([0.299, 0.587, 0.114])


def by_hue(x, turns):
    def pixel(color):
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)

    return np.apply_along_axis(pixel, -1, x)


CHANGES = {
    "brightness": lambda x, factor: factor * x,
    "contrast": lambda x, factor: factor * x + (1 - factor) * (x @ GRAY).mean(),
    "saturation": lambda x, factor: factor * x + (1 - factor) * (x @ GRAY)[..., None],
    "hue": lambda x, turns: by_hue(np.clip(x, 0, 1), turns),
}


def one_by_one(image, order, values):
    """torchvision's formulas in this order; levels are clipped before the hue and at the end."""
    x = image.astype(np.float64)
    for name in order:
        x = CHANGES[name](x, values[name])
    return np.clip(x, 0, 1)


def drawn_for(orders, strength, seed):
    draw, count = np.random.default_rng(seed), len(orders)
    drawn = {
        name: draw.uniform(1 - strength, 1 + strength, count).astype(np.float32)
        for name in NAMES[:3]
    }
    drawn["hue"] = draw.uniform(-strength / 2, strength / 2, count).astype(np.float32)
    return drawn | {
        "place": np.array([[order.index(name) for name in NAMES] for order in orders], np.int32)
    }


def expected_of(images, orders, drawn, names=NAMES):
    return np.stack(
        [
            one_by_one(
                image,
                [name for name in order if name in names],
                {name: drawn[name][k] for name in names},
            )
            for k, (image, order) in enumerate(zip(images, orders, strict=True))
        ]
    )


# Levels that no change leaves to be clipped, and any.
MIDDLE = 0.4 + 0.2 * as_floats(pictures(24, (7, 6, 3)))
WHOLE = as_floats(pictures(24, (7, 6, 3)))
JITTER = augment.jitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)


@pytest.mark.parametrize(
    ("images", "strength"), [(MIDDLE, 0.2), (WHOLE, 0.8)], ids=["middle", "clipped"]
)
def test_every_order_is_the_changes_one_by_one(images, strength):
    drawn = drawn_for(ORDERS, strength, seed=1)
    expected = expected_of(images, ORDERS, drawn)
    if strength == 0.2:
        assert (
            expected.min() > 0.01 and expected.max() < 0.99
        )  # nothing is clipped, so it is torchvision's as well
    np.testing.assert_allclose(seen_as(JITTER, drawn, images), expected, atol=1e-4)


def test_every_order_without_hue_is_the_three_changes_one_by_one():
    policy, drawn = (
        augment.jitter(brightness=0.8, contrast=0.8, saturation=0.8),
        drawn_for(ORDERS, 0.8, seed=2),
    )
    expected = expected_of(WHOLE, ORDERS, drawn, NAMES[:3])
    np.testing.assert_allclose(seen_as(policy, drawn, WHOLE), expected, atol=1e-5)
    levels = seen_as(policy, drawn, np.round(WHOLE * 255).astype(np.uint8))
    assert np.abs(levels - 255 * expected).max() < 0.5 + 1e-2


def test_the_order_matters():
    drawn = drawn_for(ORDERS, 0.8, seed=3)
    same = {
        name: np.broadcast_to(own[:1], own.shape) for name, own in drawn.items() if name != "place"
    }
    shown = seen_as(
        JITTER, same | {"place": drawn["place"]}, np.broadcast_to(WHOLE[:1], WHOLE.shape)
    )
    assert np.ptp(shown, axis=0).max() > 0.1


def test_bytes_are_the_floats_within_a_level():
    drawn = drawn_for(ORDERS, 0.2, seed=4)
    levels = np.round(MIDDLE * 255).astype(np.uint8)
    expected = expected_of(as_floats(levels), ORDERS, drawn)
    shown = seen_as(JITTER, drawn, levels)
    assert shown.dtype == np.uint8
    assert np.abs(shown - np.round(255 * expected)).max() <= 1


def test_a_gray_image_is_changed_as_three_equal_channels():
    drawn = drawn_for(ORDERS, 0.2, seed=5)
    gray = MIDDLE[..., :1]
    of_three = seen_as(JITTER, drawn, np.repeat(gray, 3, -1))
    np.testing.assert_allclose(seen_as(JITTER, drawn, gray), of_three[..., :1], atol=1e-6)
    np.testing.assert_allclose(np.ptp(of_three, -1), 0, atol=1e-6)


def test_no_strength_is_the_identity():
    levels = pictures(24)
    np.testing.assert_array_equal(seen(augment.jitter(hue=0.0), levels), levels)
    np.testing.assert_array_equal(seen(augment.jitter(), levels), levels)


def test_each_of_24_orders_is_as_likely():
    places = draws(JITTER, 4800)["place"]
    assert (np.sort(places, 1) == np.arange(4)[None]).all()
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_factors_are_uniform_about_one_and_never_negative():
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.7, "hue": 0.2}
    drawn = draws(augment.jitter(**strengths), 4000)
    for name, strength in strengths.items():
        low, high = (-strength, strength) if name == "hue" else (max(0, 1 - strength), 1 + strength)
        assert scipy.stats.kstest(drawn[name], "uniform", (low, high - low)).pvalue > 1e-4
    each = np.stack([drawn[name] for name in NAMES] + [drawn["place"][:, 0]])
    assert np.abs(np.corrcoef(each)[np.triu_indices(5, 1)]).max() < 0.07  # 4.4 standard deviations
