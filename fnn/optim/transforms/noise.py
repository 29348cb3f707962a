"""Gradients with noise that dies away."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.optim.lifting import root, widened
from fnn.optim.wrapping import Advance, around, extended, unscaled
from fnn.types import Number, Optimizer, OptState, Params, RandomKey, Step
from fnn.values import maker


class NoiseState(NamedTuple):
    """The steps made."""

    inner: OptState
    step: Step


@maker
def noise(key: RandomKey, optimizer: Optimizer, *, variance: Number = 0.01, decay: Number = 0.55) -> Optimizer:
    """The optimizer, given gradients with Gaussian noise of variance(t) = variance / (1 + t)^decay, t = 0, 1, ...

    Each step and each leaf draws by a key of its own, folded from this one. ConfigError unless variance and decay >= 0
    [Neelakantan et al. 2015, arXiv:1511.06807].
    """
    checks.key("noise key", key)
    inner = extended("noise optimizer", optimizer)
    checks.number("noise variance", variance, "[0, inf)")
    checks.number("noise decay", decay, "[0, inf)")

    def init(params: Params) -> NoiseState:
        return NoiseState(unscaled("noise optimizer", inner.init(params)), jnp.zeros((), jnp.int32))

    def over(
        advance: Advance, grads: Params, opt_state: NoiseState, params: Params, **extra: Any
    ) -> tuple[Params, NoiseState]:
        now = jax.random.fold_in(key, opt_state.step)
        t = opt_state.step.astype(jnp.result_type(float))
        deviation = root(trees.knob(variance, t) * (1 + t) ** -trees.knob(decay, t))

        def one(place: int, g: jax.Array) -> jax.Array:
            wide = widened(g)
            drawn = jax.random.normal(jax.random.fold_in(now, place), g.shape, wide.dtype)
            return (wide + deviation.astype(wide.dtype) * drawn).astype(g.dtype)

        noisy = [one(place, g) for place, g in enumerate(jax.tree.leaves(grads))]
        changed, own = advance(
            inner, jax.tree.unflatten(jax.tree.structure(grads), noisy), opt_state.inner, params, **extra
        )
        return changed, NoiseState(own, opt_state.step + 1)

    return around(init, over)
