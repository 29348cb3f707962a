"""Conversion of batches, and validation of targets."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, objective, optim, train
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.train.inputs import validate_examples, validate_fit
from fnn.types import Layer

x, y = (
    np.linspace(-1, 1, 512 * 4).reshape(512, 4).astype(np.float32),
    np.arange(512, dtype=np.int32) % 3,
)
recipe = train.recipe(nn.dense(3), optim.sgd(0.1))


class Tensor:
    """An array of another library, which NumPy can read."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    "kind",
    [np.asarray, jnp.asarray, Tensor],
)
def test_step_accepts_arrays_of_other_libraries(kind, key):
    start = train.start(key, recipe, (4,))
    wanted, _ = train.step(recipe, start, (x, y))
    after, _ = train.step(recipe, start, [kind(x), kind(y)])
    chex.assert_trees_all_equal(after.params, wanted.params)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (
            {"image": x, "label": y},
            ConfigError,
            "batch: expected a pair .* got dict with image, label; give both",
        ),
        ((x, y, y), ConfigError, "batch: expected a pair .inputs, targets., got tuple of 3"),
        ((x, y.astype(str)), DTypeError, "targets: expected an array of numbers, got dtype <U11"),
    ],
)
def test_invalid_batches_raise(batch, error, message, key):
    with pytest.raises(error, match=message):
        train.step(recipe, train.start(key, recipe, (4,)), batch)


X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = np.arange(12, dtype=np.int32) % 4
padded = np.where(Y == 3, -100, Y).astype(np.int32)
ignoring = objective.ignoring(objective.cross_entropy(label_smoothing=0.1), -100)


def run(network, targets, valid=None, rate=0.1, epochs=2, **options):
    recipe = train.recipe(network, optim.sgd(rate), **options)
    valid = (X, targets) if valid is None else valid
    return train.run(
        jax.random.key(0), recipe, (X, targets), valid=valid, epochs=epochs, batch_size=4
    )


@pytest.mark.parametrize(
    ("whole", "got"),
    [
        (data.DataSet((x, y), (x, y)), "got a DataSet of train and test; give one part"),
        (data.Labeled((x, y), ()), "got a Labeled of examples and classes; give its examples"),
    ],
)
def test_a_whole_data_set_in_place_of_a_pair_raises(whole, got, key):
    options = {"epochs": 1, "batch_size": 8}
    for call in (
        lambda: train.run(key, recipe, whole, **options),
        lambda: train.run(key, recipe, (x, y), valid=whole, **options),
        lambda: train.step(recipe, train.start(jax.random.key(0), recipe, (4,)), whole),
    ):
        with pytest.raises(ConfigError, match=got):
            call()


@pytest.mark.slow
def test_ignored_labels_change_neither_loss_nor_accuracy():
    history = run(nn.dense(4), padded, loss=ignoring).history
    kept = np.flatnonzero(padded != -100)
    alone = run(nn.dense(4), Y, (X[kept], Y[kept]), rate=0.0, epochs=1).history
    loss = objective.ignoring(objective.cross_entropy, -100)
    still = run(nn.dense(4), padded, rate=0.0, epochs=1, loss=loss).history
    np.testing.assert_allclose(still.valid_loss, alone.valid_loss, rtol=1e-6)
    np.testing.assert_allclose(still.valid_accuracy, alone.valid_accuracy, rtol=1e-6)
    assert np.isfinite(history.loss).all()


def test_wrong_label_among_ignored_ones_raises():
    with pytest.raises(LabelError, match=r"labels: expected 0 <= label < 4, got -1 at index 5"):
        run(nn.dense(4), np.where(np.arange(12) == 5, -1, padded).astype(np.int32), loss=ignoring)


def test_wrong_label_raises_with_class_weights():
    loss = objective.class_weighted(ignoring, [1.0, 2.0, 0.5, 1.0])
    assert np.isfinite(run(nn.dense(4), padded, loss=loss).history.loss).all()
    with pytest.raises(LabelError, match=r"labels: expected 0 <= label < 4, got 4 at index 2"):
        run(nn.dense(4), np.where(np.arange(12) == 2, 4, padded).astype(np.int32), loss=loss)


def test_targets_of_nt_xent_may_be_any_integers():
    assert "accuracy" not in run(nn.dense(2), Y + 1000, loss=objective.nt_xent).history


def test_integer_targets_of_a_plain_loss_are_not_labels():
    def distance(outputs, targets):
        return jnp.square(outputs - 1e-3 * targets[:, None].astype(outputs.dtype)).mean(1)

    history = run(nn.dense(2), Y + 1000, loss=distance).history
    assert np.isfinite(history.loss).all() and "accuracy" not in history


def test_targets_of_binary_cross_entropy_may_be_integers():
    answers = (np.random.default_rng(1).random((12, 2)) < 0.5).astype(np.int32)
    history = run(nn.dense(2), answers, loss=objective.binary_cross_entropy).history
    assert np.isfinite(history.loss).all() and "accuracy" not in history


def test_float_targets_must_sum_to_one_for_cross_entropy_only():
    scores = np.float32(np.eye(4)[Y] * 0.5)
    with pytest.raises(
        LabelError, match=r"targets: expected rows that sum to 1, got 0\.5 at index 0"
    ):
        run(nn.dense(4), scores)
    assert np.isfinite(run(nn.dense(4), scores, loss=objective.squared_error).history.loss).all()


