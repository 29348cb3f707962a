"""Random rotations."""

from math import prod

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.initializers.scaled import expect_kernel
from fnn.types import Initializer, Number, Shape
from fnn.values import maker


@maker
def orthogonal(gain: Number = 1.0) -> Initializer:
    """Orthonormal columns, or rows if there are more columns, drawn uniformly among all such matrices, times the gain.

    A kernel (..., inputs, outputs) is taken as the matrix W (fan_in, outputs): WᵀW = gain² I where fan_in >= outputs,
    W Wᵀ = gain² I otherwise. ShapeError for what is no kernel [Saxe et al. 2014, arXiv:1312.6120].
    """
    checks.number("orthogonal gain", gain, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        sizes = prod(expect_kernel(shape)[:-1]), shape[-1]
        draws = jax.random.normal(key, (prod(sizes),), jnp.result_type(float))
        q, r = jnp.linalg.qr(draws.reshape(max(sizes), min(sizes)))
        # QR fixes q up to the signs of its columns; with r's diagonal positive, q is uniform [Mezzadri 2007].
        q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(q.dtype)[None]
        return trees.knob(gain, q) * (q if sizes[0] >= sizes[1] else q.T).reshape(shape)

    return initializer
