"""PCA and ZCA whitening of inputs, and extraction of image patches."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.preprocessing import (
    Fitted,
    byte_scale,
    exact_mean,
    expect_example_shape,
    expect_floats,
    host_inputs,
    is_host_float64,
    plain_array,
    to_float,
    traced_inputs,
    traced_mean,
)
from fnn.errors import ConfigError, ShapeError
from fnn.types import Images, Number, Shape
from fnn.values import maker

# Examples that are converted to float64 at a time, so that a large data set need not fit in memory
# as float64.
CHUNK = 4096


def pca_whiten(
    train_inputs: jax.Array | np.ndarray,
    *,
    components: int | None = None,
    eps: Number = 1e-5,
) -> Fitted:
    """Fit PCA whitening: principal components of unit variance, the largest variance first.

    y = diag((S + eps)^-½) Uᵀ (to_float(x) - mean), where
    U diag(S) Uᵀ = Σ (x - mean)(x - mean)ᵀ / (n - 1) over the flattened training inputs. The
    largest entry of each column of U is positive [Ng et al., UFLDL tutorial, PCA whitening].

    Args:
        train_inputs: Training inputs (n, *example), such as vectors (n, features) or images, uint8
            or floating-point; n >= 2; may be traced, as those of a fold within `jax.vmap`. Examples
            are flattened to `features` numbers.
        components: Number of components that are kept, at most `features`. None: all of them.
        eps: Number >= 0 that is added to the variances, in units of to_float(x) squared; it limits
            the gain of directions of small variance. May be traced.

    Returns:
        A map from (..., *example) to (..., components). Its inverse gives the nearest
        (..., *example) in the span of the components. A variance + eps of 0 counts as 1.

    Raises:
        ShapeError: There are fewer than two examples, or the map gets another example shape.
        ConfigError: `components` is too large, or `eps` is negative.
        DTypeError: The inputs are a masked array or no numbers, or integers other than uint8 reach
            the map.
        NonFiniteError: A training input is NaN or infinite, and not traced.
    """
    example_shape = np.shape(train_inputs)[1:]
    mean, variances, vectors = _fit("pca_whiten", train_inputs)
    features = prod(example_shape)
    count = features
    if components is not None:
        count = checks.whole("pca_whiten components", components)
    if count > features:
        expected = f"at most the {features} features"
        raise ConfigError("pca_whiten components", expected, count, "choose fewer")
    checks.number("pca_whiten eps", eps, "[0, inf)")
    # (1, components)
    std = _regularized_std(variances[:count], eps)
    # (features, components)
    vectors = vectors[:, :count]
    matrix = vectors / std
    inverse_matrix = (vectors * std).T
    return affine("pca_whiten", mean, matrix, inverse_matrix, example_shape, (count,))


def zca_whiten(train_inputs: jax.Array | np.ndarray, *, eps: Number = 1e-5) -> Fitted:
    """Fit ZCA whitening: of all whitening maps, the one that changes x least.

    y = U diag((S + eps)^-½) Uᵀ (to_float(x) - mean), with U and S of `pca_whiten`
    [Bell & Sejnowski 1997, The 'independent components' of natural scenes are edge filters;
    Kessy, Lewin & Strimmer 2018, arXiv:1512.00809].

    Args:
        train_inputs: Training inputs (n, *example), uint8 or floating-point; n >= 2; may be traced.
        eps: Number >= 0 that is added to the variances, in units of to_float(x) squared; it limits
            the gain of directions of small variance. May be traced.

    Returns:
        A map of arrays (..., *example) that keeps their shape, so images stay images.

    Raises:
        ShapeError: There are fewer than two examples, or the map gets another example shape.
        ConfigError: `eps` is negative.
        DTypeError: The inputs are a masked array or no numbers, or integers other than uint8 reach
            the map.
        NonFiniteError: A training input is NaN or infinite, and not traced.
    """
    checks.number("zca_whiten eps", eps, "[0, inf)")
    mean, variances, vectors = _fit("zca_whiten", train_inputs)
    std = _regularized_std(variances, eps)
    example_shape = np.shape(train_inputs)[1:]
    with jax.default_matmul_precision("highest"):  # matters only for traced numbers
        # Both (features, features) and symmetric.
        matrix = vectors / std @ vectors.T
        inverse_matrix = vectors * std @ vectors.T
        return affine(
            "zca_whiten",
            mean,
            matrix,
            inverse_matrix,
            example_shape,
            example_shape,
        )


def _fit(where: str, train_inputs: Any) -> tuple[Any, Any, Any]:
    """Compute the principal components of training inputs, on the host unless they are traced."""
    where = f"{where} train_inputs"
    if checks.is_concrete(train_inputs):
        return _principal_components(host_inputs(where, train_inputs, min_examples=2))
    return _traced_components(traced_inputs(where, train_inputs, min_examples=2))


def _traced_components(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute what `_principal_components` does, in the dtype of the floats."""
    # (n, features)
    rows = x.reshape(len(x), -1)
    mean = traced_mean(rows, 0)
    centered = rows - mean
    # (features, features)
    covariance = jnp.matmul(centered.T, centered, precision="highest") / (len(rows) - 1)
    values, vectors = jnp.linalg.eigh(covariance)
    # eigh sorts the eigenvalues in ascending order.
    values = values[::-1]
    vectors = vectors[:, ::-1]
    return mean[0], *_canonical(jnp, values, vectors)


