"""Prodigy: Adam that estimates its rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.optim.optimizers.adam import expect_adam
from fnn.optim.per_parameter import (
    divide_where,
    expect_floats,
    root,
    running_mean,
    wide_copy,
    wide_zeros,
    widen,
)
from fnn.optim.schedules.base import as_schedule
from fnn.types import Number, Optimizer, Params, Rate, Scalar, Step
from fnn.values import maker


class ProdigyState(NamedTuple):
    """The state of `prodigy`.

    Attributes:
        step: The number of steps made.
        rate: The rate of the last step, with the estimated distance as a factor.
        distance: The estimate d of the distance from the first params to the solution.
        gain: The sum r.
        sums: The sums z, a pytree like params.
        mean: The first moment m, a pytree like params.
        square: The second moment s, a pytree like params.
        origin: The first params θ₀.
    """

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
    """Prodigy: Adam whose rate is an estimate of the distance to the solution.

    The rate is d γ with γ = rate √(1 - b2ᵗ) / (1 - b1ᵗ). Over all parameters as one vector,
    r <- b3 r + d² γ ⟨g, θ₀ - θ⟩ / start and z <- b3 z + d² γ g / start; then
    d <- max(d, coefficient r / Σ|z|), where r has one more factor 1 / start.
    m <- b1 m + (1 - b1) d g, s <- b2 s + (1 - b2) d² g²,
    θ <- θ - dγ (m / (√s + d eps) + weight_decay θ), with the old d in dγ
    [Mishchenko & Defazio 2023, arXiv:2306.06101].

    Args:
        rate: A factor >= 0 of the estimate, or a schedule whose shape is used; 1 in the paper.
        b1: Decay of the first moment, in [0, 1).
        b2: Decay of the second moment, in [0, 1).
        b3: Decay of the sums r and z, in [0, 1); None for √b2.
        eps: Added outside of the root, > 0.
        start: The first d, > 0; smaller than the distance to the solution, as d never falls.
        coefficient: Factor of the estimate, > 0.
        weight_decay: Share of θ that a rate of 1 subtracts, >= 0.
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
        floats = _widest_dtype(params)
        return ProdigyState(
            step=jnp.zeros((), jnp.int32),
            rate=jnp.zeros(()),
            # One number for all parameters, in a dtype that none of them rounds.
            distance=jnp.asarray(start, floats),
            gain=jnp.zeros((), floats),
            # Separate arrays, since JAX donates no buffer twice.
            sums=wide_zeros(params),
            mean=wide_zeros(params),
            square=wide_zeros(params),
            origin=wide_copy(params),
        )

    def update(
        grads: Params,
        opt_state: ProdigyState,
        params: Params,
        **_: Any,
    ) -> tuple[Params, ProdigyState]:
        trees.expect_like("prodigy grads", grads, params)
        d = opt_state.distance

        def as_scalar(number: Number) -> Scalar:
            return jnp.asarray(number, d.dtype)

        # In the dtype of d: traced numbers of another dtype would promote everything.
        d0 = as_scalar(start)
        beta1 = as_scalar(b1)
        beta2 = as_scalar(b2)
        beta3 = as_scalar(b2**0.5 if b3 is None else b3)
        tiny = as_scalar(eps)
        factor = as_scalar(coefficient)
        decay = as_scalar(weight_decay)
        now = as_scalar(schedule(opt_state.step))
        # Steps count from 0 in the state, and from 1 in the formulas.
        t = (opt_state.step + 1).astype(d.dtype)
        bias_correction = root(1 - beta2**t)
        step_size = d * now * bias_correction / (1 - beta1**t)  # d γ

        # All leaves in one dtype, since the sums r and Σ|z| run over all of them.
        g = jax.tree.map(lambda g: widen(g).astype(d.dtype), grads)

        # r: the inner product of g and θ₀ - θ, summed over the leaves.
        def inner_product(g: Array, origin: Array, p: Array) -> Array:
            return (g * (origin - widen(p))).sum()

        zero = jnp.zeros((), d.dtype)
        products = jax.tree.map(inner_product, g, opt_state.origin, params)
        product = sum(jax.tree.leaves(products), zero)
        new_gain = d / d0 * step_size * product
        gain = beta3 * opt_state.gain + new_gain

        # z and both moments, leaf by leaf.
        def next_sum(z: Array, g: Array) -> Array:
            return beta3 * z + step_size * d * g / d0

        def next_mean(m: Array, g: Array) -> Array:
            return beta1 * m + (1 - beta1) * d * g

        def next_square(s: Array, g: Array) -> Array:
            return running_mean(beta2, s, jnp.square(d * g))

        sums = jax.tree.map(next_sum, opt_state.sums, g)
        mean = jax.tree.map(next_mean, opt_state.mean, g)
        square = jax.tree.map(next_square, opt_state.square, g)

        # The total is 0 while all gradients have been 0.
        absolute = [jnp.abs(z).sum() for z in jax.tree.leaves(sums)]
        total = sum(absolute, zero)
        positive = total > 0
        estimate = divide_where(positive, factor * gain, total, 0)
        # d never falls, so that one noisy estimate cannot stop training.
        new_d = jnp.maximum(d, estimate)

        def change(p: Array, m: Array, s: Array) -> Array:
            divisor = root(s) + new_d * tiny
            u = m / divisor + decay * widen(p)
            return (-step_size * u).astype(jnp.result_type(p))

        # The step size has the old d, the divisor the new one.
        updates = jax.tree.map(change, params, mean, square)
        new_state = ProdigyState(
            step=opt_state.step + 1,
            rate=(new_d * now).astype(opt_state.rate.dtype),
            distance=new_d,
            gain=gain,
            sums=sums,
            mean=mean,
            square=square,
            origin=opt_state.origin,
        )
        return updates, new_state

    return Optimizer(init, update)


def _widest_dtype(params: Params) -> Any:
    """The dtype of numbers that all parameters share: that of the widest, float32 or wider."""
    dtypes = [widen(p).dtype for p in jax.tree.leaves(params)]
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
