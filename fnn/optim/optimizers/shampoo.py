"""Steps whitened from both sides of a matrix: Shampoo."""

import jax
import jax.numpy as jnp

from fnn import checks
from fnn.optim.lifting import lift, root, zeros
from fnn.optim.optimizers.matrices import along, as_matrix, gram, inverse_power, short_sides
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
_roots = {1: lambda total: inverse_power(total, 1 / 2), 2: lambda total: inverse_power(total, 1 / 4)}
