"""Kernels that whiten what they see."""

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
    """The principal directions of the patches of a batch, each divided by its standard deviation, and their negatives.

    W = [V, -V], where the columns of V are v_i / √(λ_i + eps) with v_i, λ_i the eigenvectors and eigenvalues of
    the patches' second moments E[p pᵀ], the largest first. images (batch, ..., channels), prepared as in training;
    a kernel (*window, channels, outputs) sees patches of window x channels numbers, and outputs is even and at most
    twice that many. It draws nothing. ShapeError for another kernel; DTypeError for integers [Jordan 2024,
    arXiv:2404.00498, section 3.1; Page 2019, How to train your ResNet].
    """
    checks.floating("whitening images", images)
    checks.number("whitening eps", eps, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        _expect(images.shape, shape)
        # Where the images are numbers, now: of constants in a program the compiler would work it out, in seconds.
        with jax.ensure_compile_time_eval():
            patches = _patches(jnp.asarray(images, jnp.result_type(float)), shape[:-2])
            moment = patches.T @ patches / patches.shape[0]
        # Both are symmetric: eigh gives the eigenvalues in ascending order, those that round below 0 among them.
        values, vectors = jnp.linalg.eigh(moment)
        values, vectors = jnp.maximum(values[::-1], 0), vectors[:, ::-1]
        scaled = vectors / jnp.sqrt(values + trees.knob(eps, values))[None]
        half = scaled[:, : shape[-1] // 2]
        return jnp.concatenate([half, -half], axis=1).reshape(shape)

    return initializer


def _patches(images: jax.Array, window: Shape) -> jax.Array:
    """Every patch as a vector (patches, window x channels), in the order of a kernel's numbers."""
    sizes = [size - length + 1 for size, length in zip(images.shape[1:-1], window, strict=True)]
    starts = product(*map(range, window))
    cuts = [
        images[(slice(None), *(slice(i, i + n) for i, n in zip(at, sizes, strict=True)))]
        for at in starts
    ]
    return jnp.stack(cuts, -2).reshape(-1, prod(window) * images.shape[-1])


def _expect(images: Shape, kernel: Shape) -> None:
    window, seen = kernel[:-2], images[1:-1]
    if (
        len(kernel) != len(images)
        or kernel[-2] != images[-1]
        or any(w > s for w, s in zip(window, seen, strict=True))
    ):
        advice = "give images (batch, height, width, channels) as the layer sees them"
        raise ShapeError("whitening", f"a kernel that fits images {images}", kernel, advice)
    if kernel[-1] % 2 or kernel[-1] > 2 * prod(kernel[:-1]):
        advice = "each direction comes with its negative"
        raise ShapeError(
            "whitening",
            f"an even number of outputs, at most {2 * prod(kernel[:-1])}",
            kernel,
            advice,
        )
