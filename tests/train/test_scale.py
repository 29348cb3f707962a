"""Inputs that must have one scale: those of training and validation, and batches of a stream."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, lab, nn, optim, train
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

COUNT = 8
draw = np.random.default_rng(0)
FLOATS = draw.random((COUNT, 6, 6, 1), np.float32)
BYTES = draw.integers(1, 256, FLOATS.shape, np.uint8)
LABELS = np.arange(COUNT, dtype=np.int32) % 3
key = jax.random.key(0)
recipe = train.recipe(nn.chain(nn.conv(2), nn.flatten(), nn.dense(3)), optim.sgd(0.1))
fit = partial(lab.fit, key, recipe, epochs=1, show=False)
HIGH = FLOATS * 255
SCALES = {
    "floats after bytes": (BYTES, HIGH),
    "bytes after floats": (HIGH, BYTES),
    "255 after 1": (FLOATS, HIGH),
    "1 after 255": (HIGH, FLOATS),
    "standardized after bytes": (BYTES, (FLOATS - 0.5) * 4),
}


@pytest.mark.parametrize("name", SCALES)
def test_another_scale_of_validation_or_of_a_later_batch_raises(name):
    first, second = SCALES[name]
    data, other = (first, LABELS), (second, LABELS)
    message = "inputs: expected the scale of the (training inputs|first batch), .*; give both as"
    for call in (
        lambda: train.run(key, recipe, data, valid=other, epochs=1, batch_size=4),
        lambda: fit(data, valid=other, batch_size=4),
        lambda: fit([data, data], valid=other),
        lambda: fit([data, other]),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


@pytest.mark.parametrize("shape", [(COUNT, 36), (COUNT, 6, 6)])
def test_flat_images_of_another_scale_raise_too(shape):
    one, other = (np.pad(images, [(0, 0), *[(1, 1)] * 2, (0, 0)]) for images in (FLOATS, HIGH))
    shape = (COUNT, 64) if len(shape) == 2 else (COUNT, 8, 8)
    flat = recipe.replace(network=nn.chain(nn.flatten(), nn.dense(3)))
    for first, second in ((one, other), (other, one)):
        valid = second.reshape(shape), LABELS
        with pytest.raises(ConfigError, match="valid inputs: expected the scale of the training"):
            train.run(
                key, flat, (first.reshape(shape), LABELS), valid=valid, epochs=1, batch_size=4
            )


def test_counts_may_have_another_maximum_in_validation():
    counts = np.minimum(np.random.default_rng(1).geometric(0.6, (64, 5)), 3).astype(np.float32) - 1
    few = np.minimum(counts, 1)
    counts[3, 2] = 90
    labels = np.arange(64) % 3
    table = train.recipe(nn.dense(3), optim.sgd(0.01))
    for first, second in ((counts, few), (few, counts)):
        train.run(key, table, (first, labels), valid=(second, labels), epochs=1, batch_size=32)


@pytest.mark.slow
def test_bytes_and_floats_of_one_scale_validate_alike():
    data = BYTES, LABELS
    loss = train.run(key, recipe, data, valid=data, epochs=1, batch_size=4).history.valid_loss
    for prepare, valid in ((recipe.prepare, BYTES / np.float32(255)), (scaled, np.float32(BYTES))):
        other = recipe.replace(prepare=prepare)
        run = partial(train.run, key, other, data, epochs=1, batch_size=4)
        np.testing.assert_allclose(run(valid=(valid, LABELS)).history.valid_loss, loss, rtol=1e-5)
    # Where prepare divides floats too, floats in [0, 1] are of another scale.
    with pytest.raises(ConfigError, match="valid inputs: expected the scale"):
        run(valid=(BYTES / np.float32(255), LABELS))


def scaled(x):
    return x.astype(jnp.float32) / 255


def test_a_dark_batch_has_no_other_scale():
    fit([(HIGH, LABELS), (HIGH * 0, LABELS)])
    fit([(HIGH * 0, LABELS), (HIGH, LABELS)])


@pytest.mark.slow
def test_a_later_batch_of_another_dtype_rank_or_structure_raises():
    first = FLOATS, LABELS
    for later, error, message in (
        (
            (FLOATS.astype(np.float16), LABELS),
            DTypeError,
            "data batch 1 inputs: expected float32 as in the first batch, got float16",
        ),
        (
            ({"a": FLOATS}, LABELS),
            TreeMismatchError,
            "data batch 1 inputs: expected inputs as in the first batch, got inputs/a",
        ),
    ):
        loose = recipe.replace(prepare=lambda x: jax.tree.leaves(x)[0].astype(jnp.float32))
        with pytest.raises(error, match=message):
            lab.fit(key, loose, [first, later], epochs=1, show=False)
    pooled = train.recipe(nn.chain(nn.global_avg_pool(), nn.dense(3)), optim.sgd(0.1))
    run = partial(lab.fit, key, pooled, epochs=1, show=False)
    with pytest.raises(ShapeError, match="data batch 1 inputs: expected 4 axes as in the first"):
        run([first, (FLOATS[:, 0], LABELS)])
    # Images of another size are another program, which the network accepts.
    run([first, (FLOATS[:, :4], LABELS)])


def test_levels_for_augmentation_are_checked():
    bright = recipe.replace(augment=augment.brightness((0.9, 1.1)))
    train_state = train.start(key, bright, (6, 6, 1))
    good = FLOATS, LABELS
    calls = (
        lambda wrong: train.run(key, bright, wrong, epochs=1, batch_size=4),
        lambda wrong: train.run(key, bright, good, valid=wrong, epochs=1, batch_size=4),
        lambda wrong: lab.fit(key, bright, [good, wrong], epochs=1, show=False),
        lambda wrong: train.step(bright, train_state, wrong),
        lambda wrong: train.epoch(bright, train_state, wrong, batch_size=4),
        lambda wrong: train.evaluate(bright, train_state, wrong),
        lambda wrong: train.predict(bright, train_state, wrong[0]),
    )
    for images, message in ((HIGH, "max 25"), (FLOATS - 0.5, "min -0.")):
        for call in calls:
            with pytest.raises(ConfigError, match=rf"images: expected \[0, 1\], got {message}"):
                call((images, LABELS))


def test_levels_on_both_sides_of_zero_are_standardized():
    """Geometry takes any values; changes of levels would clip them."""
    centered = (FLOATS - 0.5) * 4, LABELS
    flipped = recipe.replace(augment=augment.flip_lr())
    train_state = train.start(key, flipped, (6, 6, 1))
    train.step(flipped, train_state, centered)
    assert train.predict(flipped, train_state, centered[0]).shape == (COUNT, 3)


def test_prediction_takes_images_that_the_augmentation_cannot_crop():
    pooled = nn.chain(nn.conv(2), nn.global_avg_pool(), nn.dense(3))
    cropped = train.recipe(pooled, optim.sgd(0.1), augment=augment.random_crop(size=6))
    train_state = train.start(key, cropped, (6, 6, 1))
    assert train.predict(cropped, train_state, FLOATS[:, :4, :4]).shape == (COUNT, 3)


def after_training_on(inputs, one, shape=(6, 6, 1)):
    train.run(key, one, (inputs, LABELS), epochs=0, batch_size=4)
    return train.start(key, one, shape)


@pytest.mark.parametrize("name", [name for name in SCALES if name != "standardized after bytes"])
def test_inference_on_inputs_of_another_scale_warns(name):
    first, second = SCALES[name]
    one = train.recipe(recipe.network, optim.sgd(0.1))
    state = after_training_on(first, one)
    for call in (
        lambda inputs: train.predict(one, state, inputs),
        lambda inputs: train.predict(one, state, jnp.asarray(inputs)),
        lambda inputs: train.evaluate(one, state, (inputs, LABELS)),
    ):
        with pytest.warns(UserWarning, match="inputs: expected the scale of the training inputs"):
            call(second)
        call(first)


def test_a_stream_and_an_epoch_are_training_too():
    one = train.recipe(recipe.network, optim.sgd(0.1))
    lab.fit(key, one, [(BYTES, LABELS)], epochs=1, show=False)
    state = train.start(key, one, (6, 6, 1))
    with pytest.warns(UserWarning, match="expected the scale of the training inputs, uint8, got"):
        train.predict(one, state, HIGH)
    # From here on the recipe is one of both scales.
    train.epoch(one, state, (HIGH, LABELS), batch_size=4)
    train.predict(one, state, np.array(HIGH))
    train.predict(one, state, BYTES)


def test_inference_on_inputs_of_the_same_scale_does_not_warn():
    # Warnings are errors in all tests.
    one = train.recipe(recipe.network, optim.sgd(0.1))
    state = after_training_on(BYTES, one)
    for inputs in (FLOATS, FLOATS[:1] * 0, BYTES[:1] * 0, 1 + FLOATS / 4):
        train.predict(one, state, inputs)
    # A prepare function that treats both alike, and an image without light.
    alike = train.recipe(recipe.network, optim.sgd(0.1), prepare=scaled)
    state = after_training_on(BYTES, alike)
    for inputs in (HIGH, HIGH[:1] * 0, np.float32(BYTES)):
        train.predict(alike, state, inputs)
    standardized = train.recipe(recipe.network, optim.sgd(0.1))
    state = after_training_on((FLOATS - 0.5) * 4, standardized)
    train.predict(standardized, state, (FLOATS - 0.5) * 400)
    # Nothing is known of weights without a run, nor within jit.
    jax.jit(lambda x: train.predict(one, state, x))(HIGH)
    train.predict(train.recipe(recipe.network, optim.sgd(0.1)), state, HIGH)
