"""Augmentation that would leave validation or the targets behind is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, nn, optim, train
from fnn.errors import ConfigError
from fnn.train.augmentation import trace_augmentation
from fnn.types import Layer

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
LABELS = np.arange(4, dtype=np.int32) % 2
MASKS = (IMAGES[..., 0] > 99).astype(np.int32)
normalize = augment.normalize([0.5], [0.2])


def check(policy, targets=LABELS, **options):
    recipe = train.recipe(nn.chain(nn.conv(2)), optim.sgd(0.1), augment=policy, **options)
    return trace_augmentation(recipe, IMAGES, targets)


@pytest.mark.parametrize(
    "policy",
    [
        normalize,
        augment.chain(augment.flip_lr(), normalize),
        augment.batch_chain(augment.chain(augment.flip_lr(), normalize)),
    ],
)
def test_normalize_belongs_to_prepare(policy):
    with pytest.raises(ConfigError, match=r"augment.normalize; give prepare=data.normalize"):
        check(policy)


@pytest.mark.parametrize(
    "policy",
    [
        augment.equalize(),
        augment.chain(augment.flip_lr(), augment.invert()),
        augment.batched(augment.chain(augment.random_crop(padding=1), augment.autocontrast())),
    ],
)
def test_a_change_of_all_levels_belongs_to_prepare(policy):
    with pytest.raises(ConfigError, match=r"random changes.*, got [\w.]+\(\); .* prepare="):
        check(policy)
    check(augment.maybe(augment.invert(), probability=0.5))
    check(augment.chain(augment.one_of(augment.invert(), augment.equalize())))


@pytest.mark.parametrize(
    "policy",
    [augment.crop(6), augment.resize(12), augment.chain(augment.flip_lr(), augment.resize(12))],
)
def test_a_resize_of_all_images_belongs_to_prepare(policy):
    with pytest.raises(ConfigError, match=r"expected images of the size of validation, \(8, 8\)"):
        check(policy)


def test_random_crops_and_a_size_that_prepare_restores_are_accepted():
    check(augment.random_resized_crop(6))
    check(augment.chain(augment.pad(1), augment.crop(8)))
    check(augment.crop(6), prepare=lambda x: data.to_float(x)[:, :6, :6])


@pytest.mark.parametrize("targets", [MASKS, MASKS[..., None], {"mask": MASKS, "label": LABELS}])
@pytest.mark.parametrize(
    "policy",
    [
        augment.flip_lr(),
        augment.one_of(augment.invert(), augment.rotate(10.0)),
        augment.batch_chain(augment.random_crop(padding=1)),
    ],
)
def test_masks_as_targets_need_together(policy, targets):
    with pytest.raises(ConfigError, match=r"recipe augment: .* moves the targets int32\[4, 8, 8"):
        check(policy, targets)


def test_colors_and_functions_of_the_user_may_have_masks_as_targets():
    check(augment.brightness((0.9, 1.1)), MASKS)
    check(lambda key, image: image, MASKS)


def test_a_run_refuses_moving_masks():
    recipe = train.recipe(nn.chain(nn.conv(2)), optim.sgd(0.1), augment=augment.flip_lr())
    with pytest.raises(ConfigError, match=r"use augment\.together"):
        train.run(jax.random.key(0), recipe, (IMAGES, MASKS), epochs=1, batch_size=2)


def sum_of_both(params, state, x, *, key=None, train=False):
    images, rest = x["image"], x["rest"]
    return jnp.stack([images.mean((1, 2, 3)), rest.mean(1)], 1), state


both = nn.chain(Layer(lambda key, shape: ({}, {}, (2,)), sum_of_both, "both"), nn.dense(2))


def two_inputs(images):
    return {"image": images, "rest": np.ones((4, 3), np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["step", "run"])
def test_an_entry_of_several_inputs_is_augmented_in_a_run(entry, key):
    """All images become their negatives, so that a run equals one on negatives."""
    losses = []
    for policy, images in (
        (augment.entry("image", augment.maybe(augment.invert(), 1.0)), IMAGES),
        (None, 255 - IMAGES),
    ):
        recipe = train.recipe(both, optim.sgd(0.1), augment=policy)
        data_of = two_inputs(images), LABELS
        if entry == "run":
            losses.append(train.run(key, recipe, data_of, epochs=2, batch_size=2).history.loss)
        else:
            shapes = {"image": (8, 8, 1), "rest": (3,)}
            _, figures = train.step(recipe, train.start(key, recipe, shapes), data_of)
            losses.append(figures["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_an_entry_is_checked_as_a_single_input_is(key):
    run = partial(train.run, key, epochs=1, batch_size=2)
    wrong = [
        (augment.flip_lr(), IMAGES, LABELS, r"augment\.entry\(name, policy\)"),
        (augment.entry("image", normalize), IMAGES, LABELS, "prepare=data.normalize"),
        (augment.entry("image", augment.flip_lr()), IMAGES, MASKS, "use augment.together"),
        (augment.entry("photo", augment.flip_lr()), IMAGES, LABELS, "entry 'photo', got image"),
        (augment.entry("image", augment.flip_lr()), np.float32(IMAGES), LABELS, "got max 25"),
    ]
    for policy, images, targets, message in wrong:
        recipe = train.recipe(both, optim.sgd(0.1), augment=policy, loss=loss_of_sum)
        with pytest.raises(ConfigError, match=message):
            run(recipe, (two_inputs(images), targets))


def loss_of_sum(outputs, targets):
    return outputs.sum(-1)
