"""Normalization by statistics."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.affine import along_last
from fnn.types import Layer, Number, Params, Shape, State


def batch_norm(*, momentum: Number = 0.9, epsilon: Number = 1e-5) -> Layer:
    """Normalize each channel by its batch, y = scale (x - mean) / √(var + epsilon) + bias.

    x (batch, ..., channels). With train=True mean and var are the batch's (two passes, float32 at least) and the
    running ones in the state move: running <- momentum running + (1 - momentum) batch, the variance times n / (n - 1),
    so unbiased, as in torch. With train=False they are the running ones. `train` has no default here, for a guess would
    be silently wrong. ConfigError for an option out of range; ShapeError in training for a single value a channel
    [Ioffe & Szegedy 2015, arXiv:1502.03167].
    """
    checks.number("batch_norm momentum", momentum, "[0, 1]")
    checks.number("batch_norm epsilon", epsilon, "(0, inf)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not shape:
            raise ShapeError("batch_norm", "a shape (..., channels)", shape, "give each example a channel axis")
        zeros, ones = jnp.zeros(shape[-1]), jnp.ones(shape[-1])
        return {"scale": ones, "bias": zeros}, {"mean": zeros, "var": ones}, shape

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool):
        checks.floating("batch_norm x", x)
        trees.expect_arrays("batch_norm", params, dict.fromkeys(("scale", "bias"), x.shape[-1:]))
        trees.expect_arrays("batch_norm", state, dict.fromkeys(("mean", "var"), x.shape[-1:]))
        wide = x.astype(trees.wide(x))
        mean, var = _moments(wide) if train else (state["mean"], state["var"])
        slope = params["scale"] / jnp.sqrt(var + trees.knob(epsilon, var))
        y = (wide - along_last(mean, x)) * along_last(slope, x) + along_last(params["bias"], x)
        return y.astype(x.dtype), _moved(state, mean, var, x.size // x.shape[-1]) if train else state

    def _moved(state: State, mean: jax.Array, var: jax.Array, count: int) -> State:
        batch, keep = {"mean": mean, "var": var * (count / (count - 1))}, trees.knob(momentum, mean)
        return {name: (keep * old + (1 - keep) * batch[name]).astype(old.dtype) for name, old in state.items()}

    return Layer(init, apply)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes = tuple(range(x.ndim - 1))
    if x.size == x.shape[-1]:
        advice = "use a larger batch, or train=False"
        raise ShapeError("batch_norm x", "more than 1 value per channel when training", x.shape, advice)
    mean = x.mean(axes)
    # E[x²] - E[x]² would cancel: at mean 3000 and std 1 float32 loses the variance altogether.
    return mean, jnp.square(x - along_last(mean, x)).mean(axes)
