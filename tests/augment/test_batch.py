"""Policies of batches: the result of an image depends on its index, not on batches or devices."""

import re
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from pictures import pictures

from fnn import augment, data, lab, nn, optim, train
from fnn.augment.batch import example_keys
from fnn.errors import ConfigError, DTypeError
from fnn.train.epoch import order_examples

pytestmark = pytest.mark.slow

SHAPE = (10, 8, 3)
IMAGES = pictures(12, SHAPE)
POLICY = augment.chain(
    augment.brightness((0.3, 1.5)),
    augment.one_of(augment.invert(), augment.solarize((0.2, 0.8))),
    augment.cutout(3),
)
MAPPED = jax.jit(augment.per_image(POLICY))


@cache
def full_batch():
    return np.asarray(MAPPED(jax.random.key(0), IMAGES))


def test_each_image_has_the_key_of_its_index():
    @jax.jit
    def single(example, image):
        return POLICY(jax.random.fold_in(jax.random.key(0), example), image)

    expected = [single(jnp.int32(k), image) for k, image in enumerate(IMAGES)]
    np.testing.assert_array_equal(full_batch(), expected)


def test_results_do_not_depend_on_position_or_batch_size():
    order = np.array([7, 2, 11])
    part = MAPPED(jax.random.key(0), IMAGES[order], jnp.asarray(order))
    np.testing.assert_array_equal(part, full_batch()[order])
    assert (full_batch() != IMAGES).any((1, 2, 3)).sum() > 6


def test_mapped_and_scanned_batches_equal_one_batch():
    batches, examples = IMAGES.reshape(3, 4, *SHAPE), jnp.arange(12).reshape(3, 4)
    policy = augment.per_image(POLICY)
    mapped = jax.jit(jax.vmap(policy, (None, 0, 0)))(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(mapped.reshape(IMAGES.shape), full_batch())

    def epoch(key, batches, examples):
        def step(carry, batch):
            return carry, policy(key, *batch)

        _, augmented = jax.lax.scan(step, 0, (batches, examples))
        return augmented

    scanned = jax.jit(epoch)(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(scanned.reshape(IMAGES.shape), full_batch())


def test_a_batch_sharded_over_devices_equals_the_batch():
    assert jax.device_count() == 4
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split, same = PartitionSpec("batch"), PartitionSpec()
    images = jax.device_put(IMAGES, NamedSharding(mesh, split))
    examples = jax.device_put(np.arange(12), NamedSharding(mesh, split))
    policy = augment.per_image(POLICY)
    sharded = jax.shard_map(policy, mesh=mesh, in_specs=(same, split, split), out_specs=split)
    mapped = jax.jit(sharded)(jax.random.key(0), images, examples)
    np.testing.assert_array_equal(mapped, full_batch())
    partitioned = MAPPED(jax.random.key(0), images, examples)
    np.testing.assert_array_equal(partitioned, full_batch())


def test_per_image_accepts_a_plain_function():
    shift = partial(jnp.roll, shift=1, axis=0)
    found = augment.per_image(lambda key, image: shift(image))(jax.random.key(0), IMAGES)
    np.testing.assert_array_equal(found, np.roll(IMAGES, 1, 1))


def test_keys_of_examples_are_folded_in_and_differ():
    key = jax.random.key(5)
    keys = jax.random.key_data(example_keys(key, 3, None))
    expected = [jax.random.key_data(jax.random.fold_in(key, k)) for k in range(3)]
    np.testing.assert_array_equal(keys, expected)
    assert len(np.unique(keys, axis=0)) == 3


def test_a_number_as_key_raises():
    message = "augmentation key: expected a key from jax.random.key(...), got int 0"
    with pytest.raises(DTypeError, match=re.escape(message)):
        augment.per_image(POLICY)(0, IMAGES)


def test_arrays_instead_of_a_batch_raise():
    message = "augmentation batch: expected a Batch, got ndarray; give augment.Batch("
    with pytest.raises(DTypeError, match=re.escape(message)):
        augment.batched(POLICY)(jax.random.key(0), IMAGES)
    pair = augment.BatchPolicy(lambda key, batch: (batch.images, batch.targets))
    message = "BatchPolicy result: expected a Batch, got tuple"
    with pytest.raises(DTypeError, match=re.escape(message)):
        pair(jax.random.key(0), augment.Batch(IMAGES))


COUNT = 400
ALTERNATING_IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 6, 3), np.uint8)
ALTERNATING_POLICY = augment.alternate(augment.flip_lr(1.0))
KEY = jax.random.key(1)


MIRRORED_IMAGES = ALTERNATING_IMAGES[:, :, ::-1]


@jax.jit
def alternate(images, examples, epoch):
    batch = augment.Batch(images, examples=examples, epoch=epoch)
    return ALTERNATING_POLICY(KEY, batch).images


