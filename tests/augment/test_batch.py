"""What an image of a batch gets follows from its number alone, however the batch is cut, mapped or spread."""

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
from fnn.augment.batch import keys_of
from fnn.errors import ConfigError, DTypeError
from fnn.train.epoch import order_of

SHAPE = (10, 8, 3)
IMAGES = pictures(12, SHAPE)
POLICY = augment.chain(
    augment.brightness((0.3, 1.5)),
    augment.one_of(augment.invert(), augment.solarize((0.2, 0.8))),
    augment.cutout(3),
)
MAPPED = jax.jit(augment.per_image(POLICY))


@cache
def whole():
    return np.asarray(MAPPED(jax.random.key(0), IMAGES))


def test_each_image_is_seen_with_the_key_of_its_number():
    alone = jax.jit(
        lambda example, image: POLICY(jax.random.fold_in(jax.random.key(0), example), image)
    )
    np.testing.assert_array_equal(
        whole(), [alone(jnp.int32(place), image) for place, image in enumerate(IMAGES)]
    )


def test_neither_its_place_nor_the_size_of_the_batch_matters():
    order = np.array([7, 2, 11])
    part = MAPPED(jax.random.key(0), IMAGES[order], jnp.asarray(order))
    np.testing.assert_array_equal(part, whole()[order])
    assert (whole() != IMAGES).any((1, 2, 3)).sum() > 6


def test_batches_of_an_epoch_mapped_or_scanned_are_the_batch():
    batches, examples = IMAGES.reshape(3, 4, *SHAPE), jnp.arange(12).reshape(3, 4)
    policy = augment.per_image(POLICY)
    mapped = jax.jit(jax.vmap(policy, (None, 0, 0)))(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(mapped.reshape(IMAGES.shape), whole())

    def epoch(key, batches, examples):
        return jax.lax.scan(lambda carry, own: (carry, policy(key, *own)), 0, (batches, examples))[
            1
        ]

    scanned = jax.jit(epoch)(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(scanned.reshape(IMAGES.shape), whole())


def test_spread_over_devices_it_is_the_same_batch():
    assert jax.device_count() == 4
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split, same = PartitionSpec("batch"), PartitionSpec()
    images, examples = (
        jax.device_put(own, NamedSharding(mesh, split)) for own in (IMAGES, np.arange(12))
    )
    policy = augment.per_image(POLICY)
    mapped = jax.jit(
        jax.shard_map(policy, mesh=mesh, in_specs=(same, split, split), out_specs=split)
    )
    np.testing.assert_array_equal(mapped(jax.random.key(0), images, examples), whole())
    partitioned = MAPPED(jax.random.key(0), images, examples)
    np.testing.assert_array_equal(partitioned, whole())


def test_a_plain_function_is_mapped_too():
    shift = partial(jnp.roll, shift=1, axis=0)
    found = augment.per_image(lambda key, image: shift(image))(jax.random.key(0), IMAGES)
    np.testing.assert_array_equal(found, np.roll(IMAGES, 1, 1))


def test_the_keys_differ_by_number_and_are_those_of_fold_in():
    keys = jax.random.key_data(keys_of(jax.random.key(5), 3, None))
    np.testing.assert_array_equal(
        keys, [jax.random.key_data(jax.random.fold_in(jax.random.key(5), k)) for k in range(3)]
    )
    assert len(np.unique(keys, axis=0)) == 3


def test_a_key_must_be_one():
    message = "augmentation key: expected a key from jax.random.key(...), got int 0"
    with pytest.raises(DTypeError, match=re.escape(message)):
        augment.per_image(POLICY)(0, IMAGES)


COUNT = 400
ALTERNATING_IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 6, 3), np.uint8)
ALTERNATING_POLICY = augment.alternate(augment.flip_lr(1.0))
KEY = jax.random.key(1)


@jax.jit
def seen(images, examples, epoch):
    return ALTERNATING_POLICY(KEY, images, None, examples, epoch)[0]


def flipped(epoch):
    """Which images are flipped in an epoch; all others are as they were."""
    shown = np.asarray(seen(ALTERNATING_IMAGES, jnp.arange(COUNT), jnp.int32(epoch)))
    turned, same = (
        (shown == own).all((1, 2, 3))
        for own in (ALTERNATING_IMAGES[:, :, ::-1], ALTERNATING_IMAGES)
    )
    np.testing.assert_array_equal(turned, ~same)
    return turned


def test_every_image_is_done_in_exactly_one_of_two_epochs_and_half_of_them_in_each():
    first = flipped(0)
    np.testing.assert_array_equal(flipped(1), ~first)
    np.testing.assert_array_equal(flipped(2), first)
    np.testing.assert_array_equal(flipped(101), ~first)
    assert scipy.stats.binomtest(int(first.sum()), COUNT).pvalue > 1e-3
    changes = int(
        (first[1:] != first[:-1]).sum()
    )  # a random bit, not a parity or a half of the numbers
    assert scipy.stats.binomtest(changes, COUNT - 1).pvalue > 1e-3


def test_the_half_follows_from_the_number_whatever_key_place_batch_and_setting():
    order = np.array([311, 2, 57])
    part = seen(ALTERNATING_IMAGES[order], jnp.asarray(order), jnp.int32(1))
    np.testing.assert_array_equal(
        part, np.asarray(seen(ALTERNATING_IMAGES, jnp.arange(COUNT), jnp.int32(1)))[order]
    )
    with jax.enable_x64(True):
        other, _ = ALTERNATING_POLICY(
            jax.random.key(9, impl="rbg"),
            ALTERNATING_IMAGES[order],
            None,
            jnp.asarray(order, jnp.int32),
            1,
        )
    np.testing.assert_array_equal(other, part)


