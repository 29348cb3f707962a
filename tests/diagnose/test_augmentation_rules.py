"""Augmentation next to the stored examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, nn, optim, train
from fnn.diagnose.augmentation_rules import augmentation_findings

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
LABELS = np.zeros(30, np.int32)


def noise(scale):
    def add(key, image):
        return image.astype(jnp.float32) + scale * jax.random.normal(key, image.shape)

    return add


def blank(key, image):
    return jnp.full_like(image, 100)


def to_nan(key, image):
    return image.astype(jnp.float32) * jnp.nan


def found(policy):
    network = nn.chain(nn.flatten(), nn.dense(3))
    recipe = train.recipe(network, optim.sgd(0.1), augment=policy)
    train_state = train.start(jax.random.key(0), recipe, (8, 8, 1))
    findings = augmentation_findings(recipe, train_state, IMAGES, LABELS, (0.0, 255.0))
    return [(one.name, one.severity) for one in findings]


@pytest.mark.parametrize(
    "policy",
    [
        augment.chain(augment.random_crop(padding=1, mode="constant"), augment.flip_lr()),
        augment.views(augment.jitter(brightness=0.4, contrast=0.4)),
        augment.mixup(0.2, classes=3),
        noise(5.0),
    ],
)
def test_common_policies_have_no_finding(policy):
    assert found(policy) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (noise(300.0), ("augmentation_range", "warning")),
        (blank, ("augmentation_range", "warning")),
        (to_nan, ("nonfinite_data", "error")),
    ],
)
def test_policies_that_break_the_images_are_found(policy, expected):
    assert found(policy) == [expected]
