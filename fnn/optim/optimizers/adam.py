"""Adam, AdamW, and the parts of Adam that other optimizers share."""

from types import SimpleNamespace

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.per_parameter import PerStep, per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate, Scalar
from fnn.values import maker


@maker
def adam(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8, eps_root: Number = 0.0
) -> Optimizer:
    """Adam: bias-corrected first moment over the root of the second.

    m <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g²; θ <- θ - rate m̂ / (√(ŝ + eps_root) + eps),
    where m̂ = m / (1 - b1ᵗ) and ŝ = s / (1 - b2ᵗ) [Kingma & Ba 2015, arXiv:1412.6980].

    Args:
        rate: A number >= 0, or a schedule; 1e-3 in the paper.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0; the paper's value.
        eps_root: Added inside of the root, >= 0; 0 in the paper. For gradients through training.
    """
    expect_adam("adam", b1, b2, eps, eps_root)

    def rule(g, p, m, s, h):
        m, s = moments(g, m, s, h)
        # m̂ / (√(ŝ + eps_root) + eps)
        u = direction(m, s, h, h.eps_root)
        return -h.rate * u, m, s

    return per_parameter(
        "adam",
        rule,
        rate,
        slots=zeros("mean", "square"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
    )


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
    """AdamW: Adam with weight decay outside of the gradient.

    θ <- θ - rate (m̂ / (√(ŝ + eps_root) + eps) + weight_decay θ), with
    m̂ and ŝ of `adam`. To decay only some of the parameters, wrap adam
    in optim.weight_decay [Loshchilov & Hutter 2019, arXiv:1711.05101].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0.
        eps_root: Added inside of the root, >= 0.
        weight_decay: Share of θ that a rate of 1 subtracts, >= 0; torch's default.
    """
    expect_adam("adamw", b1, b2, eps, eps_root)
    checks.number("adamw weight_decay", weight_decay, "[0, inf)")

    def rule(g, p, m, s, h):
        m, s = moments(g, m, s, h)
        # The decay is not divided by √ŝ, which a penalty in the gradient would be.
        u = direction(m, s, h, h.eps_root) + h.weight_decay * p
        return -h.rate * u, m, s

    return per_parameter(
        "adamw",
        rule,
        rate,
        slots=zeros("mean", "square"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        weight_decay=weight_decay,
    )


def moments(g: Array, m: Array, s: Array, h: SimpleNamespace) -> tuple[Array, Array]:
    """Update the running means of the gradient and of its square."""
    m = running_mean(h.b1, m, g)
    s = running_mean(h.b2, s, jnp.square(g))
    return m, s


def direction(m: Array, s: Array, h: SimpleNamespace, eps_root: Number = 0.0) -> Array:
    """Adam's step before the rate, m̂ / (√(ŝ + eps_root) + eps)."""
    # √(ŝ + eps_root) + eps, with ŝ = s / (1 - b2ᵗ)
    divisor = root(s / h.weight2 + eps_root) + h.eps
    return m / h.weight1 / divisor


def bias_corrections(b1: Number, b2: Number) -> PerStep:
    """The divisors of both moments: h.weight1 = 1 - b1ᵗ and h.weight2 = 1 - b2ᵗ."""
    return {
        "weight1": lambda t: bias_correction(b1, t),
        "weight2": lambda t: bias_correction(b2, t),
    }


def bias_correction(decay: Number, t: Scalar) -> Scalar:
    """1 - decayᵗ, the total weight in a running mean from 0 after t steps."""
    # t has the dtype of the array, so that each array is corrected in its precision.
    decay = jnp.asarray(decay, t.dtype)
    positive = decay > 0
    # log(0) is kept out of both branches, so that derivatives stay finite. 1 - 0ᵗ is 1.
    safe_decay = jnp.where(positive, decay, 0.5)
    # 1 - exp(t log(decay)) by expm1 and log1p: the plain difference cancels where decayᵗ is near 1.
    log_decay = jnp.log1p(safe_decay - 1)
    return jnp.where(positive, -jnp.expm1(t * log_decay), 1)


def expect_adam(name: str, b1: Number, b2: Number, eps: Number, eps_root: Number = 0.0) -> None:
    """Raise ConfigError for a hyperparameter of Adam that is out of range."""
    checks.number(f"{name} b1", b1, "[0, 1)")
    checks.number(f"{name} b2", b2, "[0, 1)")
    checks.number(f"{name} eps", eps, "(0, inf)")
    checks.number(f"{name} eps_root", eps_root, "[0, inf)")
