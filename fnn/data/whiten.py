"""PCA and ZCA whitening, and image patches."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.data.preprocessing import Fitted, expect, mean_of, on_host, to_float, unit
from fnn.errors import ConfigError, ShapeError
from fnn.types import Images, Number, Shape
from fnn.values import maker

PIECE = 4096  # examples; so many at a time become float64, that a large set need not fit in memory as such


def pca_whiten(
    train_inputs: jax.Array, *, components: int | None = None, eps: Number = 1e-5
) -> Fitted:
    """The map x -> diag((S + eps)^-½) Uᵀ (to_float(x) - mean): principal components of unit variance, largest first.

    U diag(S) Uᵀ = Σ (x - mean)(x - mean)ᵀ / (n - 1) over the training inputs (n, ...), such as vectors (n, features) or
    images, flattened; the largest entry of each column of U is positive. x (..., *example) becomes (..., components),
    by default as many as features; the inverse gives (..., *example), the nearest such x. eps is added to the
    variances, of bytes / 255; one that is 0 even so counts as 1. ShapeError for fewer than two examples and for another
    example; ConfigError for too many components or eps < 0 [Ng et al., UFLDL tutorial, PCA whitening].
    """
    stored = on_host("pca_whiten train_inputs", train_inputs, least=2)
    features = prod(stored.shape[1:])
    kept = features if components is None else checks.whole("pca_whiten components", components)
    if kept > features:
        raise ConfigError(
            "pca_whiten components", f"at most the {features} features", kept, "choose fewer"
        )
    checks.number("pca_whiten eps", eps, "[0, inf)")
    mean, variances, vectors = _principal(stored)
    std, vectors = _deviations(variances[:kept], eps), vectors[:, :kept]
    return affine("pca_whiten", mean, vectors / std, (vectors * std).T, stored.shape[1:], (kept,))


def zca_whiten(train_inputs: jax.Array, *, eps: Number = 1e-5) -> Fitted:
    """The map x -> U diag((S + eps)^-½) Uᵀ (to_float(x) - mean): of all that whiten, the one that changes x least.

    U, S and eps are those of `pca_whiten`. x (..., *example) keeps its shape, so images stay images. ShapeError for
    fewer than two examples and for another example; ConfigError for eps < 0 [Bell & Sejnowski 1997, The 'independent
    components' of natural scenes are edge filters; Kessy, Lewin & Strimmer 2018, arXiv:1512.00809].
    """
    stored = on_host("zca_whiten train_inputs", train_inputs, least=2)
    checks.number("zca_whiten eps", eps, "[0, inf)")
    mean, variances, vectors = _principal(stored)
    std, example = _deviations(variances, eps), stored.shape[1:]
    with jax.default_matmul_precision("highest"):  # for a traced eps
        return affine(
            "zca_whiten",
            mean,
            vectors / std @ vectors.T,
            vectors * std @ vectors.T,
            example,
            example,
        )


def _principal(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean (features,), the principal variances (features,), largest first, and as columns their directions."""
    rows = stored.reshape(len(stored), -1)
    mean = mean_of(rows, 0)
    covariance = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), PIECE):
        centered = rows[start : start + PIECE] - mean
        covariance += centered.T @ centered
    values, vectors = np.linalg.eigh(covariance / (len(rows) - 1) / unit(stored) ** 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    # A direction in which nothing varies has an eigenvalue that is 0 but for rounding, which eps = 0 would blow up.
    variances = np.where(values > np.finfo(np.float64).eps * len(values) * values[0], values, 0)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return mean[0] / unit(stored), variances, vectors * np.sign(largest)


def _deviations(variances: np.ndarray, eps: Number) -> Any:
    """√(variances + eps) as a row, in float64 unless eps is traced; 1 where that is 0."""
    xp, dtype = (
        (np, np.dtype(np.float64)) if checks.is_concrete(eps) else (jnp, jnp.result_type(float))
    )
    lifted = xp.asarray(variances, dtype) + xp.asarray(eps, dtype)
    return xp.sqrt(xp.where(lifted > 0, lifted, 1))[None]


@maker
def affine(where: str, mean: Any, there: Any, back: Any, example: Shape, out: Shape) -> Fitted:
    """The map x -> (x - mean) there of examples to (..., *out), and its inverse y -> y back + mean."""

    def forward(x: jax.Array) -> jax.Array:
        x = expect(f"{where} x", to_float(x), example)
        rows = x.reshape(-1, len(mean)) - jnp.asarray(mean, x.dtype)[None]
        return _times(rows, there).reshape(*x.shape[: -len(example)], *out)

    def inverse(y: jax.Array) -> jax.Array:
        y = expect(f"{where} inverse y", y, out)
        rows = _times(y.reshape(-1, prod(out)), back) + jnp.asarray(mean, y.dtype)[None]
        return rows.reshape(*y.shape[: -len(out)], *example)

    return Fitted(forward, inverse)


def _times(rows: jax.Array, matrix: Any) -> jax.Array:
    """The product in full precision on any device: what varies little is multiplied by much."""
    return jnp.matmul(rows, jnp.asarray(matrix, rows.dtype), precision="highest")


def patches(
    images: Images, size: int | Sequence[int], *, stride: int | Sequence[int] = 1
) -> jax.Array:
    """Every patch of the images, cut where it fits whole: image after image, of each row after row.

    patch (i, r, q) = images[i, stride r : stride r + size, stride q : stride q + size]. images (n, height, width,
    channels) of any dtype; patches (n · rows · columns, size, size, channels), rows = (height - size) // stride + 1;
    size and stride are one int or (vertical, horizontal). `pca_whiten` and `zca_whiten` can be fitted on them.
    ShapeError for no images (n, height, width, channels) and for a size that does not fit [Coates, Lee & Ng 2011].
    """
    images = jnp.asarray(images)
    if images.ndim != 4:
        advice = "add a channel axis, images[..., None], or a batch axis, images[None]"
        raise ShapeError(
            "patches images", "rank 4 (n, height, width, channels)", images.shape, advice
        )
    window, steps = checks.pair("patches size", size), checks.pair("patches stride", stride)
    if any(length > whole for length, whole in zip(window, images.shape[1:3], strict=True)):
        raise ShapeError(
            "patches size",
            f"at most the image's {images.shape[1:3]}",
            window,
            "choose a smaller one",
        )
    places = zip(images.shape[1:3], window, steps, strict=True)
    rows, columns = (
        np.arange(0, whole - length + 1, step)[:, None] + np.arange(length)
        for whole, length, step in places
    )
    cut = images[:, rows][:, :, :, columns]  # (n, rows, size, columns, size, channels)
    return jnp.moveaxis(cut, 3, 2).reshape(-1, *window, images.shape[-1])
