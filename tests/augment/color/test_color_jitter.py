"""Color jitter in every order equals the single changes in float64; its draws are uniform."""

import colorsys
import itertools

import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, draws, pictures

from fnn import augment

NAMES = ("brightness", "contrast", "saturation", "hue")
ORDERS = list(itertools.permutations(NAMES))
GRAY = np.array([0.299, 0.587, 0.114])


def rotate_hue(x, turns):
    def pixel(color):
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)

    return np.apply_along_axis(pixel, -1, x)


CHANGES = {
    "brightness": lambda x, factor: factor * x,
    "contrast": lambda x, factor: factor * x + (1 - factor) * (x @ GRAY).mean(),
    "saturation": lambda x, factor: factor * x + (1 - factor) * (x @ GRAY)[..., None],
    "hue": lambda x, turns: rotate_hue(np.clip(x, 0, 1), turns),
}


def apply_in_order(image, order, values):
    """The formulas of torchvision in this order, clipped before the hue and at the end."""
    x = image.astype(np.float64)
    for name in order:
        x = CHANGES[name](x, values[name])
    return np.clip(x, 0, 1)


def draws_for(orders, strength, seed):
    """A draw of the policy for each order, with random factors."""
    draw = np.random.default_rng(seed)
    count = len(orders)
    drawn = {}
    for name in NAMES[:3]:
        drawn[name] = draw.uniform(1 - strength, 1 + strength, count).astype(np.float32)
    drawn["hue"] = draw.uniform(-strength / 2, strength / 2, count).astype(np.float32)
    # (orders, changes): the position of each change.
    positions = [[order.index(name) for name in NAMES] for order in orders]
    drawn["place"] = np.array(positions, np.int32)
    return drawn


def expected_of(images, orders, drawn, names=NAMES):
    results = []
    for k, (image, order) in enumerate(zip(images, orders, strict=True)):
        applied = [name for name in order if name in names]
        values = {name: drawn[name][k] for name in names}
        results.append(apply_in_order(image, applied, values))
    return np.stack(results)


# Levels of which no change needs clipping, and all levels.
MIDDLE = 0.4 + 0.2 * as_floats(pictures(24, (7, 6, 3)))
WHOLE = as_floats(pictures(24, (7, 6, 3)))
JITTER = augment.jitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)


@pytest.mark.parametrize(
    ("images", "strength"), [(MIDDLE, 0.2), (WHOLE, 0.8)], ids=["middle", "clipped"]
)
def test_every_order_equals_the_single_changes(images, strength):
    drawn = draws_for(ORDERS, strength, seed=1)
    expected = expected_of(images, ORDERS, drawn)
    if strength == 0.2:
        # Nothing is clipped, so the result is that of torchvision, which clips after each change.
        assert expected.min() > 0.01 and expected.max() < 0.99
    np.testing.assert_allclose(apply_draws(JITTER, drawn, images), expected, atol=1e-4)


def test_every_order_without_hue_equals_the_single_changes():
    policy = augment.jitter(brightness=0.8, contrast=0.8, saturation=0.8)
    drawn = draws_for(ORDERS, 0.8, seed=2)
    expected = expected_of(WHOLE, ORDERS, drawn, NAMES[:3])
    np.testing.assert_allclose(apply_draws(policy, drawn, WHOLE), expected, atol=1e-5)
    levels = apply_draws(policy, drawn, np.round(WHOLE * 255).astype(np.uint8))
    assert np.abs(levels - 255 * expected).max() < 0.5 + 1e-2


def test_the_order_matters():
    drawn = draws_for(ORDERS, 0.8, seed=3)
    # The same image and factors for all orders.
    for name in NAMES:
        drawn[name] = np.broadcast_to(drawn[name][:1], drawn[name].shape)
    results = apply_draws(JITTER, drawn, np.broadcast_to(WHOLE[:1], WHOLE.shape))
    assert np.ptp(results, axis=0).max() > 0.1


def test_bytes_equal_floats_to_one_level():
    drawn = draws_for(ORDERS, 0.2, seed=4)
    levels = np.round(MIDDLE * 255).astype(np.uint8)
    expected = expected_of(as_floats(levels), ORDERS, drawn)
    results = apply_draws(JITTER, drawn, levels)
    assert results.dtype == np.uint8
    assert np.abs(results - np.round(255 * expected)).max() <= 1


def test_a_gray_image_is_changed_as_three_equal_channels():
    drawn = draws_for(ORDERS, 0.2, seed=5)
    gray = MIDDLE[..., :1]
    rgb = apply_draws(JITTER, drawn, np.repeat(gray, 3, -1))
    np.testing.assert_allclose(apply_draws(JITTER, drawn, gray), rgb[..., :1], atol=1e-6)
    np.testing.assert_allclose(np.ptp(rgb, -1), 0, atol=1e-6)


def test_strength_zero_is_the_identity():
    levels = pictures(24)
    np.testing.assert_array_equal(augmented(augment.jitter(hue=0.0), levels), levels)
    np.testing.assert_array_equal(augmented(augment.jitter(), levels), levels)


def test_all_24_orders_are_equally_likely():
    positions = draws(JITTER, 4800)["place"]
    assert (np.sort(positions, 1) == np.arange(4)[None]).all()
    _, counts = np.unique(positions, axis=0, return_counts=True)
    assert len(counts) == 24
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_factors_are_uniform_around_one_not_negative_and_independent():
    strengths = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.7, "hue": 0.2}
    drawn = draws(augment.jitter(**strengths), 4000)
    for name, strength in strengths.items():
        low, high = max(0, 1 - strength), 1 + strength
        if name == "hue":
            low, high = -strength, strength
        assert scipy.stats.kstest(drawn[name], "uniform", (low, high - low)).pvalue > 1e-4
    each = np.stack([drawn[name] for name in NAMES] + [drawn["place"][:, 0]])
    assert np.abs(np.corrcoef(each)[np.triu_indices(5, 1)]).max() < 0.07  # 4.4 standard deviations
