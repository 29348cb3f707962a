"""Shampoo, and SOAP: Adam in the eigenbasis of Shampoo's preconditioners."""

from functools import reduce

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.optimizers.adam import direction, expect_adam, moments, weight
from fnn.optim.optimizers.matrices import (
    along,
    as_matrix,
    gram,
    inverse_power,
    product,
    short_sides,
)
from fnn.optim.per_parameter import lift, root, zeros
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
    """AdaGrad for matrices, L <- decay L + g gᵀ, R <- decay R + gᵀ g, v <- momentum v + L^-¼ g R^-¼, θ <- θ - rate v.

    L and R begin at eps I; their roots are found anew every so many steps. A side longer than max_size is left out,
    and the root of the other is ½ then; an array with no side left, or of one axis, has AdaGrad's g / √s in their
    place, s <- decay s + g² from eps. Kernels are matrices (inputs, outputs) [Gupta et al. 2018, arXiv:1802.09568].
    """
    checks.number("shampoo decay", decay, "(0, 1]")
    checks.number("shampoo momentum", momentum, "[0, 1)")
    checks.number("shampoo eps", eps, "(0, inf)")
    checks.whole("shampoo every", every)
    checks.whole("shampoo max_size", max_size)

    def begin(p):
        """For each side its sum and the root of that, both set by the first step; or the sum of squares."""
        squares = [jnp.zeros_like(gram(as_matrix(p), axis)) for axis in short_sides(p, max_size)]
        return tuple((square, square) for square in squares) or jnp.zeros_like(p)

    def rule(g, p, v, sums, rate, t, decay, momentum, eps):
        sides, first, due = short_sides(p, max_size), t == 1, (t - 1) % every == 0
        if sides:
            matrix = u = as_matrix(g)
            renewed = []
            for axis, (total, power) in zip(sides, sums, strict=True):
                total = jnp.where(first, eps * jnp.eye(len(total), dtype=total.dtype), total)
                total = decay * total + gram(matrix, axis)
                power = jax.lax.cond(due, _roots[len(sides)], lambda _, power=power: power, total)
                u = along(power, u, axis)
                renewed.append((total, power))
            u, sums = u.reshape(p.shape), tuple(renewed)
        else:
            sums = decay * jnp.where(first, eps, sums) + jnp.square(g)
            u = g / root(sums)
        v = momentum * v + u
        return -rate * v, v, sums

    slots = {**zeros("velocity"), "sums": begin}
    return lift("shampoo", rule, rate, slots=slots, decay=decay, momentum=momentum, eps=eps)


# The root of a side, by how many sides there are.
_roots = {
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
    """Adam on the rotated gradient QₗᵀgQᵣ, where Qₗ and Qᵣ are the eigenvectors of running means of g gᵀ and gᵀ g.

    After a step L <- decay L + (1 - decay) g gᵀ; Qₗ is found by eigh after the first, which moves no parameter, and
    turned by one round of power iteration and QR, qr(L Qₗ), every so many steps; R and Qᵣ likewise. m stays in the
    coordinates of θ, s in the rotated ones. A side longer than max_size is not rotated; arrays of fewer than two axes
    are Adam's. Derivatives take the rotations as given. Kernels are matrices (inputs, outputs) [Vyas et al. 2024,
    arXiv:2409.11321].
    """
    expect_adam("soap", b1, b2, eps)
    checks.number("soap decay", decay, "[0, 1)")
    checks.whole("soap every", every)
    checks.whole("soap max_size", max_size)

    def begin(p):
        """For each side the running mean and its basis."""
        squares = [jnp.zeros_like(gram(as_matrix(p), axis)) for axis in short_sides(p, max_size)]
        return tuple((square, square) for square in squares)

    def rule(g, p, m, s, bases, rate, t, b1, b2, decay, eps, w1, w2):
        sides = short_sides(p, max_size)
        first, due = t == 1, (t - 1) % every == 0

        def rotated(x, back=False):
            if not sides:
                return x
            turns = [
                (basis if back else basis.T, axis)
                for (_, basis), axis in zip(bases, sides, strict=True)
            ]
            return reduce(lambda x, turn: along(turn[0], x, turn[1]), turns, as_matrix(x)).reshape(
                x.shape
            )

        def renewed(mean, basis, axis):
            mean = decay * mean + (1 - decay) * gram(as_matrix(g), axis)
            known = jax.lax.stop_gradient(mean)
            return mean, jax.lax.cond(due, lambda: _turned(known, basis, first), lambda: basis)

        new_m, _ = moments(g, m, s, b1, b2)
        _, new_s = moments(rotated(g), m, s, b1, b2)
        m, s = (jnp.where(first, old, new) for old, new in ((m, new_m), (s, new_s)))
        u = rotated(direction(rotated(m), s, w1, w2, eps), back=True)
        return (
            -rate * u,
            m,
            s,
            tuple(
                renewed(mean, basis, axis) for (mean, basis), axis in zip(bases, sides, strict=True)
            ),
        )

    slots = {**zeros("mean", "square"), "bases": begin}
    # The means begin with the second step.
    timed = {
        f"w{i}": lambda t, b=b: weight(b, jnp.maximum(t - 1, 1)) for i, b in ((1, b1), (2, b2))
    }
    return lift("soap", rule, rate, slots=slots, timed=timed, b1=b1, b2=b2, decay=decay, eps=eps)


def _turned(mean: jax.Array, basis: jax.Array, first: jax.Array) -> jax.Array:
    """The eigenvectors of a running mean: all at once at first, later by a round of power iteration."""
    return jax.lax.cond(
        first,
        lambda mean, basis: jnp.linalg.eigh(mean)[1][
            :, ::-1
        ],  # the largest first, as QR keeps the first ones best
        lambda mean, basis: jnp.linalg.qr(product(mean, basis))[0],
        mean,
        jax.lax.stop_gradient(basis),
    )
