"""Initializers without random draws: constants, the identity and the identity convolution."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.initializers.random import expect_kernel
from fnn.types import Initializer, Number, Shape
from fnn.values import maker


@maker
def zeros() -> Initializer:
    """All zeros: for biases, and for the last layer of a branch that begins without effect."""
    # The key is not used: nothing is drawn.
    return lambda key, shape: jnp.zeros(shape)


@maker
def constant(value: Number) -> Initializer:
    """The same value everywhere.

    Args:
        value: Any finite number.

    Raises:
        ConfigError: `value` is not a finite number.
    """
    checks.number("constant value", value, "(-inf, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        # A product instead of jnp.full keeps the default dtype for a traced value.
        ones = jnp.ones(shape)
        return trees.knob(value, ones) * ones

    return initializer


@maker
def identity(scale: Number = 1.0) -> Initializer:
    """Scaled identity matrix (inputs, outputs): W_io = scale [i = o]; it need not be square.

    For recurrent kernels of ReLU units [Le et al. 2015, arXiv:1504.00941].

    Args:
        scale: Value of the diagonal, any finite number.

    Raises:
        ConfigError: `scale` is not a finite number.
        ShapeError: The parameter is not a matrix.
    """
    checks.number("identity scale", scale, "(-inf, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        if len(shape) != 2:
            raise ShapeError(
                "identity",
                "a matrix (inputs, outputs)",
                shape,
                "use nn.dirac for convolutions",
            )
        unit = jnp.eye(*shape)
        return trees.knob(scale, unit) * unit

    return initializer


@maker
def dirac(*, groups: int = 1) -> Initializer:
    """Kernel of a convolution that passes its channels through: output o of a group is input o.

    The kernel (*window, inputs / groups, outputs) is 1 at the center of the window, at size // 2
    for an even size, and 0 elsewhere. Outputs beyond the inputs of a group are 0. With
    padding="SAME" and an odd window the convolution is the identity
    [Zagoruyko & Komodakis 2017, arXiv:1706.00388].

    Args:
        groups: Number of groups of the convolution.

    Raises:
        ConfigError: `groups` is not a whole number >= 1.
        ShapeError: The parameter is not a kernel, or the groups do not divide its outputs.
    """
    checks.whole("dirac groups", groups)

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        # `inputs` are those of one group, `outputs` those of all groups.
        *window, inputs, outputs = expect_kernel(shape)
        if outputs % groups:
            raise ShapeError(
                "dirac",
                f"outputs in groups={groups}",
                shape,
                "choose groups that divide the outputs",
            )
        # (inputs, outputs): one identity for each group, next to each other
        identities = jnp.tile(jnp.eye(inputs, outputs // groups), (1, groups))
        center = tuple(size // 2 for size in window)
        return jnp.zeros(shape).at[center].set(identities)

    return initializer