def _canonical(xp: Any, values: Any, vectors: Any) -> tuple[Any, Any]:
    """Return the variances and directions of eigenvalues, the largest first, and eigenvectors."""
    # A direction without variance has an eigenvalue of 0 up to rounding. Its inverse root would
    # amplify noise where eps = 0.
    threshold = xp.finfo(values.dtype).eps * len(values) * values[0]
    variances = xp.where(values > threshold, values, 0)
    # The sign of an eigenvector is arbitrary: make the largest entry of each column positive.
    largest_index = xp.abs(vectors).argmax(0)
    largest = xp.take_along_axis(vectors, largest_index[None], 0)
    return variances, vectors * xp.sign(largest)


def _principal_components(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the principal components on the scale of to_float(x), in float64.

    Returns:
        The mean (features,), the variances (features,), the largest first, and their directions as
        columns (features, features).
    """
    rows = stored.reshape(len(stored), -1)
    scale = byte_scale(stored)
    mean = exact_mean(rows, 0)
    features = rows.shape[1]
    covariance = np.zeros((features, features))
    # The sum of the outer products, chunk by chunk.
    for start in range(0, len(rows), CHUNK):
        centered = rows[start : start + CHUNK] - mean
        covariance += centered.T @ centered
    covariance = covariance / (len(rows) - 1) / scale**2
    values, vectors = np.linalg.eigh(covariance)
    # eigh sorts the eigenvalues in ascending order.
    values = values[::-1]
    vectors = vectors[:, ::-1]
    return mean[0] / scale, *_canonical(np, values, vectors)


def _regularized_std(variances: Any, eps: Number) -> Any:
    """Return √(variances + eps) as a row (1, features), 1 where that is 0."""
    # Traced numbers need JAX, which may not have float64.
    is_concrete = checks.is_concrete(eps) and checks.is_concrete(variances)
    xp: Any = np if is_concrete else jnp
    dtype: Any = np.float64 if is_concrete else jnp.result_type(float)
    total = xp.asarray(variances, dtype) + xp.asarray(eps, dtype)
    positive = xp.where(total > 0, total, 1)
    return xp.sqrt(positive)[None]


@maker
def affine(
    where: str,
    mean: Any,
    matrix: Any,
    inverse_matrix: Any,
    example_shape: Shape,
    out_shape: Shape,
) -> Fitted:
    """Map (x - mean) matrix of flattened examples, and its inverse y inverse_matrix + mean.

    Args:
        where: Name of the map in errors.
        mean: Array (features,).
        matrix: Array (features, out).
        inverse_matrix: Array (out, features).
        example_shape: Shape of an example, of `features` numbers.
        out_shape: Shape of a mapped example, of `out` numbers.
    """

    def forward(x: jax.Array | np.ndarray) -> jax.Array:
        stored = plain_array(f"{where} x", x)
        if is_host_float64(stored, mean):
            expect_example_shape(f"{where} x", stored, example_shape)
            # Before the numbers are rounded to float32, as by `normalize`.
            rows = jnp.asarray(stored.reshape(-1, len(mean)) - np.asarray(mean))
        else:
            stored = expect_floats(f"{where} x", to_float(stored), example_shape)
            rows = stored.reshape(-1, len(mean))
            rows = rows - jnp.asarray(mean, rows.dtype)[None]
        batch_shape = stored.shape[: -len(example_shape)]
        # (examples, features) to (examples, out)
        y = _matmul(rows, matrix)
        return y.reshape(*batch_shape, *out_shape)

    def inverse(y: jax.Array | np.ndarray) -> jax.Array:
        y = plain_array(f"{where} inverse y", y)
        y = expect_floats(f"{where} inverse y", y, out_shape)
        batch_shape = y.shape[: -len(out_shape)]
        # (examples, out) to (examples, features)
        rows = y.reshape(-1, prod(out_shape))
        rows = _matmul(rows, inverse_matrix)
        rows = rows + jnp.asarray(mean, y.dtype)[None]
        return rows.reshape(*batch_shape, *example_shape)

    return Fitted(forward, inverse)


def _matmul(rows: jax.Array, matrix: Any) -> jax.Array:
    # Full precision on any device, because directions of small variance are amplified.
    return jnp.matmul(rows, jnp.asarray(matrix, rows.dtype), precision="highest")


def patches(
    images: Images | np.ndarray,
    size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
) -> jax.Array:
    """Extract all patches that fit in the images, in the order of images, rows, columns.

    patch (i, r, q) = images[i, stride r : stride r + size, stride q : stride q + size]. The
    result can be whitened by `pca_whiten` or `zca_whiten` [Coates, Lee & Ng 2011].

    Args:
        images: Array (n, height, width, channels) of any dtype.
        size: Height and width of a patch in pixels, one int or (vertical, horizontal).
        stride: Distance between patches in pixels, one int or (vertical, horizontal).

    Returns:
        Array (n · rows · columns, size, size, channels) of the same dtype, with
        rows = (height - size) // stride + 1, and columns likewise.

    Raises:
        ShapeError: `images` is not of rank 4, or `size` is larger than an image.
        ConfigError: `size` or `stride` is not a whole number >= 1 or two of them.
        DTypeError: `images` is a masked array, or not of numbers.
    """
    images = jnp.asarray(plain_array("patches images", images))
    if images.ndim != 4:
        expected = "rank 4 (n, height, width, channels)"
        advice = "add a channel axis, images[..., None], or a batch axis, images[None]"
        raise ShapeError("patches images", expected, images.shape, advice)
    _, height, width, channels = images.shape
    tall, wide = checks.pair("patches size", size)
    down, right = checks.pair("patches stride", stride)
    if tall > height or wide > width:
        expected = f"at most the image's {(height, width)}"
        raise ShapeError(
            "patches size",
            expected,
            (tall, wide),
            "choose a smaller one",
        )
    # Pixel indices of each patch along an axis, (rows, size) and (columns, size).
    tops = np.arange(0, height - tall + 1, down)
    lefts = np.arange(0, width - wide + 1, right)
    rows = tops[:, None] + np.arange(tall)
    columns = lefts[:, None] + np.arange(wide)
    # (n, rows, size, columns, size, channels)
    gathered = images[:, rows][:, :, :, columns]
    grouped = jnp.moveaxis(gathered, 3, 2)
    return grouped.reshape(-1, tall, wide, channels)
