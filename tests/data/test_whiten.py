"""Whitening against scikit-learn and its definition: unit covariance; ZCA changes x least."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from fnn import data, nn, optim, train
from fnn.errors import ConfigError, DTypeError, NonFiniteError, ShapeError

pytestmark = pytest.mark.slow

float64 = pytest.mark.usefixtures("x64")
FITS = (data.pca_whiten, data.zca_whiten)
both = pytest.mark.parametrize("fit", FITS)


def mixed(*shape):
    """Correlated numbers with a mean of 3."""
    draw = np.random.default_rng(0)
    size = int(np.prod(shape[1:]))
    return (draw.normal(size=(shape[0], size)) @ draw.normal(size=(size, size)) + 3).reshape(shape)


def covariance(x):
    return np.cov(np.asarray(x, np.float64).reshape(len(x), -1), rowvar=False)


VECTORS = mixed(300, 7)
IMAGES = mixed(200, 3, 2, 2)
BYTES = (np.clip(IMAGES, -10, 10) * 8 + 100).astype(np.uint8)


@float64
@pytest.mark.parametrize("components", [None, 1, 4, 7])
def test_pca_equals_scikit_learn(components):
    oracle = PCA(components, whiten=True).fit(VECTORS)
    whiten = data.pca_whiten(VECTORS, components=components, eps=0.0)
    held_out = mixed(20, 7) - 1
    np.testing.assert_allclose(whiten(held_out), oracle.transform(held_out), atol=1e-10)
    np.testing.assert_allclose(
        whiten.inverse(whiten(held_out)), oracle.inverse_transform(whiten(held_out)), atol=1e-10
    )


@float64
@both
@pytest.mark.parametrize("inputs", [VECTORS, IMAGES, BYTES], ids=["vectors", "images", "bytes"])
def test_outputs_have_unit_covariance_and_zero_mean(fit, inputs):
    y = np.asarray(fit(inputs, eps=0.0)(inputs)).reshape(len(inputs), -1)
    np.testing.assert_allclose(covariance(y), np.eye(y.shape[1]), atol=1e-10)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-10)


@float64
@both
def test_eps_is_added_to_the_variances(fit):
    values = np.linalg.eigvalsh(covariance(VECTORS))
    found = np.linalg.eigvalsh(covariance(fit(VECTORS, eps=0.5)(VECTORS)))
    np.testing.assert_allclose(found, values / (values + 0.5), rtol=1e-9)


@float64
def test_zca_is_the_inverse_root_of_the_covariance():
    whiten = data.zca_whiten(VECTORS, eps=0.1)
    matrix = np.asarray(whiten(np.eye(7)) - whiten(np.zeros((1, 7))))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0
    np.testing.assert_allclose(
        matrix @ (covariance(VECTORS) + 0.1 * np.eye(7)) @ matrix, np.eye(7), atol=1e-10
    )


@float64
def test_zca_changes_the_inputs_least_of_all_whitening_maps():
    change = {
        fit: np.square(fit(VECTORS, eps=0.0)(VECTORS) - (VECTORS - VECTORS.mean(0))).sum()
        for fit in FITS
    }
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    other = np.square(
        data.zca_whiten(VECTORS, eps=0.0)(VECTORS) @ rotation - (VECTORS - VECTORS.mean(0))
    ).sum()
    assert change[data.zca_whiten] < min(change[data.pca_whiten], other)


@both
@pytest.mark.parametrize("inputs", [VECTORS, IMAGES, BYTES], ids=["vectors", "images", "bytes"])
def test_the_inverse_restores_the_floats(fit, inputs):
    inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)
    whiten = fit(inputs)
    np.testing.assert_allclose(whiten.inverse(whiten(inputs)), data.to_float(inputs), atol=1e-4)


def test_the_inverse_of_few_components_is_the_nearest_input():
    whiten = data.pca_whiten(IMAGES, components=5, eps=0.0)
    nearest = PCA(5).fit(IMAGES.reshape(200, -1))
    wanted = nearest.inverse_transform(nearest.transform(IMAGES.reshape(200, -1)))
    wanted = wanted.reshape(IMAGES.shape)
    np.testing.assert_allclose(whiten.inverse(whiten(IMAGES)), wanted, atol=1e-4)


@both
def test_bytes_are_scaled_to_the_unit_interval(fit):
    floats = np.asarray(BYTES / 255, np.float32)
    np.testing.assert_allclose(fit(BYTES)(BYTES), fit(floats)(floats), atol=1e-4)
    np.testing.assert_allclose(fit(BYTES)(BYTES), fit(BYTES)(floats), atol=1e-4)


@both
@pytest.mark.parametrize("inputs", [VECTORS, IMAGES, BYTES], ids=["vectors", "images", "bytes"])
def test_a_traced_fit_equals_a_fit_outside(fit, inputs):
    inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)

    def train_and_map(train, x):
        return fit(train, eps=0.01)(x)

    folds = jnp.stack([jnp.asarray(inputs[:100]), jnp.asarray(inputs[-100:])])
    mapped = jax.jit(jax.vmap(train_and_map, (0, None)))(folds, jnp.asarray(inputs))
    for fold, found in zip(folds, mapped, strict=True):
        np.testing.assert_allclose(found, fit(fold, eps=0.01)(jnp.asarray(inputs)), atol=2e-3)


@float64
@both
def test_a_traced_fit_equals_a_fit_outside_to_rounding(fit):
    found = jax.jit(lambda train: fit(train)(train))(VECTORS)
    np.testing.assert_allclose(found, fit(VECTORS)(VECTORS), atol=1e-9)
    # A direction without variance is not amplified.
    flat = np.repeat(VECTORS, 2, 1)[:40]
    found = jax.jit(lambda train: fit(train, eps=0.0)(train))(flat)
    np.testing.assert_allclose(covariance(found), covariance(fit(flat, eps=0.0)(flat)), atol=1e-6)


@both
def test_a_mean_far_above_the_spread_is_subtracted_exactly(fit):
    shifted = VECTORS + 1.7e9
    np.testing.assert_allclose(fit(shifted)(shifted), fit(VECTORS)(VECTORS), atol=1e-3)


def test_any_axes_may_precede_the_example():
    x = jnp.asarray(BYTES[:6])
    for fit, out in (
        (data.zca_whiten(BYTES), (3, 2, 2)),
        (data.pca_whiten(BYTES, components=4), (4,)),
    ):
        y = fit(x)
        assert y.shape == (6, *out) and fit(x[0]).shape == out
        assert fit(x.reshape(2, 3, 3, 2, 2)).shape == (2, 3, *out)
        assert fit(x[:0]).shape == (0, *out)
        assert fit.inverse(y).shape == x.shape and fit.inverse(y[0]).shape == x.shape[1:]
        np.testing.assert_allclose(fit(x[0]), y[0], atol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.vmap(fit))(x), y, atol=1e-5)


@both
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_map_and_inverse_keep_the_dtype_of_floats(fit, dtype):
    whiten = fit(jnp.asarray(VECTORS, dtype), eps=0.1)
    x = jnp.ones((2, 7), dtype)
    assert whiten(x).dtype == dtype and whiten.inverse(x).dtype == dtype


@both
@pytest.mark.parametrize(
    "inputs", [np.full((9, 4), 0.1), mixed(3, 7), np.repeat(VECTORS, 2, 1)[:40]]
)
def test_constant_directions_become_zero(fit, inputs):
    y = np.asarray(fit(inputs, eps=0.0)(inputs))
    rank = np.linalg.matrix_rank(inputs - inputs[:1])
    np.testing.assert_allclose(
        np.linalg.eigvalsh(covariance(y)), np.arange(y.shape[1]) >= y.shape[1] - rank, atol=1e-4
    )


def test_the_chunk_size_does_not_matter(monkeypatch):
    whole = data.zca_whiten(IMAGES)(IMAGES)
    monkeypatch.setattr("fnn.data.whiten.CHUNK", 7)
    np.testing.assert_allclose(data.zca_whiten(IMAGES)(IMAGES), whole, atol=1e-5)


@both
def test_traced_eps_shares_one_compilation(fit):
    traces = []

    @jax.jit
    def whiten_and_invert(eps):
        traces.append(eps)
        whiten = fit(BYTES, eps=eps)
        return whiten(BYTES), whiten.inverse(whiten(BYTES))

    for eps in (1e-3, 0.1, 0):
        y, x = whiten_and_invert(jnp.asarray(eps, float))
        np.testing.assert_allclose(y, fit(BYTES, eps=eps)(BYTES), atol=2e-4)
        np.testing.assert_allclose(x, BYTES / 255, atol=1e-4)
    assert len(traces) == 1


@float64
@both
def test_the_gradient_by_eps_equals_a_finite_difference(fit):
    def power(eps):
        return jnp.square(fit(VECTORS, eps=eps)(VECTORS)).mean()

    step = 1e-4
    difference = (power(0.1 + step) - power(0.1 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(power))(0.1), difference, rtol=1e-5)
    constant = np.ones((4, 3))
    slope = jax.jit(jax.grad(lambda eps: fit(constant, eps=eps)(jnp.ones((2, 3))).sum()))(0.0)
    assert np.isfinite(slope)


def test_vmap_over_eps_equals_single_runs(key):
    labels, network = np.arange(200, dtype=np.int32) % 3, nn.chain(nn.flatten(), nn.dense(3))

    def run(eps):
        recipe = train.recipe(network, optim.sgd(0.1), prepare=data.zca_whiten(BYTES, eps=eps))
        return train.run(key, recipe, (BYTES, labels), epochs=1, batch_size=50).history.loss

    lanes = jax.jit(jax.vmap(run))(jnp.array([1e-3, 0.1]))
    np.testing.assert_allclose(lanes, jnp.stack([run(1e-3), run(0.1)]), rtol=1e-4)


@float64
def test_patches_can_be_whitened():
    cut = data.patches(data.digits().train[0][:50], 3)
    whiten = data.zca_whiten(cut, eps=0.0)
    np.testing.assert_allclose(covariance(whiten(cut)), np.eye(9), atol=1e-8)


pca = data.pca_whiten(IMAGES, components=5)
zca = data.zca_whiten(IMAGES)
NAN = np.where(np.arange(7) == 2, np.nan, VECTORS)
WRONG = [
    (
        lambda fit, fitted: fit(BYTES[:0]),
        ShapeError,
        r"{} train_inputs: expected at least two examples, got \(0, 3",
    ),
    (
        lambda fit, fitted: fit(BYTES[:1]),
        ShapeError,
        r"{} train_inputs: expected at least two examples, got \(1, 3",
    ),
    (
        lambda fit, fitted: fit(VECTORS[0]),
        ShapeError,
        r"{} train_inputs: expected rank 2 or more .*got \(7,\)",
    ),
    (
        lambda fit, fitted: fit(VECTORS > 0),
        DTypeError,
        "{} train_inputs: expected uint8 or floating.*got bool",
    ),
    (
        lambda fit, fitted: fit(NAN),
        NonFiniteError,
        r"{} train_inputs: expected finite numbers, got nan at index \(0, 2\)",
    ),
    (
        lambda fit, fitted: jax.jit(fit)(VECTORS[:1]),
        ShapeError,
        r"{} train_inputs: expected at least two examples, got \(1, 7\)",
    ),
    (
        lambda fit, fitted: fit(np.ma.masked_greater(VECTORS, 1)),
        DTypeError,
        "{} train_inputs: expected an array without a mask, got",
    ),
    (
        lambda fit, fitted: fitted(np.ma.masked_greater(IMAGES, 1)),
        DTypeError,
        "{} x: expected an array without a mask, got",
    ),
    (
        lambda fit, fitted: fit(VECTORS + 1j),
        DTypeError,
        "{} train_inputs: expected an array of real numbers, got complex128",
    ),
    (
        lambda fit, fitted: fit(VECTORS, eps=-1e-9),
        ConfigError,
        r"{} eps: expected a number in \[0, inf\), got -1e-09",
    ),
    (lambda fit, fitted: fit(VECTORS, eps="small"), ConfigError, "{} eps: expected one number"),
    (
        lambda fit, fitted: fit(VECTORS, eps=jnp.ones(2)),
        ConfigError,
        "{} eps: expected one number .*jax.vmap",
    ),
    (
        lambda fit, fitted: fitted(BYTES[:, :2]),
        ShapeError,
        r"{} x: expected \(..., 3, 2, 2\), got \(200, 2, 2, 2\)",
    ),
    (
        lambda fit, fitted: fitted(IMAGES.reshape(200, -1)),
        ShapeError,
        r"{} x: expected \(..., 3, 2, 2\), got \(200, 12\)",
    ),
    (
        lambda fit, fitted: fitted(BYTES.astype(np.int32)),
        DTypeError,
        "{} x: expected uint8 or floating.*got int32",
    ),
    (
        lambda fit, fitted: fitted.inverse(jnp.ones((2, 6))),
        ShapeError,
        r"{} inverse y: expected \(..., .*, got \(2, 6\)",
    ),
    (
        lambda fit, fitted: fitted.inverse(BYTES),
        DTypeError,
        "{} inverse y: expected .*floating.*got uint8",
    ),
]


@pytest.mark.parametrize(
    ("fit", "fitted"), [(data.pca_whiten, pca), (data.zca_whiten, zca)], ids=["pca", "zca"]
)
@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_wrong_arguments_raise(call, error, message, fit, fitted):
    with pytest.raises(error, match=message.format(fit.__name__)):
        call(fit, fitted)


@pytest.mark.parametrize(
    ("components", "message"),
    [(13, "at most the 12 features, got 13"), (0, ">= 1"), (0.9, "a whole number")],
)
def test_wrong_numbers_of_components_raise(components, message):
    with pytest.raises(ConfigError, match=f"pca_whiten components: expected {message}"):
        partial(data.pca_whiten, components=components)(BYTES)


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 7, 6, 2), np.uint8)


def slices(images, size, stride):
    (_, height, width, _), (tall, wide), (down, right) = images.shape, size, stride
    return np.stack(
        [
            image[top : top + tall, left : left + wide]
            for image in images
            for top in range(0, height - tall + 1, down)
            for left in range(0, width - wide + 1, right)
        ]
    )


pairs = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=25, deadline=None)
@given(pairs, pairs)
def test_patches_equal_slices(size, stride):
    np.testing.assert_array_equal(
        data.patches(PIXELS, size, stride=stride), slices(PIXELS, size, stride)
    )


@pytest.mark.parametrize(
    "images",
    [PIXELS, PIXELS / np.float32(255), jnp.asarray(PIXELS, jnp.bfloat16)],
)
def test_one_int_is_for_both_axes_and_the_dtype_is_kept(images):
    cut = data.patches(images, 3, stride=2)
    assert cut.dtype == images.dtype and cut.shape == (3 * 3 * 2, 3, 3, 2)
    np.testing.assert_array_equal(cut, slices(np.asarray(images), (3, 3), (2, 2)))
    np.testing.assert_array_equal(
        jax.jit(lambda images: data.patches(images, 3, stride=2))(images), cut
    )


def test_one_patch_of_the_size_of_the_image_is_the_image():
    np.testing.assert_array_equal(data.patches(PIXELS, (7, 6)), PIXELS)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (
            PIXELS[0],
            {"size": 3},
            ShapeError,
            r"patches images: expected rank 4 .*got \(7, 6, 2\)",
        ),
        (
            PIXELS,
            {"size": 7},
            ShapeError,
            r"patches size: expected at most the image's \(7, 6\), got \(7, 7\)",
        ),
        (PIXELS, {"size": 0}, ConfigError, "patches size: expected >= 1, got 0"),
        (PIXELS, {"size": 2.5}, ConfigError, "patches size: expected a whole number"),
        (
            PIXELS,
            {"size": 2, "stride": 0},
            ConfigError,
            "patches stride: expected >= 1, got 0",
        ),
    ],
)
def test_wrong_arguments_of_patches_raise(images, options, error, message):
    with pytest.raises(error, match=message):
        data.patches(images, **options)
