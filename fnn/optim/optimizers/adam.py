"""Adam, and Adam with weight decay."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.per_parameter import Timed, lift, root, zeros
from fnn.types import Number, Optimizer, Rate, Scalar
from fnn.values import maker


@maker
def adam(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, eps_root: Number = 0.0
) -> Optimizer:
    """Momentum over root mean square, both freed of their start at 0.

    m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g²; θ <- θ - rate m̂ / (√(ŝ + eps_root) + eps), where
    m̂ = m / (1 - b1ᵗ) and ŝ = s / (1 - b2ᵗ) [Kingma & Ba 2015, arXiv:1412.6980].
    """
    expect_adam("adam", b1, b2, eps, eps_root)

    def rule(g, p, m, s, rate, t, b1, b2, eps, eps_root, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        return -rate * direction(m, s, w1, w2, eps, eps_root), m, s

    knobs = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
    return lift("adam", rule, rate, slots=zeros("mean", "square"), timed=weights(b1, b2), **knobs)


@maker
def adamw(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    weight_decay: Number = 0.01,
) -> Optimizer:
    """Adam with weight decay beside the gradient instead of in it: θ <- θ - rate (m̂ / (√ŝ + eps) + weight_decay θ).

    To decay some of the parameters only, wrap adam in optim.weight_decay [Loshchilov & Hutter 2019, arXiv:1711.05101].
    """
    expect_adam("adamw", b1, b2, eps, eps_root)
    checks.number("adamw weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, rate, t, b1, b2, eps, eps_root, weight_decay, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        return -rate * (direction(m, s, w1, w2, eps, eps_root) + weight_decay * p), m, s

    knobs = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root, "weight_decay": weight_decay}
    return lift("adamw", rule, rate, slots=zeros("mean", "square"), timed=weights(b1, b2), **knobs)


def moments(
    g: jax.Array, m: jax.Array, s: jax.Array, b1: Number, b2: Number
) -> tuple[jax.Array, jax.Array]:
    """The running means of the gradient and of its square."""
    return b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * jnp.square(g)


def direction(
    m: jax.Array, s: jax.Array, w1: Scalar, w2: Scalar, eps: Number, eps_root: Number = 0.0
) -> jax.Array:
    """m̂ / (√(ŝ + eps_root) + eps), where the means hold the weights w1 and w2."""
    return m / w1 / (root(s / w2 + eps_root) + eps)


def weights(b1: Number, b2: Number) -> Timed:
    """The weights 1 - b1ᵗ and 1 - b2ᵗ of both means, as numbers of time."""
    return {"w1": lambda t: weight(b1, t), "w2": lambda t: weight(b2, t)}


def weight(decay: Number, t: Scalar) -> Scalar:
    """1 - decayᵗ, the weight that a running mean holds after t steps, exact in float32 for decays near 1 as well."""
    decay = jnp.asarray(decay, t.dtype)
    remembers = decay > 0
    return jnp.where(remembers, -jnp.expm1(t * jnp.log1p(jnp.where(remembers, decay, 0.5) - 1)), 1)


def expect_adam(name: str, b1: Number, b2: Number, eps: Number, eps_root: Number = 0.0) -> None:
    """Raise ConfigError for a number of Adam's that is out of range."""
    checks.number(f"{name} b1", b1, "[0, 1)")
    checks.number(f"{name} b2", b2, "[0, 1)")
    checks.number(f"{name} eps", eps, "(0, inf)")
    checks.number(f"{name} eps_root", eps_root, "[0, inf)")
