"""Scaling and standardization against scikit-learn and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import DTypeError, NonFiniteError, ShapeError

BYTES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)


def test_bytes_are_scaled_to_the_unit_interval():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(data.to_float(every), every / 255, rtol=1.2e-7)
    assert data.to_float(every).max() == 1


@pytest.mark.parametrize("x", [jnp.float32([0.5]), jnp.bfloat16([2]), jnp.int32([7])])
def test_other_dtypes_pass_unchanged(x):
    assert data.to_float(x).dtype == x.dtype
    np.testing.assert_array_equal(data.to_float(x), x)


@pytest.mark.parametrize("inputs", [BYTES, BYTES / np.float32(7)], ids=["bytes", "floats"])
def test_standardize_equals_the_scaler_of_scikit_learn_per_channel(inputs):
    scaled = inputs / 255 if inputs.dtype == np.uint8 else inputs
    oracle = sklearn.preprocessing.StandardScaler().fit(scaled.reshape(-1, 3).astype(np.float64))
    prepare = data.standardize(inputs)
    wanted = oracle.transform(scaled.reshape(-1, 3).astype(np.float64)).reshape(scaled.shape)
    np.testing.assert_allclose(prepare(jnp.asarray(inputs)), wanted, atol=2e-6)
    # The statistics are those of the training inputs, also for other arrays.
    np.testing.assert_allclose(prepare(jnp.asarray(inputs[:2])), wanted[:2], atol=2e-6)


def test_a_constant_channel_becomes_zero():
    prepare = data.standardize(np.full((5, 2), 3.0, np.float32))
    np.testing.assert_array_equal(prepare(jnp.full((1, 2), 3.0)), 0)


@pytest.mark.usefixtures("x64")
def test_a_constant_channel_has_std_1_despite_rounding():
    images = np.full((999, 2), [0.1, 1e9 + 0.1])
    assert images.std(0).min() > 0
    np.testing.assert_allclose(data.standardize(images)(images[:1] + 1), 1, rtol=1e-6)


def test_a_constant_channel_of_bytes_is_only_centered():
    prepare = data.standardize(np.full((5, 2), 51, np.uint8))
    np.testing.assert_allclose(prepare(np.uint8([[51, 255]])), [[0, 0.8]], atol=1e-6)


@pytest.mark.parametrize("inputs", [BYTES, BYTES / np.float32(7)], ids=["bytes", "floats"])
def test_the_inverse_restores_the_floats(inputs):
    prepare = data.standardize(inputs)
    np.testing.assert_allclose(prepare.inverse(prepare(inputs)), data.to_float(inputs), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_map_and_inverse_keep_the_dtype_of_floats(dtype):
    prepare, x = data.standardize(BYTES), jnp.ones((2, 4, 4, 3), dtype)
    assert prepare(x).dtype == dtype and prepare.inverse(x).dtype == dtype


@pytest.mark.parametrize("inputs", [BYTES, BYTES / np.float32(7) + 300], ids=["bytes", "floats"])
def test_a_traced_fit_equals_a_fit_outside(inputs):
    folds = jnp.stack([jnp.asarray(inputs[:40]), jnp.asarray(inputs[10:])])

    def prepared(train, x):
        return data.standardize(train)(x)

    mapped = jax.jit(jax.vmap(prepared, (0, None)))(folds, jnp.asarray(inputs))
    for fold, found in zip(folds, mapped, strict=True):
        np.testing.assert_allclose(found, prepared(fold, jnp.asarray(inputs)), atol=5e-6)


def test_a_traced_fit_keeps_constant_channels_and_has_finite_slopes():
    x = np.stack([np.full(999, 0.1), np.linspace(0, 1, 999)], 1).astype(np.float32)

    def total(x):
        return jnp.square(data.standardize(x)(x)).sum()

    y = jax.jit(lambda x: data.standardize(x)(x))(x)
    np.testing.assert_array_equal(y[:, 0], 0)
    np.testing.assert_allclose(y[:, 1].std(), 1, rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(total))(jnp.asarray(x))).all()
    assert jax.jit(lambda x: data.standardize(x)(x))(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.slow
def test_each_fold_of_a_compiled_cross_validation_is_prepared_by_its_own_statistics(key):
    draw = np.random.default_rng(0)
    whole = (jnp.asarray(draw.normal(3, 2, (20, 2)), jnp.float32), jnp.arange(20) % 2)
    recipe = train.recipe(nn.dense(2), optim.sgd(0.1))
    options = {"epochs": 1, "batch_size": 4}

    def score(train_indices, valid_indices):
        fold, valid = ((whole[0][part], whole[1][part]) for part in (train_indices, valid_indices))
        prepared = recipe.replace(prepare=data.standardize(fold[0]))
        return train.run(key, prepared, fold, valid=valid, **options).history.valid_loss[-1]

    folds = data.k_fold(key, whole, folds=2)
    lanes = jax.vmap(score)(*folds)
    alone = [score(*(part[fold] for part in folds)) for fold in range(2)]
    np.testing.assert_allclose(lanes, alone, rtol=1e-5)


@pytest.mark.parametrize(("center", "spread"), [(1.7e9, 100), (1e4, 0.01), (-3e12, 5)])
def test_a_mean_far_above_the_spread_is_subtracted_as_by_scikit_learn(center, spread):
    x = center + np.random.default_rng(0).uniform(0, spread, (1000, 2))
    wanted = sklearn.preprocessing.StandardScaler().fit_transform(x)
    for stored in (x, x.astype(">f8")):
        found = data.standardize(stored)(stored)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_any_byte_order_is_read():
    x = BYTES / np.float32(7)
    for dtype in (">f4", ">f2", "<f4"):
        swapped = x.astype(dtype)
        wanted = data.standardize(swapped.astype(dtype[1:]))(swapped.astype(dtype[1:]))
        np.testing.assert_array_equal(data.standardize(swapped)(swapped), wanted)
        inverse = data.standardize(x).inverse
        np.testing.assert_array_equal(inverse(swapped), inverse(swapped.astype(dtype[1:])))


def test_any_axes_may_precede_the_channels():
    prepare, x = data.standardize(BYTES), jnp.asarray(BYTES)
    np.testing.assert_allclose(prepare(x[0, 0, 0]), prepare(x)[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(prepare))(x), prepare(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fit", [data.standardize, data.zca_whiten])
def test_a_run_with_prepare_equals_a_run_on_prepared_inputs(fit, key):
    images, labels = BYTES[:, :2, :2], np.arange(50, dtype=np.int32) % 3
    prepare, network = fit(images), nn.chain(nn.flatten(), nn.dense(3))
    assert isinstance(prepare, data.Fitted) and hash(prepare) == hash(prepare)
    options = {"epochs": 2, "batch_size": 10}
    recipe = train.recipe(network, optim.sgd(0.1))
    inside = train.run(key, recipe.replace(prepare=prepare), (images, labels), **options)
    before = train.run(key, recipe, (prepare(images), labels), **options)
    np.testing.assert_allclose(inside.history.loss, before.history.loss, rtol=1e-5)


def test_standardize_is_normalize_with_the_fitted_statistics():
    fitted = data.standardize(BYTES)
    scaled = BYTES.astype(np.float64) / 255
    statistics = [scaled.mean((0, 1, 2)), scaled.std((0, 1, 2))]
    for found, wanted in zip(jax.tree.leaves(fitted), statistics, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    x = jnp.asarray(BYTES[:2])
    known = data.normalize(*(row.tolist() for row in statistics))
    np.testing.assert_allclose(known(x), fitted(x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(known.inverse(known(x)), data.to_float(x), atol=1e-6)


def test_the_statistics_may_be_traced_and_have_gradients(x64):
    x = jnp.asarray(BYTES[:2])

    def total(fitted):
        return jnp.square(fitted(x)).sum()

    fitted = data.normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    slope = jax.jit(jax.grad(total))(fitted)
    y = np.asarray((BYTES[:2] / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4])
    wanted = [
        -2 * y.sum((0, 1, 2)) / [0.2, 0.3, 0.4],
        -2 * np.square(y).sum((0, 1, 2)) / [0.2, 0.3, 0.4],
    ]
    np.testing.assert_allclose(np.ravel(jax.tree.leaves(slope)), np.ravel(wanted), rtol=1e-9)


MASKED = np.ma.masked_equal(BYTES / 255, 0)
standardized = data.standardize(BYTES)


class Unreadable:
    """An array of another library that NumPy cannot read, such as one of torch in bfloat16."""

    shape = (4, 3)

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error("unsupported ScalarType")


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError])
@pytest.mark.parametrize(
    "function",
    [
        data.to_float,
        data.standardize,
        data.pca_whiten,
        standardized,
        standardized.inverse,
        lambda x: data.patches(x, 2),
        lambda x: data.split(jax.random.key(0), (x, np.arange(4)), fractions=(0.5, 0.5)),
        data.class_weights,
        lambda x: data.windows(x, 2),
        lambda x: data.weighted_batches(jax.random.key(0), 0, weights=x, batch_size=2),
        lambda x: data.digest((x, np.arange(4))),
        lambda x: lab.plot_confusion(x, np.arange(4)),
        lambda x: lab.plot_augmentations(augment.flip_lr(), x),
    ],
)
def test_arrays_that_numpy_cannot_read_raise(function, error):
    with pytest.raises(DTypeError, match="expected an array of numbers, got Unreadable; convert"):
        function(Unreadable(error))


WRONG = [
    (
        lambda: data.standardize(MASKED),
        DTypeError,
        r"standardize train_inputs: expected an array without a mask, got .*; fill them",
    ),
    (lambda: standardized(MASKED), DTypeError, "normalize x: expected an array without a mask"),
    (lambda: standardized.inverse(MASKED), DTypeError, "inverse y: expected an array without a"),
    (
        lambda: data.standardize(BYTES + 1j),
        DTypeError,
        "train_inputs: expected an array of real numbers, got complex128",
    ),
    (lambda: standardized(BYTES + 1j), DTypeError, "normalize x: .*real numbers, got complex128"),
    (lambda: data.standardize(BYTES.astype(str)), DTypeError, "real numbers, got <U3"),
    (lambda: data.standardize(BYTES.astype(object)), DTypeError, "real numbers, got object"),
    (
        lambda: jax.jit(data.standardize)(BYTES[:0]),
        ShapeError,
        "standardize train_inputs: expected at least one example",
    ),
    (
        lambda: jax.jit(data.standardize)(BYTES > 3),
        DTypeError,
        "standardize train_inputs: expected uint8 or .*got bool",
    ),
    (
        lambda: data.patches(np.ma.masked_equal(BYTES, 0), 2),
        DTypeError,
        "patches images: expected an array without a mask",
    ),
    (
        lambda: data.standardize(BYTES[:0]),
        ShapeError,
        r"standardize train_inputs: expected at least one example, got \(0,",
    ),
    (
        lambda: data.standardize(np.ones(5)),
        ShapeError,
        r"standardize train_inputs: expected rank 2 or more .*got \(5,\)",
    ),
    (
        lambda: data.standardize(np.ones((5, 2), bool)),
        DTypeError,
        "standardize train_inputs: expected uint8 or .*got bool",
    ),
    (
        lambda: data.standardize([[1.0, 2.0], [3.0, np.nan]]),
        NonFiniteError,
        r"train_inputs: .*got nan at index \(1, 1\)",
    ),
    (
        lambda: standardized(BYTES[..., :1]),
        ShapeError,
        r"normalize x: expected \(..., 3\), got \(50, 4, 4, 1\)",
    ),
    (lambda: standardized(jnp.ones(())), ShapeError, r"normalize x: expected \(..., 3\), got \(\)"),
    (
        lambda: standardized(BYTES.astype(np.int32)),
        DTypeError,
        "normalize x: expected uint8 or floating.*got int32",
    ),
    (
        lambda: standardized.inverse(BYTES),
        DTypeError,
        "normalize inverse y: expected .*floating.*got uint8",
    ),
    (
        lambda: standardized.inverse(jnp.ones((2, 4))),
        ShapeError,
        r"normalize inverse y: expected \(..., 3\)",
    ),
    (
        lambda: data.standardize(np.ma.masked_greater(BYTES, 200)),
        DTypeError,
        "standardize train_inputs: expected an array without a mask",
    ),
    (
        lambda: data.to_float({"x": np.ma.masked_greater(BYTES, 200)}),
        DTypeError,
        "to_float x: expected an array without a mask",
    ),
    (
        lambda: data.to_float(BYTES.astype(">f4")),
        DTypeError,
        "to_float x: expected native byte order, got dtype >f4",
    ),
    (
        lambda: data.to_float(np.array(["a"])),
        DTypeError,
        "to_float x: expected an array of numbers, got <U1",
    ),
    (
        lambda: data.to_float([np.zeros(2, "m8[s]")]),
        DTypeError,
        "to_float x: expected an array of numbers, got timedelta64",
    ),
    (
        lambda: data.normalize(np.ones((3, 3)), np.ones(3)),
        ShapeError,
        r"normalize mean: expected one number per channel",
    ),
    (
        lambda: data.normalize([0.5, 0.5], [1.0]),
        ShapeError,
        r"normalize std: expected as many .*\(2,\), got \(1,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_arguments_raise(call, error, message):
    with pytest.raises(error, match=message):
        call()