def flipped(epoch):
    """The mask (COUNT,) of the images that are flipped in an epoch; the others are unchanged."""
    images = np.asarray(alternate(ALTERNATING_IMAGES, jnp.arange(COUNT), jnp.int32(epoch)))
    mirrored = (images == MIRRORED_IMAGES).all((1, 2, 3))
    unchanged = (images == ALTERNATING_IMAGES).all((1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~unchanged)
    return mirrored


def test_every_image_is_augmented_in_one_of_two_epochs_half_of_them_in_each():
    first = flipped(0)
    np.testing.assert_array_equal(flipped(1), ~first)
    np.testing.assert_array_equal(flipped(2), first)
    np.testing.assert_array_equal(flipped(101), ~first)
    assert scipy.stats.binomtest(int(first.sum()), COUNT).pvalue > 1e-3
    # The half is a random bit, not the parity of the index, nor the first half of the examples.
    changes = int((first[1:] != first[:-1]).sum())
    assert scipy.stats.binomtest(changes, COUNT - 1).pvalue > 1e-3


def test_the_half_depends_on_the_index_only():
    order = np.array([311, 2, 57])
    part = alternate(ALTERNATING_IMAGES[order], jnp.asarray(order), jnp.int32(1))
    full = alternate(ALTERNATING_IMAGES, jnp.arange(COUNT), jnp.int32(1))
    np.testing.assert_array_equal(part, np.asarray(full)[order])
    with jax.enable_x64(True):
        examples = jnp.asarray(order, jnp.int32)
        batch = augment.Batch(ALTERNATING_IMAGES[order], examples=examples, epoch=1)
        other = ALTERNATING_POLICY(jax.random.key(9, impl="rbg"), batch).images
    np.testing.assert_array_equal(other, part)


def test_mapped_epochs_equal_single_epochs():
    examples, epochs = jnp.arange(COUNT), jnp.arange(4)
    mapped = jax.vmap(alternate, (None, None, 0))(jnp.asarray(ALTERNATING_IMAGES), examples, epochs)
    expected = [alternate(ALTERNATING_IMAGES, examples, epoch) for epoch in epochs]
    np.testing.assert_array_equal(mapped, expected)


def test_random_numbers_depend_on_the_index_of_the_example():
    def add_noise(key, image):
        return image + jax.random.uniform(key)

    images, examples = jnp.zeros((COUNT, 2, 2, 1)), jnp.arange(COUNT)
    batch = augment.Batch(images, examples=examples, epoch=0)
    found = jax.jit(augment.alternate(add_noise))(KEY, batch).images
    every = augment.per_image(add_noise)(KEY, images, examples)
    np.testing.assert_array_equal(found, np.where(flipped(0)[:, None, None, None], every, 0))


def test_a_batch_chain_passes_on_the_epoch_and_the_targets():
    policy = augment.batch_chain(
        ALTERNATING_POLICY, augment.invert(), augment.mixup(1.0, classes=2, probability=0.0)
    )
    labels = jnp.zeros(COUNT, jnp.int32)
    batch = augment.Batch(jnp.asarray(ALTERNATING_IMAGES), labels, jnp.arange(COUNT), 1)
    found = policy(KEY, batch)
    mask = flipped(1)[:, None, None, None]
    expected = np.where(mask, MIRRORED_IMAGES, ALTERNATING_IMAGES)
    np.testing.assert_array_equal(found.images, 255 - expected)
    np.testing.assert_array_equal(found.targets, np.eye(2)[np.zeros(COUNT, int)])
    assert (found.examples, found.epoch) == (batch.examples, 1)


digits = data.digits()
few = digits.train[0][:COUNT], digits.train[1][:COUNT]
plain = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.momentum(0.1))
recipe = plain.replace(augment=ALTERNATING_POLICY)
options = {"epochs": 3, "batch_size": 40}


def test_a_run_equals_training_on_images_flipped_in_numpy(key):
    images, labels = few
    by_hand = train.start(key, plain, (8, 8, 1))
    for epoch in range(3):
        mask = flipped(epoch)[:, None, None, None]
        augmented = np.where(mask, images[:, :, ::-1], images)
        for chosen in np.asarray(order_examples(key, epoch, COUNT, 40)):
            by_hand, _ = train.step(plain, by_hand, (augmented[chosen], labels[chosen]))
    result = train.run(key, recipe, few, **options)
    chex.assert_trees_all_close(result.train_state.params, by_hand.params, rtol=1e-4, atol=1e-6)
    other = train.run(key, plain, few, **options)
    kernel = other.train_state.params["dense_1"]["kernel"]
    assert np.abs(kernel - by_hand.params["dense_1"]["kernel"]).max() > 1e-2


def test_fit_resumed_within_an_epoch_equals_the_run_bit_for_bit(key):
    full = train.run(key, recipe, few, **options)
    first = lab.fit(key, recipe, few, **options, show=False, max_steps=13)
    rest = lab.fit(key, recipe, few, **options, show=False, resume=first.train_state, chunk=4)
    chex.assert_trees_all_equal(rest.train_state.params, full.train_state.params)
    losses = np.concatenate([first.history.loss, rest.history.loss])
    np.testing.assert_array_equal(losses, full.history.loss)


