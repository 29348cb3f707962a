"""Shampoo, and SOAP: Adam in the eigenbasis of Shampoo's preconditioners."""

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.optim.optimizers.adam import bias_correction, direction, expect_adam, moments
from fnn.optim.optimizers.matrices import (
    apply_along,
    as_matrix,
    eigh,
    gram,
    inverse_power,
    matmul,
    qr,
    short_axes,
)
from fnn.optim.per_parameter import per_parameter, root, running_mean, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def shampoo(
    rate: Rate,
    *,
    decay: Number = 1.0,
    momentum: Number = 0.9,
    eps: Number = 1e-6,
    every: int = 1,
    max_size: int = 1024,
) -> Optimizer:
    """Shampoo: Adagrad with a full matrix per axis, for kernels as matrices (inputs, outputs).

    L <- decay L + g gᵀ and R <- decay R + gᵀ g from eps I;
    v <- momentum v + L^-¼ g R^-¼, θ <- θ - rate v. If only one axis has a matrix, its power is -½.
    An array without any, or of one axis, has Adagrad's g / √s instead, s <- decay s + g² from eps
    [Gupta et al. 2018, arXiv:1802.09568].

    Args:
        rate: A number >= 0, or a schedule.
        decay: Decay of L, R and s, in (0, 1]; 1 for the sums of the paper.
        momentum: Decay of the velocity v, in [0, 1).
        eps: The first value of the diagonals of L and R, and of s, > 0.
        every: Steps between two computations of the roots,
            >= 1. The eigenvalues take most of the time.
        max_size: Longest axis that has a matrix, >= 1. The cost grows with the third power.
    """
    checks.number("shampoo decay", decay, "(0, 1]")
    checks.number("shampoo momentum", momentum, "[0, 1)")
    checks.number("shampoo eps", eps, "(0, inf)")
    checks.whole("shampoo every", every)
    checks.whole("shampoo max_size", max_size)

    def start(p):
        axes = short_axes(p, max_size)
        if not axes:
            return jnp.zeros_like(p)  # s
        return _pairs_of_zeros(p, axes)  # (sum, root) per axis; the first step sets both

    def rule(g, p, v, sums, h):
        axes = short_axes(p, max_size)
        first = h.t == 1
        due = (h.t - 1) % every == 0
        if axes:
            matrix = as_matrix(g)
            u = matrix
            pairs = []
            for axis, (total, power) in zip(axes, sums, strict=True):
                identity = jnp.eye(len(total), dtype=total.dtype)
                total = jnp.where(first, h.eps * identity, total)
                # (size of the axis, size of the axis)
                total = h.decay * total + gram(matrix, axis)
                # A branch, so that eigenvalues are computed only when due.
                power = jax.lax.cond(due, _ROOTS[len(axes)], lambda _, power=power: power, total)
                u = apply_along(power, u, axis)
                pairs.append((total, power))
            u = u.reshape(p.shape)
            sums = tuple(pairs)
        else:
            sums = jnp.where(first, h.eps, sums)
            sums = h.decay * sums + jnp.square(g)
            u = g / root(sums)
        v = h.momentum * v + u
        return -h.rate * v, v, sums

    return per_parameter(
        "shampoo",
        rule,
        rate,
        slots={**zeros("velocity"), "sums": start},
        decay=decay,
        momentum=momentum,
        eps=eps,
    )


# The power of a sum, by the number of axes that have one: together they always make -½.
_ROOTS = {
    1: lambda total: inverse_power(total, 1 / 2),
    2: lambda total: inverse_power(total, 1 / 4),
}


