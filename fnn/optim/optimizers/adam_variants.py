"""Variants of Adam that change one term."""

import jax.numpy as jnp

from fnn import checks
from fnn.optim.optimizers.adam import bias_corrections, expect_adam, moments
from fnn.optim.per_parameter import per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def amsgrad(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """AMSGrad: Adam over the largest second moment so far.

    x <- max(x, s), θ <- θ - rate m̂ / (√(x / (1 - b2ᵗ)) + eps). The maximum is of s before its
    correction, as in torch; optax takes that of ŝ [Reddi et al. 2018, arXiv:1904.09237].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0.
    """
    expect_adam("amsgrad", b1, b2, eps)

    def rule(g, p, m, s, x, h):
        m, s = moments(g, m, s, h)
        # The divisor never falls, which the proof of convergence needs.
        x = jnp.maximum(x, s)
        divisor = root(x / h.weight2) + h.eps
        return -h.rate * m / h.weight1 / divisor, m, s, x

    return per_parameter(
        "amsgrad",
        rule,
        rate,
        slots=zeros("mean", "square", "largest"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
    )


@maker
def adamax(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """AdaMax: Adam with a decayed maximum of |g| in place of the root of the second moment.

    x <- max(b2 x, |g| + eps), θ <- θ - rate m̂ / x. eps is added as in torch and optax; the paper
    does without it [Kingma & Ba 2015, arXiv:1412.6980, sec. 7.1].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the maximum, in [0, 1).
        eps: Added to |g|, > 0, so that x is never 0.
    """
    expect_adam("adamax", b1, b2, eps)

    def rule(g, p, m, x, h):
        m = running_mean(h.b1, m, g)
        x = jnp.maximum(h.b2 * x, jnp.abs(g) + h.eps)
        # A maximum has no bias towards its start at 0, so that only m is corrected.
        return -h.rate * m / h.weight1 / x, m, x

    return per_parameter(
        "adamax",
        rule,
        rate,
        slots=zeros("mean", "largest"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
    )


@maker
def nadam(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    momentum_decay: Number = 0.004,
) -> Optimizer:
    """NAdam: Adam with Nesterov momentum.

    θ <- θ - rate ((1 - μₜ) g / (1 - Πₜ) + μₜ₊₁ m / (1 - Πₜ₊₁)) / (√ŝ + eps), where Πₜ = μ₁ ... μₜ
    and μₜ = b1 (1 - 0.96^(t momentum_decay) / 2), as in the paper and torch; optax has a constant μ
    [Dozat 2016, ICLR workshop].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1), and the limit of μₜ.
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0.
        momentum_decay: How fast μₜ rises from b1 / 2 to b1, >= 0; the paper's value.
    """
    expect_adam("nadam", b1, b2, eps)
    checks.number("nadam momentum_decay", momentum_decay, "[0, inf)")

    def momentum_at(t, h):
        # 0.96 is a constant of the paper.
        return h.b1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay))

    def rule(g, p, m, s, product, h):
        m, s = moments(g, m, s, h)
        mu = momentum_at(h.t, h)
        next_mu = momentum_at(h.t + 1, h)
        # The correction of a decay that changes with t: Πₜ in place of b1ᵗ.
        product = product * mu  # Πₜ
        # The gradient counts with the μ of this step, the momentum with that of the next one.
        g_share = (1 - mu) / (1 - product)
        m_share = next_mu / (1 - product * next_mu)
        u = g_share * g + m_share * m
        divisor = root(s / h.weight2) + h.eps
        return -h.rate * u / divisor, m, s, product

    # An empty product is 1.
    slots = {**zeros("mean", "square"), "product": lambda p: jnp.ones((), p.dtype)}
    return per_parameter(
        "nadam",
        rule,
        rate,
        slots=slots,
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        momentum_decay=momentum_decay,
    )


@maker
def radam(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """RAdam: Adam with a warm-up that follows the variance of its second moment.

    While ρ = ρ∞ - 2 t b2ᵗ / (1 - b2ᵗ) <= 5, where ρ∞ = 2 / (1 - b2) - 1, θ <- θ - rate m̂. Then
    θ <- θ - rate r m̂ √(1 - b2ᵗ) / (√s + eps), where
    r² = (ρ - 4) (ρ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρ).
    eps is added before the correction, as in torch; optax adds it after
    [Liu et al. 2020, arXiv:1908.03265].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1); it decides how long the warm-up takes.
        eps: Added to √s, > 0.
    """
    expect_adam("radam", b1, b2, eps)

    def rule(g, p, m, s, h):
        m, s = moments(g, m, s, h)
        rho_inf = 2 / (1 - h.b2) - 1
        # b2ᵗ / (1 - b2ᵗ) = 1 / (1 - b2ᵗ) - 1
        odds = 1 / h.weight2 - 1
        rho = rho_inf - 2 * h.t * odds
        rectify = rho > 5
        # Before that r² may be negative. Any values > 4 keep
        # its root, and the derivative of the root, finite.
        rho = jnp.where(rectify, rho, 6.0)
        rho_inf = jnp.where(rectify, rho_inf, 6.0)
        above = (rho - 4) * (rho - 2) * rho_inf
        below = (rho_inf - 4) * (rho_inf - 2) * rho
        r = root(above / below)
        divisor = root(s) + h.eps
        adaptive = r * root(h.weight2) / divisor
        scale = jnp.where(rectify, adaptive, 1)
        return -h.rate * m / h.weight1 * scale, m, s

    return per_parameter(
        "radam",
        rule,
        rate,
        slots=zeros("mean", "square"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
    )


@maker
def adabelief(
    rate: Rate,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-16,
    eps_root: Number = 1e-16,
) -> Optimizer:
    """AdaBelief: Adam with the variance of the gradient in place of the second moment.

    s <- b2 s + (1 - b2) (g - m)² + eps_root, θ <- θ - rate
    m̂ / (√ŝ + eps) [Zhuang et al. 2020, arXiv:2010.07468].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the variance, in [0, 1).
        eps: Added outside of the root, > 0; as in optax.
        eps_root: Added to s at every step, >= 0; as in optax.
    """
    expect_adam("adabelief", b1, b2, eps, eps_root)

    def rule(g, p, m, s, h):
        m = running_mean(h.b1, m, g)
        # eps_root is part of s and adds up, as in the
        # paper; in Adam it is added under the root alone.
        variance = running_mean(h.b2, s, jnp.square(g - m))
        s = variance + h.eps_root
        divisor = root(s / h.weight2) + h.eps
        return -h.rate * m / h.weight1 / divisor, m, s

    return per_parameter(
        "adabelief",
        rule,
        rate,
        slots=zeros("mean", "surprise"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
    )


@maker
def yogi(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-3, initial: Number = 1e-6
) -> Optimizer:
    """Yogi: Adam whose second moment changes by at most (1 - b2) g² a step.

    s <- s - (1 - b2) sign(s - g²) g², θ <- θ - rate m̂ / (√ŝ + eps). m and s begin at `initial`, as
    in optax [Zaheer et al. 2018, NeurIPS].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        eps: Added outside of the root, > 0; the paper's value.
        initial: The first value of m and s, >= 0.
    """
    expect_adam("yogi", b1, b2, eps)
    checks.number("yogi initial", initial, "[0, inf)")

    def rule(g, p, m, s, h):
        # The slots are 0 in the state of init; the first step begins at `initial`.
        first = h.t == 1
        m = jnp.where(first, h.initial, m)
        s = jnp.where(first, h.initial, s)
        m = running_mean(h.b1, m, g)
        # Adam's s moves by (1 - b2) (g² - s); here only the sign of the difference counts.
        square = jnp.square(g)
        sign = jnp.sign(s - square)
        s = s - (1 - h.b2) * sign * square
        divisor = root(s / h.weight2) + h.eps
        return -h.rate * m / h.weight1 / divisor, m, s

    return per_parameter(
        "yogi",
        rule,
        rate,
        slots=zeros("mean", "square"),
        per_step=bias_corrections(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        initial=initial,
    )
