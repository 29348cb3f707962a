"""Random initializers: variance scaling (Xavier, He, LeCun), normal and orthogonal."""

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.types import Initializer, KernelInitializer, Number, Shape
from fnn.values import maker
from fnn.xla import in_sequence

_qr = in_sequence(jnp.linalg.qr)

FANS: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
# Standard deviation of N(0, 1) truncated at ±2: √(1 - 4 φ(2) / (2 Φ(2) - 1)).
TRUNCATED_STD = 0.87962566103423978


@maker
def normal(std: Number = 0.01) -> Initializer:
    """Normal distribution N(0, std²).

    Args:
        std: Standard deviation, >= 0.

    Raises:
        ConfigError: `std` is not a number >= 0.
    """
    return _scaled("normal", std, _standard_normal)


@maker
def truncated_normal(std: Number = 0.02) -> Initializer:
    """Normal distribution truncated at two standard deviations, then scaled to std.

    All draws are within 2.27 std.

    Args:
        std: Standard deviation of the draws, >= 0.

    Raises:
        ConfigError: `std` is not a number >= 0.
    """
    return _scaled("truncated_normal", std, _standard_truncated)


@maker
def variance_scaling(
    scale: Number = 1.0,
    *,
    mode: str = "fan_in",
    distribution: str = "normal",
) -> Initializer:
    """Draws of mean 0 and variance scale / fan, for kernels (..., inputs, outputs).

    fan_in is the number of inputs times the size of the window, fan_out the same for outputs, both
    of one group of a grouped convolution [He et al. 2015, arXiv:1502.01852].

    Args:
        scale: Variance times fan, > 0.
        mode: "fan_in", "fan_out" or "fan_avg", the mean of both.
        distribution: "normal", "truncated" (at two standard deviations) or "uniform".

    Raises:
        ConfigError: An option is out of range.
        ShapeError: The parameter is not a kernel.
    """
    checks.number("variance_scaling scale", scale, "(0, inf)")
    _expect_one_of("variance_scaling mode", mode, list(FANS))
    _expect_one_of("variance_scaling distribution", distribution, list(STANDARD_DRAWS))

    def draw(key: jax.Array, shape: Shape, groups: int) -> jax.Array:
        *window, inputs, outputs = expect_kernel(shape)
        # Each input reaches an output by every position of the window.
        size = prod(window)
        unit = STANDARD_DRAWS[distribution](key, shape)
        fan = FANS[mode](size * inputs, size * outputs // groups)
        variance = trees.knob(scale, unit) / fan
        return variance**0.5 * unit

    return KernelInitializer(draw)


@maker
def he_normal() -> Initializer:
    """He (Kaiming) initialization N(0, 2 / fan_in): keeps the variance through ReLU.

    [He et al. 2015, arXiv:1502.01852]
    """
    return variance_scaling(2)


@maker
def he_uniform() -> Initializer:
    """He (Kaiming) initialization U(-a, a) of variance 2 / fan_in.

    [He et al. 2015, arXiv:1502.01852]
    """
    return variance_scaling(2, distribution="uniform")


@maker
def xavier_normal() -> Initializer:
    """Xavier (Glorot) initialization N(0, 2 / (fan_in + fan_out)) [Glorot & Bengio 2010].

    It is a compromise between the variances of outputs and of gradients.
    """
    return variance_scaling(1, mode="fan_avg")


@maker
def xavier_uniform() -> Initializer:
    """Xavier (Glorot) initialization U(-a, a) of variance 2 / (fan_in + fan_out).

    [Glorot & Bengio 2010]
    """
    return variance_scaling(1, mode="fan_avg", distribution="uniform")


@maker
def lecun_normal() -> Initializer:
    """LeCun initialization N(0, 1 / fan_in): keeps the variance through a linear map.

    [LeCun et al. 1998, Efficient BackProp]
    """
    return variance_scaling(1)


@maker
def lecun_uniform() -> Initializer:
    """LeCun initialization U(-a, a) of variance 1 / fan_in.

    [LeCun et al. 1998, Efficient BackProp]
    """
    return variance_scaling(1, distribution="uniform")


@maker
def orthogonal(gain: Number = 1.0) -> Initializer:
    """Orthonormal columns, or rows if there are more columns, times the gain.

    The draw is uniform among all such matrices. A kernel (..., inputs, outputs) is the matrix W
    (fan_in, outputs): WᵀW = gain² I where fan_in >= outputs, W Wᵀ = gain² I otherwise. A grouped
    kernel is one such matrix for each group [Saxe et al. 2014, arXiv:1312.6120].

    Args:
        gain: Factor of the matrix, >= 0.

    Raises:
        ConfigError: `gain` is not a number >= 0.
        ShapeError: The parameter is not a kernel.
    """
    checks.number("orthogonal gain", gain, "[0, inf)")

    def of_one_group(key: jax.Array, shape: Shape) -> jax.Array:
        # (..., inputs, outputs) -> (fan_in, outputs)
        rows = prod(expect_kernel(shape)[:-1])
        columns = shape[-1]
        flat = jax.random.normal(key, (rows * columns,), jnp.result_type(float))
        # QR needs at least as many rows as columns; a wide kernel is drawn transposed.
        tall = flat.reshape(max(rows, columns), min(rows, columns))
        q, r = _qr(tall)
        # QR fixes q up to the signs of its columns; with r's diagonal positive, q is uniform
        # [Mezzadri 2007].
        signs = jnp.where(jnp.diagonal(r) < 0, -1, 1)
        q = q * signs.astype(q.dtype)[None]
        scale = trees.knob(gain, q)
        matrix = q if rows >= columns else q.T
        return scale * matrix.reshape(shape)

    def draw(key: jax.Array, shape: Shape, groups: int) -> jax.Array:
        if groups == 1:
            return of_one_group(key, shape)
        *rest, outputs = expect_kernel(shape)
        group_shape = (*rest, outputs // groups)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(groups))
        kernels = jax.vmap(lambda key: of_one_group(key, group_shape))(keys)
        # (groups, ..., outputs of a group) -> (..., groups, outputs of a group) -> (..., outputs)
        return jnp.moveaxis(kernels, 0, -2).reshape(shape)

    return KernelInitializer(draw)


def expect_kernel(shape: Shape) -> Shape:
    """Return the shape; ShapeError unless it is that of a kernel (..., inputs, outputs)."""
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(
            "initializer",
            "a kernel shape (..., inputs, outputs)",
            shape,
            "use nn.normal for others",
        )
    return shape


def _expect_one_of(where: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ConfigError(
            where,
            f"one of {', '.join(choices)}",
            repr(value),
            "choose one",
        )


def _scaled(name: str, std: Number, draw: Initializer) -> Initializer:
    """Return draws of variance 1 times std."""
    checks.number(f"{name} std", std, "[0, inf)")

    def initializer(key: jax.Array, shape: Shape) -> jax.Array:
        # A product outside of the draw: a traced std costs one compilation.
        unit = draw(key, shape)
        return trees.knob(std, unit) * unit

    return initializer


# Draws of mean 0 and variance 1. They are drawn flat: the same numbers as for the shape itself, in
# half the time to compile.


def _standard_normal(key: jax.Array, shape: Shape) -> jax.Array:
    flat = jax.random.normal(key, (prod(shape),), jnp.result_type(float))
    return flat.reshape(shape)


def _standard_truncated(key: jax.Array, shape: Shape) -> jax.Array:
    flat = jax.random.truncated_normal(key, -2, 2, (prod(shape),), jnp.result_type(float))
    return flat.reshape(shape) / TRUNCATED_STD


def _standard_uniform(key: jax.Array, shape: Shape) -> jax.Array:
    bound = 3**0.5  # U(-√3, √3) has variance 1
    flat = jax.random.uniform(key, (prod(shape),), jnp.result_type(float), -bound, bound)
    return flat.reshape(shape)


STANDARD_DRAWS: dict[str, Initializer] = {
    "normal": _standard_normal,
    "truncated": _standard_truncated,
    "uniform": _standard_uniform,
}
