"""Momentum whose matrices are made orthogonal."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.optimizers.adam import direction, expect_adam, moments, weights
from fnn.optim.per_parameter import lift, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker

# Of the quintic a x + b x³ + c x⁵, which draws singular values from (0, 1] to between 0.7 and 1.2 in 5 rounds [Jordan].
QUINTIC = 3.4445, -4.7750, 2.0315
SCALES = ("rms", "spectral")


@maker
def muon(
    rate: Rate,
    *,
    momentum: Number = 0.95,
    nesterov: bool = True,
    rounds: int = 5,
    scale: str = "rms",
    weight_decay: Number = 0.0,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    stacked: bool = False,
) -> Optimizer:
    """Momentum with all singular values near 1, for kernels; Adam (b1, b2, eps) for arrays of fewer than two axes.

    m <- μ m + (1 - μ) g with the momentum μ, u = μ m + (1 - μ) g with nesterov, else m; with U V the singular
    vectors of u
    as a matrix (inputs, outputs), found by `rounds` Newton-Schulz rounds, θ <- θ - rate (s U Vᵀ + weight_decay θ).
    s = 0.2 √max(inputs, outputs) as scale "rms", so that Adam's rates fit, or √max(1, outputs / inputs) as "spectral".
    With stacked, the first axis counts matrices, as in nn.repeat. Embeddings and heads are better left to Adam:
    partition({"embed*": adam(1e-3)}, muon(1e-3)) [Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982].
    """
    checks.number("muon momentum", momentum, "[0, 1)")
    checks.number("muon weight_decay", weight_decay, "[0, inf)")
    checks.flag("muon nesterov", nesterov)
    checks.flag("muon stacked", stacked)
    checks.whole("muon rounds", rounds)
    checks.choice("muon scale", scale, SCALES)
    expect_adam("muon", b1, b2, eps)

    def is_kernel(p: jax.Array) -> bool:
        return p.ndim - stacked >= 2

    def rule(g, p, m, s, rate, t, momentum, weight_decay, b1, b2, eps, w1, w2):
        if is_kernel(p):
            m = momentum * m + (1 - momentum) * g
            u = momentum * m + (1 - momentum) * g if nesterov else m
            matrices = u.reshape(len(u), -1, u.shape[-1]) if stacked else u.reshape(-1, u.shape[-1])
            inputs, outputs = matrices.shape[-2:]
            size = (
                0.2 * max(inputs, outputs) ** 0.5
                if scale == "rms"
                else max(1, outputs / inputs) ** 0.5
            )
            u = size * orthogonalized(matrices, rounds).reshape(p.shape)
        else:
            m, s = moments(g, m, s, b1, b2)
            u = direction(m, s, w1, w2, eps)
        return -rate * (u + weight_decay * p), m, s

    slots = {**zeros("mean"), "square": lambda p: () if is_kernel(p) else jnp.zeros_like(p)}
    knobs = {"momentum": momentum, "weight_decay": weight_decay, "b1": b1, "b2": b2, "eps": eps}
    return lift("muon", rule, rate, slots=slots, timed=weights(b1, b2), **knobs)


def orthogonalized(x: jax.Array, rounds: int) -> jax.Array:
    """Matrices (..., rows, columns) with nearly the same singular vectors, and singular values near 1."""
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT  # the products below are of the shorter side
    square = jnp.square(x).sum((-2, -1), keepdims=True)
    x = x * jax.lax.rsqrt(square + jnp.finfo(x.dtype).tiny)
    a, b, c = QUINTIC
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