def test_runs_mapped_over_keys_equal_single_runs():
    def run(key):
        return train.run(key, recipe, few, **options).history.loss

    keys = jax.random.split(jax.random.key(2), 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(keys), [run(key) for key in keys], rtol=1e-5)


NEEDED = "alternate: expected the examples' numbers and the epoch, got no "


def on_a_stream():
    batches = (few for _ in range(3))
    lab.fit(KEY, recipe, batches, epochs=1, steps_per_epoch=2, show=False)


def run(policy=ALTERNATING_POLICY, **numbers):
    policy(KEY, augment.Batch(ALTERNATING_IMAGES, **numbers))


def on_a_batch():
    train.step(recipe, train.start(KEY, recipe, (8, 8, 1)), few)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (on_a_stream, NEEDED + "examples and epoch"),
        (on_a_batch, NEEDED + "examples and epoch"),
        (lambda: run(), NEEDED + "examples and epoch; train on arrays"),
        (lambda: run(examples=jnp.arange(COUNT)), NEEDED + "epoch"),
        (lambda: run(epoch=0), NEEDED + "examples;"),
        (lambda: run(augment.batch_chain(ALTERNATING_POLICY)), NEEDED),
        (
            lambda: augment.alternate(augment.mixup()),
            "alternate: expected an augmentation of an image",
        ),
        (
            lambda: augment.alternate(0.5),
            "alternate: expected an augmentation of an image, as flip_lr(1.0), got 0.5",
        ),
        (
            lambda: run(augment.alternate(augment.crop(2)), examples=jnp.arange(COUNT), epoch=0),
            "alternate: expected images uint8[4, 6, 3] again, got uint8[2, 2, 3]",
        ),
    ],
)
def test_alternate_raises_without_numbers_and_for_other_policies(act, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        act()


SQUARES = np.random.default_rng(5).integers(0, 256, (6, 9, 9, 1), np.uint8)


def thresholded(images):
    return (np.asarray(images)[..., 0] > 127).astype(np.int32)


def test_together_moves_the_masks_of_a_batch_as_the_images():
    moves = augment.chain(augment.flip_lr(), augment.random_crop(padding=2, mode="constant"))
    policy = augment.batched(augment.together(moves))
    batch = augment.Batch(jnp.asarray(SQUARES), jnp.asarray(thresholded(SQUARES)))
    moved = policy(jax.random.key(0), batch)
    np.testing.assert_array_equal(moved.targets, thresholded(moved.images))
    assert (np.asarray(moved.targets) != thresholded(SQUARES)).any()


def test_masks_that_would_not_follow_are_refused():
    batch = augment.Batch(jnp.asarray(SQUARES), jnp.asarray(thresholded(SQUARES)))
    with pytest.raises(ConfigError, match=r"augment\.together"):
        augment.batched(augment.flip_lr())(jax.random.key(0), batch)
    kept = augment.batched(augment.brightness(0.5))(jax.random.key(0), batch)
    np.testing.assert_array_equal(kept.targets, batch.targets)


def test_a_view_is_the_augmentation_with_a_derived_key():
    crop = augment.random_crop(padding=2)
    batch = augment.Batch(jnp.asarray(SQUARES), jnp.arange(6))
    found = augment.views(crop, 2)(jax.random.key(0), batch)
    for view in (0, 1):
        key = jax.random.fold_in(jax.random.key(0), view)
        wanted = augment.per_image(crop)(key, batch.images)
        np.testing.assert_array_equal(found.images[6 * view : 6 * view + 6], wanted)
    np.testing.assert_array_equal(found.targets, [*range(6), *range(6)])


def test_views_may_repeat_the_targets():
    batch = augment.Batch(jnp.asarray(SQUARES), jnp.arange(6) + 3)
    found = augment.views(augment.flip_lr(), 3, targets="repeat")(jax.random.key(0), batch)
    np.testing.assert_array_equal(found.targets, np.tile(np.arange(6) + 3, 3))


def test_an_entry_of_dict_inputs_is_augmented_alone():
    inputs = {"image": jnp.asarray(SQUARES), "age": jnp.ones((6, 2))}
    policy = augment.entry("image", augment.invert())
    found = policy(jax.random.key(0), augment.Batch(inputs)).images
    np.testing.assert_array_equal(found["image"], 255 - SQUARES)
    np.testing.assert_array_equal(found["age"], inputs["age"])
    with pytest.raises(DTypeError, match=r"augment\.entry"):
        augment.batched(augment.invert())(jax.random.key(0), augment.Batch(inputs))
    with pytest.raises(ConfigError, match="photo"):
        augment.entry("photo", augment.invert())(jax.random.key(0), augment.Batch(inputs))
