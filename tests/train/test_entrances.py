"""One mistake in the data raises one error, whichever function the data is given to."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, train
from fnn.errors import (
    ConfigError,
    DTypeError,
    LabelError,
    NonFiniteError,
    ShapeError,
)

COUNT = 8
draw = np.random.default_rng(0)
FLOATS = draw.random((COUNT, 6, 6, 1), np.float32)
LABELS = np.arange(COUNT, dtype=np.int32) % 3
key = jax.random.key(0)
network = nn.chain(nn.conv(2), nn.flatten(), nn.dense(3))
recipe = train.recipe(network, optim.sgd(0.1))
fit = partial(lab.fit, key, recipe, epochs=1, show=False)


def start():
    return train.start(key, recipe, (6, 6, 1))


# Each takes the data, of which one part is wrong.
ENTRANCES = {
    "run": lambda wrong: train.run(key, recipe, wrong, epochs=1, batch_size=4),
    "valid of run": lambda wrong: train.run(
        key, recipe, (FLOATS, LABELS), valid=wrong, epochs=1, batch_size=4
    ),
    "fit": lambda wrong: fit(wrong, batch_size=4),
    "valid of fit": lambda wrong: fit((FLOATS, LABELS), valid=wrong, batch_size=4),
    "first batch": lambda wrong: fit(iter([wrong])),
    "later batch": lambda wrong: fit([(FLOATS, LABELS), (FLOATS, LABELS), wrong]),
    "step": lambda wrong: train.step(recipe, start(), wrong),
    "epoch": lambda wrong: train.epoch(recipe, start(), wrong, batch_size=4),
    "evaluate": lambda wrong: train.evaluate(recipe, start(), wrong),
    "predict": lambda wrong: train.predict(recipe, start(), wrong[0]),
}
OF_TARGETS = set(ENTRANCES) - {"predict"}


def changed(array, index, value, dtype=None):
    """A copy of the array with one other value."""
    copy = np.array(array, dtype)
    copy[index] = value
    return copy


def one_hot(value):
    return changed(np.eye(3, dtype=np.float32)[LABELS], (2, slice(None)), value)


masked = np.ma.masked_greater(FLOATS, 0.9)

# Name, data, entrances, error, message.
MISTAKES = [
    (
        "a bare array",
        FLOATS,
        OF_TARGETS,
        ConfigError,
        "expected a pair (inputs, targets), got ndarray float32[8,6,6,1]",
    ),
    (
        "three arrays",
        (FLOATS, LABELS, LABELS),
        OF_TARGETS,
        ConfigError,
        "expected a pair (inputs, targets), got tuple of 3",
    ),
    (
        "a dict",
        {"x": FLOATS, "y": LABELS},
        OF_TARGETS,
        ConfigError,
        "expected a pair (inputs, targets), got dict with x, y",
    ),
    (
        "no targets",
        (FLOATS, None),
        OF_TARGETS,
        ShapeError,
        "targets: expected at least one array, got None",
    ),
    (
        "lengths",
        (FLOATS, LABELS[:-1]),
        OF_TARGETS,
        ShapeError,
        "expected inputs and targets of one length, got {'inputs': 8, 'targets': 7}",
    ),
    ("no example", (FLOATS[:0], LABELS[:0]), ENTRANCES, ShapeError, "a batch axis with 0 examples"),
    (
        "no batch axis",
        (FLOATS[0, 0, 0, 0], LABELS),
        ENTRANCES,
        ShapeError,
        "inputs: expected a first axis of examples, got shape ()",
    ),
    (
        "no channel axis",
        (FLOATS[..., 0], LABELS),
        ENTRANCES,
        ShapeError,
        "(height, width, channels), got (6, 6)",
    ),
    ("swapped", (LABELS, FLOATS), ENTRANCES, ShapeError, "(height, width, channels), got ()"),
    (
        "channels first",
        (FLOATS.reshape(COUNT, 1, 6, 6), LABELS),
        ENTRANCES,
        ShapeError,
        "expected images with channels last, (height, width, channels), got (1, 6, 6); transpose",
    ),
    (
        "a list",
        (FLOATS.tolist(), LABELS),
        ENTRANCES,
        DTypeError,
        "inputs: expected an array, got list; convert it with numpy.asarray",
    ),
    (
        "a list of labels",
        (FLOATS, LABELS.tolist()),
        OF_TARGETS,
        DTypeError,
        "targets: expected an array, got list",
    ),
    (
        "text",
        (FLOATS.astype(str), LABELS),
        ENTRANCES,
        DTypeError,
        "inputs: expected an array of numbers, got dtype <U",
    ),
    (
        "objects",
        (FLOATS, LABELS.astype(object)),
        OF_TARGETS,
        DTypeError,
        "targets: expected an array of numbers, got dtype object",
    ),
    (
        "complex",
        (FLOATS + 1j, LABELS),
        ENTRANCES,
        DTypeError,
        "inputs: expected an array of real numbers, got dtype complex",
    ),
    (
        "big-endian",
        (FLOATS.astype(">f4"), LABELS),
        ENTRANCES,
        DTypeError,
        "inputs: expected native byte order, got dtype >f4",
    ),
    (
        "long double",
        (FLOATS.astype(np.longdouble), LABELS),
        ENTRANCES if np.longdouble(0).itemsize > 8 else (),
        DTypeError,
        "inputs: expected floats of at most 64 bits, got dtype float",
    ),
    (
        "a mask",
        (masked, LABELS),
        ENTRANCES,
        DTypeError,
        f"inputs: expected an array without a mask, got {np.ma.count_masked(masked)} masked of 288",
    ),
    (
        "NaN",
        (changed(FLOATS, 3, np.nan), LABELS),
        ENTRANCES,
        NonFiniteError,
        "inputs: expected finite numbers, got nan at index (3, 0, 0, 0) (36 of 288)",
    ),
    (
        "infinity",
        (changed(FLOATS, 3, -np.inf), LABELS),
        ENTRANCES,
        NonFiniteError,
        "inputs: expected finite numbers, got -inf at index (3, 0, 0, 0)",
    ),
    (
        "too large",
        (FLOATS.astype(np.float64) * 1e300, LABELS),
        ENTRANCES,
        DTypeError,
        "inputs: expected numbers that fit float32, got ",
    ),
    (
        "2**33 + 1",
        (FLOATS, changed(LABELS, 3, 2**33 + 1, np.int64)),
        OF_TARGETS,
        DTypeError,
        "targets: expected numbers that fit int32, got 8589934593 at index 3",
    ),
    (
        "a label too large",
        (FLOATS, changed(LABELS, 3, 3)),
        OF_TARGETS,
        LabelError,
        "labels: expected 0 <= label < 3, got 3 at index 3 (1 of 8)",
    ),
    (
        "a negative label",
        (FLOATS, changed(LABELS, 3, -1)),
        OF_TARGETS,
        LabelError,
        "labels: expected 0 <= label < 3, got -1 at index 3 (1 of 8)",
    ),
    (
        "labels of floats",
        (FLOATS, LABELS.astype(np.float32)),
        OF_TARGETS,
        DTypeError,
        "labels: expected an integer dtype, got float32",
    ),
    (
        "no distribution",
        (FLOATS, one_hot(0)),
        OF_TARGETS,
        LabelError,
        "targets: expected rows that sum to 1, got 0.0 at index 2",
    ),
    (
        "negative probabilities",
        (FLOATS, one_hot([2, -1, 0])),
        OF_TARGETS,
        LabelError,
        "targets: expected probabilities >= 0, got -1.0 at index (2, 1)",
    ),
]


@pytest.mark.parametrize(
    ("wrong", "entrances", "error", "message"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_a_mistake_raises_the_same_error_at_every_entrance(wrong, entrances, error, message):
    for name in sorted(entrances):
        with pytest.raises(error, match=re.escape(message)) as caught:
            ENTRANCES[name](wrong)
        # The validation data and the batches of a stream are named.
        if "valid" in name or "batch" in name:
            text = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
            assert "valid" in text or "batch" in text or error in (ShapeError, DTypeError)
        assert len(str(caught.value)) < 400, name


def test_arrays_of_jax_raise_the_same_errors():
    for wrong, message in (
        ((jnp.asarray(FLOATS).at[3].set(jnp.nan), LABELS), "inputs: expected finite numbers"),
        ((FLOATS, jnp.asarray(LABELS).at[3].set(5)), "labels: expected 0 <= label < 3, got 5"),
    ):
        for name in sorted(OF_TARGETS):
            with pytest.raises((NonFiniteError, LabelError), match=message):
                ENTRANCES[name](wrong)


def test_traced_data_is_checked_for_shapes():
    for entrance in ("run", "step", "epoch", "evaluate", "predict"):
        with pytest.raises(ShapeError, match="got \\(1, 6, 6\\); transpose"):
            jax.jit(ENTRANCES[entrance])((FLOATS.reshape(COUNT, 1, 6, 6), LABELS))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 60, 80), (3, 20, 60)])
def test_channels_first_are_recognized(shape):
    images = np.zeros((2, *shape), np.float32)
    for layer in (nn.conv(2), nn.max_pool(), nn.chain(nn.batch_norm(), nn.relu(), nn.conv(2))):
        with pytest.raises(ShapeError, match="channels last"):
            train.evaluate(
                train.recipe(layer, loss=objective.squared_error), start(), (images, images)
            )


def test_volumes_and_parts_of_dicts_with_channels_first_are_recognized():
    volumes = np.zeros((2, 1, 16, 16, 16), np.float32)
    both = {"image": np.zeros((2, 3, 20, 24), np.float32), "length": np.zeros((2, 1), np.float32)}
    network = nn.graph(a=(nn.conv(4), "x/image"), y=(nn.chain(), "a", "x/length"))
    for layer, inputs in ((nn.conv_3d(2), volumes), (network, both)):
        with pytest.raises(ShapeError, match=r"channels last.*in_channels="):
            train.predict(train.recipe(layer), start(), inputs)


def test_a_convolution_that_declares_its_channels_takes_any_shape():
    layer = nn.conv(2, 1, in_channels=32)
    for network in (layer, nn.cast(layer), nn.chain(nn.transpose((1, 2, 0)), nn.conv(2, 1))):
        recipe = train.recipe(network)
        state = train.start(key, recipe.replace(optimizer=optim.sgd(0.1)), (3, 32, 32))
        predicted = train.predict(recipe, state, np.zeros((2, 3, 32, 32), np.float32))
        assert predicted.shape[-1] == 2


@pytest.mark.parametrize(
    "shape",
    [(4, 4, 128), (3, 3, 64), (1, 1000, 22), (1, 1, 512), (32, 32, 3), (3, 64, 3), (8, 8, 8)],
)
def test_images_with_channels_last_are_not_refused(shape):
    layer = nn.chain(nn.conv(2, 1), nn.global_avg_pool())
    state = train.start(key, train.recipe(layer, optim.sgd(0.1)), shape)
    assert train.predict(train.recipe(layer), state, np.zeros((2, *shape), np.float32)).shape == (
        2,
        2,
    )


def test_a_network_without_convolutions_takes_any_layout():
    images = np.zeros((2, 3, 32, 32), np.float32)
    dense = train.recipe(nn.chain(nn.flatten(), nn.dense(2)))
    state = train.start(key, dense.replace(optimizer=optim.sgd(0.1)), (3, 32, 32))
    assert train.predict(dense, state, images).shape == (2, 2)


def test_errors_show_shapes_in_place_of_numbers():
    state = start()
    for call in (
        lambda: train.run(state, recipe, (FLOATS, LABELS), epochs=1, batch_size=4),
        lambda: train.run(key, state, (FLOATS, LABELS), epochs=1, batch_size=4),
        lambda: train.evaluate(recipe, (FLOATS, LABELS), state),
        lambda: train.evaluate(state, recipe, (FLOATS, LABELS)),
        lambda: train.predict(recipe, FLOATS, state),
        lambda: train.step(recipe, (FLOATS, LABELS), state),
        lambda: train.epoch(recipe, FLOATS, state, batch_size=4),
        lambda: train.run(key, recipe, (FLOATS, LABELS), epochs=FLOATS, batch_size=4),
        lambda: fit((FLOATS, LABELS), batch_size=4, resume=state.params),
        lambda: train.recipe(state, optim.sgd(0.1)),
        lambda: optim.sgd(FLOATS),
    ):
        with pytest.raises((ConfigError, DTypeError)) as caught:
            call()
        assert len(str(caught.value)) < 300 and "[[" not in str(caught.value)
