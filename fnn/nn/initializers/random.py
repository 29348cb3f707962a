"""Random initializers: variance scaling (Xavier, He, LeCun), normal and orthogonal."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.types import Initializer, Number, Shape
from fnn.values import maker

FANS: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
CUT_STD = 0.87962566103423978  # of N(0, 1) cut at ±2: √(1 - 4 φ(2) / (2 Φ(2) - 1))


@maker
def normal(std: Number = 0.01) -> Initializer:
    """N(0, std²)."""
    return _times("normal", std, _standard_normal)


@maker
def truncated_normal(std: Number = 0.02) -> Initializer:
    """A normal distribution cut at two of its standard deviations, and then scaled so that the draws have this std.

    Nothing lies beyond 2.27 std. ConfigError unless std >= 0.
    """
    return _times("truncated_normal", std, _standard_truncated)


@maker
def variance_scaling(
    scale: Number = 1.0, *, mode: str = "fan_in", distribution: str = "normal"
) -> Initializer:
    """Draws of mean 0 and variance scale / fan, from which the others here are made.

    mode: fan_in, fan_out or fan_avg, the mean of both; distribution: normal, truncated or uniform. ConfigError
    unless scale > 0; ShapeError for what is no kernel (..., inputs, outputs) [He et al. 2015, arXiv:1502.01852].
    """
    checks.number("variance_scaling scale", scale, "(0, inf)")
    for option, value, known in (("mode", mode, FANS), ("distribution", distribution, DRAWS)):
        if value not in known:
            raise ConfigError(
                f"variance_scaling {option}",
                f"one of {', '.join(known)}",
                repr(value),
                "choose one",
            )

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        field = prod(expect_kernel(shape)[:-2])
        unit = DRAWS[distribution](key, shape)
        return (
            trees.knob(scale, unit) / FANS[mode](field * shape[-2], field * shape[-1])
        ) ** 0.5 * unit

    return initializer


@maker
def he_normal() -> Initializer:
    """N(0, 2 / fan_in), also called Kaiming's: keeps the variance through relu [He et al. 2015, arXiv:1502.01852]."""
    return variance_scaling(2)


@maker
def he_uniform() -> Initializer:
    """U(-a, a) of variance 2 / fan_in, also called Kaiming's [He et al. 2015, arXiv:1502.01852]."""
    return variance_scaling(2, distribution="uniform")


@maker
def xavier_normal() -> Initializer:
    """N(0, 2 / (fan_in + fan_out)), also called Glorot's: for both directions at once [Glorot & Bengio 2010]."""
    return variance_scaling(1, mode="fan_avg")


@maker
def xavier_uniform() -> Initializer:
    """U(-a, a) of variance 2 / (fan_in + fan_out), also called Glorot's [Glorot & Bengio 2010]."""
    return variance_scaling(1, mode="fan_avg", distribution="uniform")


@maker
def lecun_normal() -> Initializer:
    """N(0, 1 / fan_in): keeps the variance through a linear map [LeCun et al. 1998, Efficient BackProp]."""
    return variance_scaling(1)


@maker
def lecun_uniform() -> Initializer:
    """U(-a, a) of variance 1 / fan_in [LeCun et al. 1998, Efficient BackProp]."""
    return variance_scaling(1, distribution="uniform")


def expect_kernel(shape: Shape) -> Shape:
    """The shape, if it is a kernel's (..., inputs, outputs); ShapeError otherwise."""
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(
            "initializer",
            "a kernel shape (..., inputs, outputs)",
            shape,
            "use nn.normal for others",
        )
    return shape


def _times(name: str, std: Number, draw: Initializer) -> Initializer:
    checks.number(f"{name} std", std, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        unit = draw(key, shape)
        return trees.knob(std, unit) * unit

    return initializer


# Each of mean 0 and variance 1. Drawn flat: the same numbers as for the shape itself, in half the time to compile.
def _standard_normal(key: jax.Array, shape: Shape) -> jax.Array:
    return jax.random.normal(key, (prod(shape),), jnp.result_type(float)).reshape(shape)


def _standard_truncated(key: jax.Array, shape: Shape) -> jax.Array:
    flat = jax.random.truncated_normal(key, -2, 2, (prod(shape),), jnp.result_type(float))
    return flat.reshape(shape) / CUT_STD


def _standard_uniform(key: jax.Array, shape: Shape) -> jax.Array:
    bound = 3**0.5  # U(-√3, √3) has variance 1
    return jax.random.uniform(key, (prod(shape),), jnp.result_type(float), -bound, bound).reshape(
        shape
    )


DRAWS: dict[str, Initializer] = {
    "normal": _standard_normal,
    "truncated": _standard_truncated,
    "uniform": _standard_uniform,
}


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
