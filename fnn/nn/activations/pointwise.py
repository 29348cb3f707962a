"""Activations: functions of each number alone, as layers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.plain import plain
from fnn.types import Layer, Number


def elementwise(function: Callable[[jax.Array], jax.Array]) -> Layer:
    """Any function that keeps its argument's shape, as a layer without parameters: y = f(x)."""

    name = getattr(function, "__name__", "elementwise")
    return plain(name, lambda shape: shape, lambda x: function(checks.floating(f"{name} x", x)))


def relu() -> Layer:
    """y = max(x, 0) [Nair & Hinton 2010]."""
    return elementwise(jax.nn.relu)


def leaky_relu(slope: Number = 0.01) -> Layer:
    """y = x for x > 0, else slope x [Maas et al. 2013]."""
    checks.number("leaky_relu slope", slope, "(-inf, inf)")

    def leaky_relu(x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, trees.knob(slope, x) * x)

    return elementwise(leaky_relu)


def elu(alpha: Number = 1.0) -> Layer:
    """y = x for x > 0, else alpha (exp(x) - 1) [Clevert et al. 2016, arXiv:1511.07289]."""
    checks.number("elu alpha", alpha, "(-inf, inf)")

    def elu(x: jax.Array) -> jax.Array:
        negative = jnp.where(x > 0, 0, x)  # so that the branch not taken cannot overflow, nor its gradient
        return jnp.where(x > 0, x, trees.knob(alpha, x) * jnp.expm1(negative))

    return elementwise(elu)


def gelu() -> Layer:
    """y = x Φ(x), with Φ the normal distribution function, exact [Hendrycks & Gimpel 2016, arXiv:1606.08415]."""

    def gelu(x: jax.Array) -> jax.Array:
        return jax.nn.gelu(x, approximate=False)

    return elementwise(gelu)


def silu() -> Layer:
    """y = x σ(x), also called swish [Elfwing et al. 2018, arXiv:1702.03118]."""
    return elementwise(jax.nn.silu)


def sigmoid() -> Layer:
    """y = 1 / (1 + exp(-x))."""
    return elementwise(jax.nn.sigmoid)


def tanh() -> Layer:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return elementwise(jnp.tanh)


def softplus() -> Layer:
    """y = log(1 + exp(x)), a smooth relu [Dugas et al. 2001]."""
    return elementwise(jax.nn.softplus)
