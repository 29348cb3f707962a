"""How parameters begin: each maker returns (key, shape) -> array.

A kernel's shape ends in (inputs, outputs); what stands before is its receptive field. So
fan_in = receptive field x inputs, and fan_out = receptive field x outputs.
"""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.types import Initializer, Number, Shape


def normal(std: Number = 0.01) -> Initializer:
    """N(0, std²)."""
    checks.number("normal std", std, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        unit = _standard_normal(key, shape)
        return trees.knob(std, unit) * unit

    return initializer


def he_normal() -> Initializer:
    """N(0, 2 / fan_in): keeps the variance through relu [He et al. 2015, arXiv:1502.01852]."""
    return _scaled(_standard_normal, lambda fan_in, fan_out: 2 / fan_in)


def he_uniform() -> Initializer:
    """U(-a, a) of variance 2 / fan_in: keeps the variance through relu [He et al. 2015, arXiv:1502.01852]."""
    return _scaled(_standard_uniform, lambda fan_in, fan_out: 2 / fan_in)


def xavier_normal() -> Initializer:
    """N(0, 2 / (fan_in + fan_out)): a compromise of forward and backward variance [Glorot & Bengio 2010]."""
    return _scaled(_standard_normal, lambda fan_in, fan_out: 2 / (fan_in + fan_out))


def xavier_uniform() -> Initializer:
    """U(-a, a) of variance 2 / (fan_in + fan_out) [Glorot & Bengio 2010]."""
    return _scaled(_standard_uniform, lambda fan_in, fan_out: 2 / (fan_in + fan_out))


def lecun_normal() -> Initializer:
    """N(0, 1 / fan_in): keeps the variance through a linear map [LeCun et al. 1998, Efficient BackProp]."""
    return _scaled(_standard_normal, lambda fan_in, fan_out: 1 / fan_in)


def _scaled(draw: Initializer, variance: Callable[[int, int], float]) -> Initializer:
    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        if len(shape) < 2 or 0 in shape:
            raise ShapeError("initializer", "a kernel shape (..., inputs, outputs)", shape, "use nn.normal for others")
        field = prod(shape[:-2])
        return variance(field * shape[-2], field * shape[-1]) ** 0.5 * draw(key, shape)

    return initializer


# Drawn flat: the same numbers as for the shape itself, in half the time to compile.
def _standard_normal(key: jax.Array, shape: Shape) -> jax.Array:
    return jax.random.normal(key, (prod(shape),), jnp.result_type(float)).reshape(shape)


def _standard_uniform(key: jax.Array, shape: Shape) -> jax.Array:
    bound = 3**0.5  # U(-√3, √3) has variance 1
    return jax.random.uniform(key, (prod(shape),), jnp.result_type(float), -bound, bound).reshape(shape)
