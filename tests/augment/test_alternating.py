"""Flips in turns: who is flipped when, in calls and in runs, held to what is done by hand."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import ConfigError
from fnn.train.epochs import order_of

COUNT = 400
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 6, 3), np.uint8)
POLICY = augment.alternate(augment.flip_lr(1.0))
KEY = jax.random.key(1)


@jax.jit
def seen(images, examples, epoch):
    return POLICY(KEY, images, None, examples, epoch)[0]


def flipped(epoch):
    """Which images are flipped in an epoch; all others are as they were."""
    shown = np.asarray(seen(IMAGES, jnp.arange(COUNT), jnp.int32(epoch)))
    turned, same = ((shown == own).all((1, 2, 3)) for own in (IMAGES[:, :, ::-1], IMAGES))
    np.testing.assert_array_equal(turned, ~same)
    return turned


def test_every_image_is_done_in_exactly_one_of_two_epochs_and_half_of_them_in_each():
    first = flipped(0)
    np.testing.assert_array_equal(flipped(1), ~first)
    np.testing.assert_array_equal(flipped(2), first)
    np.testing.assert_array_equal(flipped(101), ~first)
    assert scipy.stats.binomtest(int(first.sum()), COUNT).pvalue > 1e-3
    changes = int((first[1:] != first[:-1]).sum())  # a random bit, not a parity or a half of the numbers
    assert scipy.stats.binomtest(changes, COUNT - 1).pvalue > 1e-3


def test_the_half_follows_from_the_number_whatever_key_place_batch_and_setting():
    order = np.array([311, 2, 57])
    part = seen(IMAGES[order], jnp.asarray(order), jnp.int32(1))
    np.testing.assert_array_equal(part, np.asarray(seen(IMAGES, jnp.arange(COUNT), jnp.int32(1)))[order])
    with jax.enable_x64(True):
        other, _ = POLICY(jax.random.key(9, impl="rbg"), IMAGES[order], None, jnp.asarray(order, jnp.int32), 1)
    np.testing.assert_array_equal(other, part)


def test_mapped_epochs_are_the_epochs():
    examples, epochs = jnp.arange(COUNT), jnp.arange(4)
    mapped = jax.vmap(seen, (None, None, 0))(jnp.asarray(IMAGES), examples, epochs)
    np.testing.assert_array_equal(mapped, [seen(IMAGES, examples, epoch) for epoch in epochs])


def test_what_is_drawn_is_drawn_anew_each_time_by_the_number_of_the_example():
    policy = augment.alternate(lambda key, image: image + jax.random.uniform(key))
    images, examples = jnp.zeros((COUNT, 2, 2, 1)), jnp.arange(COUNT)
    shown, _ = jax.jit(policy)(KEY, images, None, examples, 0)
    every = augment.per_image(lambda key, image: image + jax.random.uniform(key))(KEY, images, examples)
    np.testing.assert_array_equal(shown, np.where(flipped(0)[:, None, None, None], every, 0))


def test_in_a_chain_it_learns_of_the_epoch_and_leaves_targets_alone():
    policy = augment.batch_chain(POLICY, augment.invert(), augment.mixup(1.0, classes=2, probability=0.0))
    labels = jnp.zeros(COUNT, jnp.int32)
    shown, targets = policy(KEY, jnp.asarray(IMAGES), labels, jnp.arange(COUNT), 1)
    wanted = np.where(flipped(1)[:, None, None, None], IMAGES[:, :, ::-1], IMAGES)
    np.testing.assert_array_equal(shown, 255 - wanted)
    np.testing.assert_array_equal(targets, np.eye(2)[np.zeros(COUNT, int)])


digits = data.digits()
few = digits.train[0][:COUNT], digits.train[1][:COUNT]
plain = train.recipe(nn.chain(nn.flatten(), nn.dense(10)), optim.momentum(0.1))
recipe = plain.replace(augment=POLICY)
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
    assert np.abs(other.train_state.params["dense_1"]["kernel"] - by_hand.params["dense_1"]["kernel"]).max() > 1e-2


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
        (lambda: POLICY(KEY, IMAGES), NEEDED + "examples and epoch; train on arrays"),
        (lambda: POLICY(KEY, IMAGES, None, jnp.arange(COUNT)), NEEDED + "epoch"),
        (lambda: POLICY(KEY, IMAGES, epoch=0), NEEDED + "examples;"),
        (lambda: augment.batch_chain(POLICY)(KEY, IMAGES), NEEDED),
        (lambda: augment.alternate(augment.mixup()), "alternate: expected an augmentation of an image"),
        (lambda: augment.alternate(0.5), "alternate: expected an augmentation of an image, as flip_lr(1.0), got 0.5"),
        (
            lambda: augment.alternate(augment.crop(2))(KEY, IMAGES, None, jnp.arange(COUNT), 0),
            "alternate: expected images uint8[4, 6, 3] again, got uint8[2, 2, 3]",
        ),
    ],
)
def test_mistakes_are_told(act, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        act()