def test_mapped_epochs_are_the_epochs():
    examples, epochs = jnp.arange(COUNT), jnp.arange(4)
    mapped = jax.vmap(seen, (None, None, 0))(jnp.asarray(ALTERNATING_IMAGES), examples, epochs)
    np.testing.assert_array_equal(
        mapped, [seen(ALTERNATING_IMAGES, examples, epoch) for epoch in epochs]
    )


def test_what_is_drawn_is_drawn_anew_each_time_by_the_number_of_the_example():
    policy = augment.alternate(lambda key, image: image + jax.random.uniform(key))
    images, examples = jnp.zeros((COUNT, 2, 2, 1)), jnp.arange(COUNT)
    shown, _ = jax.jit(policy)(KEY, images, None, examples, 0)
    every = augment.per_image(lambda key, image: image + jax.random.uniform(key))(
        KEY, images, examples
    )
    np.testing.assert_array_equal(shown, np.where(flipped(0)[:, None, None, None], every, 0))


def test_in_a_chain_it_learns_of_the_epoch_and_leaves_targets_alone():
    policy = augment.batch_chain(
        ALTERNATING_POLICY, augment.invert(), augment.mixup(1.0, classes=2, probability=0.0)
    )
    labels = jnp.zeros(COUNT, jnp.int32)
    shown, targets = policy(KEY, jnp.asarray(ALTERNATING_IMAGES), labels, jnp.arange(COUNT), 1)
    wanted = np.where(
        flipped(1)[:, None, None, None], ALTERNATING_IMAGES[:, :, ::-1], ALTERNATING_IMAGES
    )
    np.testing.assert_array_equal(shown, 255 - wanted)
    np.testing.assert_array_equal(targets, np.eye(2)[np.zeros(COUNT, int)])


digits = data.digits()
few = digits.train[0][:COUNT], digits.train[1][:COUNT]
plain = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.momentum(0.1))
recipe = plain.replace(augment=ALTERNATING_POLICY)
options = {"epochs": 3, "batch_size": 40}


def test_a_run_learns_from_what_is_flipped_by_hand(key):
    images, labels = few
    by_hand = train.start(key, plain, (8, 8, 1))
    for epoch in range(3):
        shown = np.where(flipped(epoch)[:, None, None, None], images[:, :, ::-1], images)
        for chosen in np.asarray(order_of(key, epoch, COUNT, 40)):
            by_hand, _ = train.step(plain, by_hand, (shown[chosen], labels[chosen]))
    result = train.run(key, recipe, few, **options)
    chex.assert_trees_all_close(result.train_state.params, by_hand.params, rtol=1e-4, atol=1e-6)
    other = train.run(key, plain, few, **options)
    assert (
        np.abs(
            other.train_state.params["dense_1"]["kernel"] - by_hand.params["dense_1"]["kernel"]
        ).max()
        > 1e-2
    )


def test_fit_stopped_within_an_epoch_and_gone_on_with_is_the_run_bit_for_bit(key):
    whole = train.run(key, recipe, few, **options)
    first = lab.fit(key, recipe, few, **options, show=False, max_steps=13)
    rest = lab.fit(key, recipe, few, **options, show=False, resume=first.train_state, chunk=4)
    chex.assert_trees_all_equal(rest.train_state.params, whole.train_state.params)
    losses = np.concatenate([first.history.loss, rest.history.loss])
    np.testing.assert_array_equal(losses, whole.history.loss)


def test_runs_mapped_over_keys_are_the_runs():
    def run(key):
        return train.run(key, recipe, few, **options).history.loss

    keys = jax.random.split(jax.random.key(2), 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(keys), [run(key) for key in keys], rtol=1e-5)


NEEDED = "alternate: expected the examples' numbers and the epoch, got no "


def on_a_stream():
    batches = (few for _ in range(3))
    lab.fit(KEY, recipe, batches, epochs=1, steps_per_epoch=2, show=False)


def on_a_batch():
    train.step(recipe, train.start(KEY, recipe, (8, 8, 1)), few)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (on_a_stream, NEEDED + "examples and epoch"),
        (on_a_batch, NEEDED + "examples and epoch"),
        (
            lambda: ALTERNATING_POLICY(KEY, ALTERNATING_IMAGES),
            NEEDED + "examples and epoch; train on arrays",
        ),
        (
            lambda: ALTERNATING_POLICY(KEY, ALTERNATING_IMAGES, None, jnp.arange(COUNT)),
            NEEDED + "epoch",
        ),
        (lambda: ALTERNATING_POLICY(KEY, ALTERNATING_IMAGES, epoch=0), NEEDED + "examples;"),
        (lambda: augment.batch_chain(ALTERNATING_POLICY)(KEY, ALTERNATING_IMAGES), NEEDED),
        (
            lambda: augment.alternate(augment.mixup()),
            "alternate: expected an augmentation of an image",
        ),
        (
            lambda: augment.alternate(0.5),
            "alternate: expected an augmentation of an image, as flip_lr(1.0), got 0.5",
        ),
        (
            lambda: augment.alternate(augment.crop(2))(
                KEY, ALTERNATING_IMAGES, None, jnp.arange(COUNT), 0
            ),
            "alternate: expected images uint8[4, 6, 3] again, got uint8[2, 2, 3]",
        ),
    ],
)
def test_mistakes_are_told(act, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        act()
