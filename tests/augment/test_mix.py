"""Mixed images and targets, rebuilt from what the targets tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fnn import augment
from fnn.errors import ConfigError, ShapeError

BATCH = 400
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, 7, 6, 3), np.uint8)
LABELS = np.arange(
    BATCH, dtype=np.int32
)  # so that a row of probabilities tells who was mixed and by how much


def seen(policy, images=IMAGES, labels=LABELS):
    mixed, targets = jax.jit(lambda key: policy(key, jnp.asarray(images), jnp.asarray(labels)))(
        jax.random.key(1)
    )
    return np.asarray(mixed), np.asarray(targets)


def shares(targets):
    """How much of each image is its own, with the rest from the image before it."""
    own = targets[LABELS, LABELS]
    np.testing.assert_allclose(targets[LABELS, LABELS - 1], 1 - own, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    return own


def test_mixup_mixes_images_and_targets_by_the_same_share_of_a_beta_distribution():
    mixed, targets = seen(augment.mixup(0.4, classes=BATCH))
    own = shares(targets)
    part = own[:, None, None, None]
    expected = part * IMAGES + (1 - part) * np.roll(IMAGES, 1, 0)
    np.testing.assert_allclose(mixed, expected, atol=0.501)
    assert scipy.stats.kstest(own, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_floats_are_mixed_without_rounding():
    images, targets = (IMAGES / 255).astype(np.float32), np.linspace(0, 1, BATCH, dtype=np.float32)
    mixed, blend = seen(augment.mixup(1.0), images, targets)
    own = (blend - np.roll(targets, 1)) / (targets - np.roll(targets, 1))
    part = own[:, None, None, None]
    np.testing.assert_allclose(mixed, part * images + (1 - part) * np.roll(images, 1, 0), atol=2e-4)


def test_cutmix_shows_a_box_of_another_image_and_its_targets_by_the_exact_area():
    mixed, targets = seen(augment.cutmix(1.0, classes=BATCH))
    own = shares(targets)
    differs = (np.roll(IMAGES, 1, 0) != IMAGES).any(-1)
    from_other = (mixed == np.roll(IMAGES, 1, 0)).all(-1)
    from_own = (mixed == IMAGES).all(-1)
    assert (from_other | from_own).all()
    np.testing.assert_allclose((from_own | ~differs).mean((1, 2)), own, atol=1e-6)
    for box in (from_other & ~from_own)[own < 1]:
        rows, columns = (np.nonzero(box.any(axis))[0] for axis in (1, 0))
        assert box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_the_box_of_cutmix_has_the_drawn_size_where_no_edge_cuts_it():
    images = np.stack([np.zeros((40, 40, 1)), np.ones((40, 40, 1))]).astype(np.float32)
    labels = jnp.array([0, 1], jnp.int32)
    keys = jax.random.split(jax.random.key(0), 300)
    policy = augment.cutmix(1.0, classes=2)
    boxes = np.asarray(
        jax.jit(jax.vmap(lambda key: policy(key, jnp.asarray(images), labels)[0]))(keys)
    )[:, 0, ..., 0]
    sides = [boxes.any(axis).sum(1) for axis in (2, 1)]
    edges = (
        boxes[:, 0].any(1) | boxes[:, -1].any(1) | boxes[:, :, 0].any(1) | boxes[:, :, -1].any(1)
    )
    np.testing.assert_array_equal(sides[0][~edges], sides[1][~edges])
    # 1 - λ is uniform, so a side is that of the root of a uniform number, cut to an even number of pixels.
    whole = sides[0][~edges]
    assert (whole % 2 == 0).all() and len(np.unique(whole)) > 8


@pytest.mark.parametrize("maker", [augment.mixup, augment.cutmix])
def test_a_batch_may_share_one_draw_and_a_chance_leaves_images_as_they_are(maker):
    _, targets = seen(maker(1.0, classes=BATCH, per="batch"))
    assert np.ptp(shares(targets)) < (1e-6 if maker is augment.mixup else 1)
    mixed, targets = seen(maker(1.0, classes=BATCH, probability=0.0))
    np.testing.assert_array_equal(mixed, IMAGES)
    np.testing.assert_array_equal(targets, np.eye(BATCH, dtype=np.float32))
    _, targets = seen(maker(1.0, classes=BATCH, probability=0.3))
    happened = int((shares(targets) < 1).sum())
    assert scipy.stats.binomtest(happened, BATCH, 0.3).pvalue > 1e-4 or maker is augment.cutmix


def test_an_images_share_follows_from_its_number_not_its_place():
    policy = augment.mixup(1.0, classes=BATCH)
    _, whole = policy(
        jax.random.key(2), jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.arange(BATCH)
    )
    few = np.array([9, 3, 200])
    _, part = policy(
        jax.random.key(2), jnp.asarray(IMAGES[few]), jnp.asarray(LABELS[few]), jnp.asarray(few)
    )
    np.testing.assert_allclose(part[np.arange(3), few], np.asarray(whole)[few, few], rtol=1e-6)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: augment.mixup(0.0), ConfigError, "mixup alpha: expected a number in"),
        (
            lambda: augment.cutmix(per="pixel"),
            ConfigError,
            "cutmix per: expected one of image, batch",
        ),
        (lambda: augment.mixup(classes=1), ConfigError, "mixup classes: expected >= 2"),
        (lambda: seen(augment.mixup()), ConfigError, r"mixup classes: expected how many there are"),
        (
            lambda: augment.mixup()(jax.random.key(0), jnp.zeros((4, 4, 3))),
            ShapeError,
            "mixup: expected a batch of images",
        ),
    ],
)
def test_mistakes_are_told(act, error, message):
    with pytest.raises(error, match=message):
        act()
