"""What differs from Adam by a term."""

import jax.numpy as jnp

from fnn import checks
from fnn.optim.optimizers.adam import expect_adam, moments, weights
from fnn.optim.per_parameter import lift, root, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def amsgrad(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """Adam over the largest mean square so far, x <- max(x, s), θ <- θ - rate m̂ / (√(x / (1 - b2ᵗ)) + eps).

    The maximum is of s before its correction, as in torch; optax takes that of ŝ [Reddi et al. 2018,
    arXiv:1904.09237].
    """
    expect_adam("amsgrad", b1, b2, eps)

    def rule(g, p, m, s, x, rate, t, b1, b2, eps, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        x = jnp.maximum(x, s)
        return -rate * m / w1 / (root(x / w2) + eps), m, s, x

    return lift(
        "amsgrad",
        rule,
        rate,
        slots=zeros("mean", "square", "largest"),
        timed=weights(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
    )


@maker
def adamax(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """Adam by the maximum norm, x <- max(b2 x, |g| + eps), θ <- θ - rate m̂ / x.

    eps stands where torch and optax have it; the paper has none [Kingma & Ba 2015, arXiv:1412.6980, sec. 7.1].
    """
    expect_adam("adamax", b1, b2, eps)

    def rule(g, p, m, x, rate, t, b1, b2, eps, w1, w2):
        m = b1 * m + (1 - b1) * g
        x = jnp.maximum(b2 * x, jnp.abs(g) + eps)
        return -rate * m / w1 / x, m, x

    return lift(
        "adamax",
        rule,
        rate,
        slots=zeros("mean", "largest"),
        timed=weights(b1, b2),
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
    """Adam that looks ahead, θ <- θ - rate ((1 - μₜ) g / (1 - Πₜ) + μₜ₊₁ m / (1 - Πₜ₊₁)) / (√ŝ + eps).

    μₜ = b1 (1 - 0.96^(t momentum_decay) / 2) and Πₜ = μ₁ ... μₜ, as in the paper and torch; optax has a constant μ
    [Dozat 2016, ICLR workshop].
    """
    expect_adam("nadam", b1, b2, eps)
    checks.number("nadam momentum_decay", momentum_decay, "[0, inf)")

    def rule(g, p, m, s, product, rate, t, b1, b2, eps, momentum_decay, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        now, next_ = (b1 * (1 - 0.5 * 0.96 ** (time * momentum_decay)) for time in (t, t + 1))
        product = product * now
        ahead = (1 - now) / (1 - product) * g + next_ / (1 - product * next_) * m
        return -rate * ahead / (root(s / w2) + eps), m, s, product

    slots = {**zeros("mean", "square"), "product": lambda p: jnp.ones((), p.dtype)}
    return lift(
        "nadam",
        rule,
        rate,
        slots=slots,
        timed=weights(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        momentum_decay=momentum_decay,
    )


@maker
def radam(rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-8) -> Optimizer:
    """Adam that is momentum until its mean square is to be trusted, and then is warmed up by r.

    θ <- θ - rate m̂ while ρ = ρ∞ - 2 t b2ᵗ / (1 - b2ᵗ) <= 5, where ρ∞ = 2 / (1 - b2) - 1; from then on
    θ <- θ - rate r m̂ √(1 - b2ᵗ) / (√s + eps), r² = (ρ - 4) (ρ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρ). eps is added before
    the correction, as in torch; optax adds it after [Liu et al. 2020, arXiv:1908.03265].
    """
    expect_adam("radam", b1, b2, eps)

    def rule(g, p, m, s, rate, t, b1, b2, eps, w1, w2):
        m, s = moments(g, m, s, b1, b2)
        full, fresh = 2 / (1 - b2) - 1, w2
        length = full - 2 * t * (1 / fresh - 1)
        trusted = length > 5
        long, top = (
            jnp.where(trusted, value, 6.0) for value in (length, full)
        )  # the root of a positive number
        warm = root((long - 4) * (long - 2) * top / ((top - 4) * (top - 2) * long))
        scale = jnp.where(trusted, warm * root(fresh) / (root(s) + eps), 1)
        return -rate * m / w1 * scale, m, s

    return lift(
        "radam",
        rule,
        rate,
        slots=zeros("mean", "square"),
        timed=weights(b1, b2),
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
    """Adam by how far the gradient is from what was expected, s <- b2 s + (1 - b2) (g - m)² + eps_root.

    θ <- θ - rate m̂ / (√ŝ + eps), as Adam [Zhuang et al. 2020, arXiv:2010.07468].
    """
    expect_adam("adabelief", b1, b2, eps, eps_root)

    def rule(g, p, m, s, rate, t, b1, b2, eps, eps_root, w1, w2):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * jnp.square(g - m) + eps_root
        return -rate * m / w1 / (root(s / w2) + eps), m, s

    return lift(
        "adabelief",
        rule,
        rate,
        slots=zeros("mean", "surprise"),
        timed=weights(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
    )


@maker
def yogi(
    rate: Rate, *, b1: Number = 0.9, b2: Number = 0.999, eps: Number = 1e-3, initial: Number = 1e-6
) -> Optimizer:
    """Adam whose mean square moves by g² at most, s <- s - (1 - b2) sign(s - g²) g².

    m and s begin at initial, as in optax; θ <- θ - rate m̂ / (√ŝ + eps) [Zaheer et al. 2018, NeurIPS].
    """
    expect_adam("yogi", b1, b2, eps)
    checks.number("yogi initial", initial, "[0, inf)")

    def rule(g, p, m, s, rate, t, b1, b2, eps, initial, w1, w2):
        first = t == 1
        m, s = (jnp.where(first, initial, slot) for slot in (m, s))
        m, square = b1 * m + (1 - b1) * g, jnp.square(g)
        s = s - (1 - b2) * jnp.sign(s - square) * square
        return -rate * m / w1 / (root(s / w2) + eps), m, s

    return lift(
        "yogi",
        rule,
        rate,
        slots=zeros("mean", "square"),
        timed=weights(b1, b2),
        b1=b1,
        b2=b2,
        eps=eps,
        initial=initial,
    )