def test_wrong_label_of_a_head_raises():
    network = nn.parallel(digit=nn.dense(4), side=nn.dense(2), join="dict")
    loss = objective.multi_task({"digit": objective.cross_entropy, "side": objective.squared_error})
    targets = {"digit": Y, "side": X[:, :2]}
    assert jnp.isfinite(run(network, targets, loss=loss).history.loss).all()
    with pytest.raises(LabelError, match="labels: expected 0 <= label < 4, got 7 at index 2"):
        run(
            network,
            targets | {"digit": np.where(np.arange(12) == 2, 7, Y).astype(np.int32)},
            loss=loss,
        )


def test_negative_label_advises_to_drop_or_ignore_it():
    labels = np.where(np.arange(512) == 5, -1, y)
    with pytest.raises(LabelError, match=r"got -1 at index 5 .*; drop these examples, or wrap"):
        train.run(jax.random.key(0), recipe, (x, labels), epochs=1, batch_size=64)


def test_arrays_that_passed_are_known_by_identity_alone():
    """Arrays of NumPy may change, and each recipe has its own checks."""
    one = train.recipe(nn.dense(3))
    state = train.start(jax.random.key(0), one.replace(optimizer=optim.sgd(0.1)), (4,))
    changing = x.copy()
    train.evaluate(one, state, (changing, y))
    changing[3] = np.nan
    with pytest.raises(NonFiniteError, match="index"):
        train.evaluate(one, state, (changing, y))
    inputs, labels = jnp.asarray(x), jnp.asarray(y)
    for _ in range(2):
        train.evaluate(one, state, (inputs, labels))
    with pytest.raises(LabelError):
        train.evaluate(one, state, (inputs, labels + 1))
    two = train.recipe(nn.dense(2))
    with pytest.raises(LabelError):
        train.evaluate(two, state, (inputs, labels))
    with pytest.raises(ShapeError):
        train.evaluate(one, state, (inputs[:, :2], labels))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
@pytest.mark.parametrize("classes", [3, 100, 200, 300])
def test_labels_out_of_range_raise_in_every_integer_dtype(dtype, classes):
    one = train.recipe(nn.elementwise(lambda x: x))
    inputs = np.zeros((4, classes), np.float32)
    largest = min(classes - 1, np.iinfo(dtype).max)
    validate_examples("data", one, (inputs, np.array([0, 1, 2, largest], dtype)))
    for wrong in {-1, -128, classes}:
        if np.iinfo(dtype).min <= wrong <= np.iinfo(dtype).max:
            with pytest.raises(LabelError, match=rf"got {wrong} at index 2"):
                validate_examples("data", one, (inputs, np.array([0, 1, wrong, 2], dtype)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_whose_squares_overflow_are_finite(value):
    one = train.recipe(nn.elementwise(lambda x: x), loss=objective.squared_error)
    large = np.full((4, 3), 1e30, np.float32)
    validate_examples("data", one, (large, large))
    large[2, 1] = value
    with pytest.raises(NonFiniteError, match="index"):
        validate_examples("data", one, (large[::-1], large))


def test_data_is_traced_once_for_each_shape_and_dtype(key):
    """A recipe remembers that data fits; other data is checked again."""
    dense = nn.dense(3)
    shapes = []

    def init(key, shape):
        shapes.append(shape)
        return dense.init(key, shape)

    network = Layer(init, dense.apply)
    counted = train.recipe(network, optim.sgd(0.1))
    assert validate_fit(counted, (jnp.asarray(x), jnp.asarray(y)), None) == (3,)
    validate_fit(counted, (jnp.asarray(x + 1), jnp.asarray(y)), None)
    assert shapes == [(4,)]
    validate_fit(counted, (jnp.asarray(x[:, :2]), jnp.asarray(y)), None)
    assert shapes == [(4,), (2,)]
    # Values are checked each time, also where shapes are known to fit.
    with pytest.raises(LabelError):
        validate_fit(counted, (jnp.asarray(x), jnp.asarray(y + 1)), None)
    # So are targets of another shape.
    with pytest.raises(ShapeError):
        validate_fit(counted, (jnp.asarray(x), jnp.ones((512, 2, 2), jnp.int32)), None)


def test_validation_of_another_size_has_the_trace_of_training():
    traced = []

    def hits(outputs, targets):
        traced.append(outputs.shape)
        return (outputs.argmax(-1) == targets).astype(jnp.float32)

    counted = train.recipe(nn.dense(3), optim.sgd(0.1), metrics={"hits": hits})
    validate_fit(counted, (x, y), (x[:100], y[:100]))
    assert traced == [(512, 3)]


def test_validation_of_another_shape_names_it_before_training(key):
    network = nn.chain(nn.flatten(), nn.dense(2))
    recipe = train.recipe(network, optim.sgd(0.1))
    labels = np.zeros(8, np.int32)
    data, valid = (np.zeros((8, 4, 4, 1), np.float32), labels), (np.zeros((8, 6, 6, 1)), labels)
    message = r"valid inputs: expected examples of the shape of training, .*; give both one shape"
    with pytest.raises(ShapeError, match=message):
        train.run(key, recipe, data, epochs=1, batch_size=4, valid=valid)
    # A network that averages over all positions accepts images of any size.
    pooled = train.recipe(nn.chain(nn.conv(2), nn.global_avg_pool()), optim.sgd(0.1))
    train.run(key, pooled, data, epochs=1, batch_size=4, valid=valid)
