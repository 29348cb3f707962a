"""Mixup and CutMix: the images are reconstructed from the shares in the mixed targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fnn import augment
from fnn.errors import ConfigError, ShapeError

pytestmark = pytest.mark.slow

BATCH = 400
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, 7, 6, 3), np.uint8)
# One class per image, so that mixed targets give the partner and the share of each image.
LABELS = np.arange(BATCH, dtype=np.int32)


def mix(policy, images=IMAGES, labels=LABELS):
    batch = augment.Batch(jnp.asarray(images), jnp.asarray(labels))
    mixed = jax.jit(policy)(jax.random.key(1), batch)
    return np.asarray(mixed.images), np.asarray(mixed.targets)


def shares(targets):
    """The share of each image in its mixture; the rest is of the previous image."""
    share = targets[LABELS, LABELS]
    np.testing.assert_allclose(targets[LABELS, LABELS - 1], 1 - share, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    return share


def test_mixup_mixes_images_and_targets_by_the_same_share_of_a_beta_distribution():
    mixed, targets = mix(augment.mixup(0.4, classes=BATCH))
    share = shares(targets)
    part = share[:, None, None, None]
    expected = part * IMAGES + (1 - part) * np.roll(IMAGES, 1, 0)
    np.testing.assert_allclose(mixed, expected, atol=0.501)
    assert scipy.stats.kstest(share, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_floats_are_mixed_without_rounding():
    images = (IMAGES / 255).astype(np.float32)
    targets = np.linspace(0, 1, BATCH, dtype=np.float32)
    mixed, blend = mix(augment.mixup(1.0), images, targets)
    share = (blend - np.roll(targets, 1)) / (targets - np.roll(targets, 1))
    part = share[:, None, None, None]
    expected = part * images + (1 - part) * np.roll(images, 1, 0)
    np.testing.assert_allclose(mixed, expected, atol=2e-4)


def test_cutmix_replaces_a_box_and_mixes_targets_by_the_exact_area():
    mixed, targets = mix(augment.cutmix(1.0, classes=BATCH))
    share = shares(targets)
    differs = (np.roll(IMAGES, 1, 0) != IMAGES).any(-1)
    from_other = (mixed == np.roll(IMAGES, 1, 0)).all(-1)
    from_own = (mixed == IMAGES).all(-1)
    assert (from_other | from_own).all()
    np.testing.assert_allclose((from_own | ~differs).mean((1, 2)), share, atol=1e-6)
    for box in (from_other & ~from_own)[share < 1]:
        rows, columns = (np.nonzero(box.any(axis))[0] for axis in (1, 0))
        assert box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_the_box_of_cutmix_has_the_drawn_size_inside_of_the_image():
    images = np.stack([np.zeros((40, 40, 1)), np.ones((40, 40, 1))]).astype(np.float32)
    labels = jnp.array([0, 1], jnp.int32)
    keys = jax.random.split(jax.random.key(0), 300)
    policy = augment.cutmix(1.0, classes=2)
    batch = augment.Batch(jnp.asarray(images), labels)
    mixed = jax.jit(jax.vmap(lambda key: policy(key, batch).images))(keys)
    boxes = np.asarray(mixed)[:, 0, ..., 0]
    heights, widths = boxes.any(2).sum(1), boxes.any(1).sum(1)
    on_rows = boxes[:, 0].any(1) | boxes[:, -1].any(1)
    on_columns = boxes[:, :, 0].any(1) | boxes[:, :, -1].any(1)
    inside = ~(on_rows | on_columns)
    np.testing.assert_array_equal(heights[inside], widths[inside])
    # The area 1 - λ is uniform. A side is its root, rounded down to an even number of pixels.
    assert (heights[inside] % 2 == 0).all()
    assert len(np.unique(heights[inside])) > 8


@pytest.mark.parametrize("maker", [augment.mixup, augment.cutmix])
def test_one_draw_per_batch_and_the_probability_of_mixing(maker):
    _, targets = mix(maker(1.0, classes=BATCH, per="batch"))
    assert np.ptp(shares(targets)) < (1e-6 if maker is augment.mixup else 1)
    mixed, targets = mix(maker(1.0, classes=BATCH, probability=0.0))
    np.testing.assert_array_equal(mixed, IMAGES)
    np.testing.assert_array_equal(targets, np.eye(BATCH, dtype=np.float32))
    _, targets = mix(maker(1.0, classes=BATCH, probability=0.3))
    mixed = int((shares(targets) < 1).sum())
    # A box of CutMix may be empty.
    assert scipy.stats.binomtest(mixed, BATCH, 0.3).pvalue > 1e-4 or maker is augment.cutmix


def test_the_share_of_an_image_depends_on_its_index_not_its_position():
    policy = augment.mixup(1.0, classes=BATCH)
    key = jax.random.key(2)
    images, labels, examples = jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.arange(BATCH)
    full = policy(key, augment.Batch(images, labels, examples)).targets
    few = np.array([9, 3, 200])
    part = policy(key, augment.Batch(images[few], labels[few], examples[few])).targets
    np.testing.assert_allclose(part[np.arange(3), few], np.asarray(full)[few, few], rtol=1e-6)


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
        (
            lambda: mix(augment.mixup()),
            ConfigError,
            "mixup classes: expected the number of classes",
        ),
        (
            lambda: augment.mixup()(jax.random.key(0), augment.Batch(jnp.zeros((4, 4, 3)))),
            ShapeError,
            "mixup: expected a batch of images",
        ),
    ],
)
def test_invalid_options_and_batches_raise(act, error, message):
    with pytest.raises(error, match=message):
        act()
