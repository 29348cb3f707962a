"""Beginnings that draw nothing: constants, and maps that pass their input through."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.initializers.random import expect_kernel
from fnn.types import Initializer, Number, Shape
from fnn.values import maker


@maker
def zeros() -> Initializer:
    """0 everywhere, as biases begin, and the last layer of a branch that shall begin as none."""
    return lambda key, shape: jnp.zeros(shape)


@maker
def constant(value: Number) -> Initializer:
    """The same value everywhere."""
    checks.number("constant value", value, "(-inf, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        ones = jnp.ones(shape)
        return trees.knob(value, ones) * ones

    return initializer


@maker
def identity(scale: Number = 1.0) -> Initializer:
    """A multiple of the identity, W_io = scale [i = o], for a matrix (inputs, outputs), square or not.

    As recurrent kernels of relu units begin. ShapeError for what is no matrix [Le et al. 2015, arXiv:1504.00941].
    """
    checks.number("identity scale", scale, "(-inf, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        if len(shape) != 2:
            raise ShapeError(
                "identity", "a matrix (inputs, outputs)", shape, "use nn.dirac for convolutions"
            )
        unit = jnp.eye(*shape)
        return trees.knob(scale, unit) * unit

    return initializer


@maker
def dirac(*, groups: int = 1) -> Initializer:
    """The kernel of a convolution that passes its channels through: within each group, output o is input o.

    shape (*field, inputs / groups, outputs): 1 at the middle of the field, places // 2 where their number is even, and
    0 elsewhere; with fewer inputs than outputs in a group, the outputs beyond begin at 0. With padding "SAME" and an
    odd field the convolution is the identity. ShapeError unless the groups divide the outputs
    [Zagoruyko & Komodakis 2017, arXiv:1706.00388].
    """
    checks.whole("dirac groups", groups)

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        *field, inputs, outputs = expect_kernel(shape)
        if outputs % groups:
            raise ShapeError(
                "dirac",
                f"outputs in groups={groups}",
                shape,
                "choose groups that divide the outputs",
            )
        through = jnp.tile(jnp.eye(inputs, outputs // groups), (1, groups))
        return jnp.zeros(shape).at[tuple(places // 2 for places in field)].set(through)

    return initializer