@maker
def soap(
    rate: Rate,
    *,
    b1: Number = 0.95,
    b2: Number = 0.95,
    decay: Number = 0.95,
    eps: Number = 1e-8,
    every: int = 10,
    max_size: int = 1024,
) -> Optimizer:
    """SOAP: Adam on the rotated gradient QₗᵀgQᵣ, with the eigenvectors of Shampoo's L and R.

    After a step L <- decay L + (1 - decay) g gᵀ, and R likewise with gᵀ g. The first step moves no
    parameter and computes Qₗ by eigh; later ones turn it by one round of power iteration and QR,
    qr(L Qₗ). m stays in the coordinates of θ, s in the rotated ones. Arrays of fewer than two axes
    are Adam's. Derivatives take the rotations as constants [Vyas et al. 2024, arXiv:2409.11321].

    Args:
        rate: A number >= 0, or a schedule.
        b1: Decay of the first moment, in [0, 1); the paper's value.
        b2: Decay of the second moment, in [0, 1); the paper's value.
        decay: Decay of L and R, in [0, 1).
        eps: Added outside of the root, > 0.
        every: Steps between two turns of the eigenvectors, >= 1; 10 in the paper.
        max_size: Longest axis that is rotated, >= 1.
    """
    expect_adam("soap", b1, b2, eps)
    checks.number("soap decay", decay, "[0, 1)")
    checks.whole("soap every", every)
    checks.whole("soap max_size", max_size)

    def start(p):
        return _pairs_of_zeros(p, short_axes(p, max_size))  # (mean, basis) per axis

    def rule(g, p, m, s, pairs, h):
        axes = short_axes(p, max_size)
        first = h.t == 1
        due = (h.t - 1) % every == 0

        def rotate(x, back=False):
            if not axes:
                return x
            matrix = as_matrix(x)
            for (_, basis), axis in zip(pairs, axes, strict=True):
                matrix = apply_along(basis if back else basis.T, matrix, axis)
            return matrix.reshape(x.shape)

        new_m, _ = moments(g, m, s, h)
        _, new_s = moments(rotate(g), m, s, h)
        # In the first step there is no basis yet: the old moments of 0 give an update of 0.
        m = jnp.where(first, m, new_m)
        s = jnp.where(first, s, new_s)
        # m is kept in the coordinates of θ, since the basis turns under it.
        u = rotate(direction(rotate(m), s, h), back=True)
        update = -h.rate * u

        new_pairs = []
        for (mean, basis), axis in zip(pairs, axes, strict=True):
            mean = running_mean(h.decay, mean, gram(as_matrix(g), axis))
            # Derivatives of eigenvectors are not finite for equal eigenvalues.
            constant = jax.lax.stop_gradient(mean)
            basis = jax.lax.cond(
                due,
                lambda constant=constant, basis=basis: _turn(constant, basis, first),
                lambda basis=basis: basis,
            )
            new_pairs.append((mean, basis))
        return update, m, s, tuple(new_pairs)

    return per_parameter(
        "soap",
        rule,
        rate,
        slots={**zeros("mean", "square"), "bases": start},
        # The moments begin with the second step, so that t counts one less.
        per_step={
            "weight1": lambda t: bias_correction(b1, jnp.maximum(t - 1, 1)),
            "weight2": lambda t: bias_correction(b2, jnp.maximum(t - 1, 1)),
        },
        b1=b1,
        b2=b2,
        decay=decay,
        eps=eps,
    )


def _pairs_of_zeros(p: Array, axes: list[int]) -> tuple[tuple[Array, Array], ...]:
    """Two square matrices of 0 for each of these axes."""
    matrix = as_matrix(p) if axes else p
    pairs = []
    for axis in axes:
        square = gram(matrix, axis)
        # Separate arrays, since JAX donates no buffer twice.
        pairs.append((jnp.zeros_like(square), jnp.zeros_like(square)))
    return tuple(pairs)


def _turn(mean: Array, basis: Array, first: Array) -> Array:
    """The eigenvectors of a running mean: by eigh at first, later by one power iteration."""

    def by_eigh(mean: Array, basis: Array) -> Array:
        # Largest eigenvalue first, since QR keeps the first
        # columns best. eigh has the smallest first.
        _, vectors = eigh(mean)
        return vectors[:, ::-1]

    def by_power_iteration(mean: Array, basis: Array) -> Array:
        return qr(matmul(mean, basis))[0]

    basis = jax.lax.stop_gradient(basis)
    return jax.lax.cond(first, by_eigh, by_power_iteration, mean, basis)
