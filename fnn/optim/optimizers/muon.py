"""Muon: momentum whose matrices are made orthogonal."""

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.optimizers.adam import bias_corrections, direction, expect_adam, moments
from fnn.optim.optimizers.matrices import as_matrix
from fnn.optim.per_parameter import divide_where, per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker

# Coefficients of a x + b x³ + c x⁵, which takes singular values in (0, 1] to between 0.7 and 1.2
# in five rounds of the Newton-Schulz iteration [Jordan].
QUINTIC = 3.4445, -4.7750, 2.0315
ROUNDS = 5
SCALES = ("rms", "spectral")


@maker
def muon(
    rate: Rate,
    *,
    momentum: Number = 0.95,
    nesterov: bool = True,
    scale: str = "rms",
    weight_decay: Number = 0.0,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    stacked: bool = False,
) -> Optimizer:
    """Muon: momentum with all singular values near 1, for kernels; Adam for vectors.

    m <- μ m + (1 - μ) g with μ = momentum, and u = μ m + (1 - μ) g with nesterov, else u = m. With
    U and V the singular vectors of u as a matrix (inputs, outputs),
    θ <- θ - rate (s U Vᵀ + weight_decay θ). Embeddings and heads are better left to Adam:
    partition({"embed*": adam(1e-3)}, muon(1e-3)) [Jordan et al. 2024; Liu et al. 2025,
    arXiv:2502.16982].

    Args:
        rate: A number >= 0, or a schedule.
        momentum: Decay of the momentum of kernels, in [0, 1).
        nesterov: Whether the step adds the new gradient to the decayed momentum.
            Five take singular values to between 0.7 and 1.2.
        scale: "rms" for s = 0.2 √max(inputs, outputs), with which Adam's rates fit, or "spectral"
            for s = √max(1, outputs / inputs).
        weight_decay: Share of θ that a rate of 1 subtracts, >= 0.
        b1: Decay of Adam's first moment, in [0, 1).
        b2: Decay of Adam's second moment, in [0, 1).
        eps: Added outside of Adam's root, > 0.
        stacked: Whether the first axis counts matrices, as in nn.repeat.
    """
    checks.number("muon momentum", momentum, "[0, 1)")
    checks.number("muon weight_decay", weight_decay, "[0, inf)")
    checks.flag("muon nesterov", nesterov)
    checks.flag("muon stacked", stacked)
    checks.choice("muon scale", scale, SCALES)
    expect_adam("muon", b1, b2, eps)

    def is_kernel(p: Array) -> bool:
        return p.ndim - stacked >= 2 and p.size > 0

    def as_matrices(u):
        if stacked:
            # (count, ..., inputs, outputs) -> (count, inputs of all axes, outputs)
            return u.reshape(len(u), -1, u.shape[-1])
        return as_matrix(u)

    def size_of(inputs: int, outputs: int) -> float:
        if scale == "rms":
            # An orthogonal matrix has a root mean square of 1 / √max(inputs, outputs).
            # Adam's steps have about 0.2.
            return 0.2 * max(inputs, outputs) ** 0.5
        return max(1, outputs / inputs) ** 0.5

    def rule(g, p, m, s, h):
        if is_kernel(p):
            m = running_mean(h.momentum, m, g)
            u = running_mean(h.momentum, m, g) if nesterov else m
            matrices = as_matrices(u)
            size = size_of(*matrices.shape[-2:])
            u = size * orthogonalize(matrices).reshape(p.shape)
        else:
            m, s = moments(g, m, s, h)
            u = direction(m, s, h)
        u = u + h.weight_decay * p
        return -h.rate * u, m, s

    def start_square(p):
        # Kernels need no second moment: an empty tuple takes no memory.
        return () if is_kernel(p) else jnp.zeros_like(p)

    slots = {**zeros("mean"), "square": start_square}
    return per_parameter(
        "muon",
        rule,
        rate,
        slots=slots,
        per_step=bias_corrections(b1, b2),
        momentum=momentum,
        weight_decay=weight_decay,
        b1=b1,
        b2=b2,
        eps=eps,
    )


def orthogonalize(x: Array) -> Array:
    """Bring singular values of matrices (..., rows, columns) near 1 by Newton-Schulz iteration."""
    is_wide = x.shape[-2] <= x.shape[-1]
    # Products x xᵀ of the shorter side are the smaller ones.
    x = x if is_wide else x.mT
    # By the Frobenius norm, no singular value is above 1. A matrix of 0 stays 0, and its slopes
    # are finite.
    norm = root(jnp.square(x).sum((-2, -1), keepdims=True))
    x = divide_where(norm > 0, x, norm, 0)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        factor = b * gram + c * gram @ gram
        x = a * x + factor @ x
    return x if is_wide else x.mT
