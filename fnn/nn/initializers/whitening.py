"""Initialization of a convolution that whitens the patches of images."""

from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.types import Initializer, Number, Shape
from fnn.values import maker


@maker
def whitening(images: Any, *, eps: Number = 5e-4) -> Initializer:
    """Kernel that whitens image patches: W = [V, -V], with columns v_i / √(λ_i + eps) of V.

    v_i and λ_i are the eigenvectors and eigenvalues of the second moments E[p pᵀ] of the patches p,
    the largest first. A kernel (*window, channels, outputs) has patches of prod(window) * channels
    numbers; outputs is even and at most twice that. Nothing is drawn [Jordan 2024,
    arXiv:2404.00498, section 3.1; Page 2019, How to train your ResNet].

    Args:
        images: A batch (batch, ..., channels), prepared as in training.
        eps: Number added to the eigenvalues, >= 0; it bounds the gain of weak directions.

    Raises:
        ConfigError: `eps` is not a number >= 0.
        ShapeError: The kernel does not fit the images, or has an odd number of outputs or too many.
        DTypeError: `images` are not of floating point.
    """
    checks.floating("whitening images", images)
    checks.number("whitening eps", eps, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        _expect_fits(images.shape, shape)
        # Known images are evaluated now: as constants of a program the compiler would fold them,
        # which takes seconds.
        with jax.ensure_compile_time_eval():
            patches = _patches(jnp.asarray(images, jnp.result_type(float)), shape[:-2])
            moment = patches.T @ patches / patches.shape[0]  # (patch size, patch size)
        # eigh gives ascending eigenvalues; rounding can make the smallest ones negative.
        values, vectors = jnp.linalg.eigh(moment)
        values = jnp.maximum(values[::-1], 0)
        vectors = vectors[:, ::-1]
        scaled = vectors / jnp.sqrt(values + trees.knob(eps, values))[None]
        half = scaled[:, : shape[-1] // 2]
        # (patch size, outputs) -> (*window, channels, outputs)
        return jnp.concatenate([half, -half], axis=1).reshape(shape)

    return initializer


def _patches(images: jax.Array, window: Shape) -> jax.Array:
    """Return all patches as vectors (patches, patch size), in the order of a kernel's numbers."""
    image_sizes = images.shape[1:-1]
    counts = [size - length + 1 for size, length in zip(image_sizes, window, strict=True)]
    shifted = []
    # Pixel `offset` of every patch is the image from `offset` on.
    for offset in product(*map(range, window)):
        slices = [slice(at, at + count) for at, count in zip(offset, counts, strict=True)]
        shifted.append(images[(slice(None), *slices)])
    # (batch, *counts, window pixels, channels) -> (patches, patch size)
    return jnp.stack(shifted, -2).reshape(-1, prod(window) * images.shape[-1])


def _expect_fits(images: Shape, kernel: Shape) -> None:
    if not _is_inside(kernel, images):
        raise ShapeError(
            "whitening",
            f"a kernel that fits images {images}",
            kernel,
            "give images (batch, height, width, channels) as the layer gets them",
        )
    most = 2 * prod(kernel[:-1])
    if kernel[-1] % 2 or kernel[-1] > most:
        raise ShapeError(
            "whitening",
            f"an even number of outputs, at most {most}",
            kernel,
            "each direction comes with its negative",
        )


def _is_inside(kernel: Shape, images: Shape) -> bool:
    """Whether a kernel has the rank and channels of the images, and a window inside of them."""
    if len(kernel) != len(images) or kernel[-2] != images[-1]:
        return False
    sizes = zip(kernel[:-2], images[1:-1], strict=True)
    return all(window <= image for window, image in sizes)
