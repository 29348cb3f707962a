"""Adam that finds its rate: Prodigy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.optimizers.adam import expect_adam
from fnn.optim.per_parameter import expect_floats, root, widened
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, Rate, Scalar, Step
from fnn.values import maker


class ProdigyState(NamedTuple):
    """Steps made, the rate of the last one, the distance d, its two sums, the means, and where training began."""

    step: Step
    rate: Scalar
    distance: Scalar
    gain: Scalar
    sums: Params
    mean: Params
    square: Params
    origin: Params


@maker
def prodigy(
    rate: Rate = 1.0,
    *,
    b1: Number = 0.9,
    b2: Number = 0.999,
    b3: Number | None = None,
    eps: Number = 1e-8,
    start: Number = 1e-6,
    coefficient: Number = 1.0,
    weight_decay: Number = 0.0,
) -> Optimizer:
    """Adam with the rate d γ, γ = rate √(1 - b2ᵗ) / (1 - b1ᵗ), where d, from start, estimates the way to go.

    r <- b3 r + d² γ ⟨g, θ₀ - θ⟩ / start, z <- b3 z + d² γ g / start, over all parameters as one vector, and then
    d <- max(d, coefficient r / Σ|z|), where r has one more factor 1 / start. m <- b1 m + (1 - b1) d g,
    s <- b2 s + (1 - b2) d² g², θ <- θ - dγ (m / (√s + d eps) + weight_decay θ), dγ with d from before. b3 is √b2 unless
    given; a schedule's shape may be given as rate [Mishchenko & Defazio 2023, arXiv:2306.06101].
    """
    schedule = as_schedule("prodigy", rate)
    expect_adam("prodigy", b1, b2, eps)
    if b3 is not None:
        checks.number("prodigy b3", b3, "[0, 1)")
    checks.number("prodigy start", start, "(0, inf)")
    checks.number("prodigy coefficient", coefficient, "(0, inf)")
    checks.number("prodigy weight_decay", weight_decay, "[0, inf)")

    def init(params: Params) -> ProdigyState:
        expect_floats("prodigy params", params)
        zeros = jax.tree.map(lambda p: jnp.zeros_like(widened(p)), params)
        floats = _widest(params)
        return ProdigyState(
            step=jnp.zeros((), jnp.int32),
            rate=jnp.zeros(()),
            distance=jnp.asarray(start, floats),
            gain=jnp.zeros((), floats),
            sums=zeros,
            mean=zeros,
            square=zeros,
            origin=jax.tree.map(
                lambda p: jnp.array(widened(p)), params
            ),  # a copy, for the params may be donated
        )

    def update(
        grads: Params, opt_state: ProdigyState, params: Params, **_: Any
    ) -> tuple[Params, ProdigyState]:
        trees.expect_like("prodigy grads", grads, params)
        d = opt_state.distance
        first, one, two, three, tiny, factor, decay = (
            jnp.asarray(number, d.dtype)
            for number in (
                start,
                b1,
                b2,
                b2**0.5 if b3 is None else b3,
                eps,
                coefficient,
                weight_decay,
            )
        )
        now, t = (
            jnp.asarray(schedule(opt_state.step), d.dtype),
            (opt_state.step + 1).astype(d.dtype),
        )
        step = d * now * root(1 - two**t) / (1 - one**t)

        g = jax.tree.map(lambda g: widened(g).astype(d.dtype), grads)
        ways = jax.tree.map(
            lambda g, begun, p: (g * (begun - widened(p))).sum(), g, opt_state.origin, params
        )
        gain = three * opt_state.gain + d / first * step * sum(
            jax.tree.leaves(ways), jnp.zeros((), d.dtype)
        )
        sums = jax.tree.map(lambda z, g: three * z + step * d * g / first, opt_state.sums, g)
        mean = jax.tree.map(lambda m, g: one * m + (1 - one) * d * g, opt_state.mean, g)
        square = jax.tree.map(
            lambda s, g: two * s + (1 - two) * jnp.square(d * g), opt_state.square, g
        )
        total = sum((jnp.abs(z).sum() for z in jax.tree.leaves(sums)), jnp.zeros((), d.dtype))
        moved = total > 0
        after = jnp.maximum(d, jnp.where(moved, factor * gain / jnp.where(moved, total, 1), 0))

        def change(p: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
            return (-step * (m / (root(s) + after * tiny) + decay * widened(p))).astype(p.dtype)

        updates = jax.tree.map(change, params, mean, square)
        told = (after * now).astype(opt_state.rate.dtype)
        return updates, ProdigyState(
            opt_state.step + 1, told, after, gain, sums, mean, square, opt_state.origin
        )

    return Optimizer(init, update)


def _widest(params: Params) -> Any:
    """The dtype of what is shared by all parameters: that of the widest, float32 at least."""
    dtypes = [widened(p).dtype for p in jax.tree.leaves(params)]
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
