"""Normalization of each channel over the batch."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.affine import along_last
from fnn.nn.normalization.moments import AFFINE, normalize, normalized
from fnn.types import Initializer, Layer, Number, Params, Shape, State
from fnn.values import maker

STATISTICS = ("mean", "var")


@maker
def batch_norm(
    *,
    momentum: Number = 0.9,
    eps: Number = 1e-5,
    affine: bool = True,
    scale_init: Initializer | None = None,
) -> Layer:
    """Normalize each channel by its batch, y = scale (x - mean) / √(var + eps) + bias.

    x (batch, ..., channels). With train=True mean and var are the batch's (two passes, float32 at least) and the
    running ones in the state move: running <- momentum running + (1 - momentum) batch, the variance times n / (n - 1),
    so unbiased, as in torch. With train=False they are the running ones. `train` has no default here, for a guess would
    be silently wrong. `scale` begins at 1 unless scale_init tells otherwise, `bias` at 0; neither is there unless
    affine. A batch spread over devices is one batch. ConfigError for an option out of range; ShapeError in training for
    a single value a channel [Ioffe & Szegedy 2015, arXiv:1502.03167].
    """
    checks.number("batch_norm momentum", momentum, "[0, 1]")
    checks.number("batch_norm eps", eps, "(0, inf)")
    checks.flag("batch_norm affine", affine)
    if scale_init is not None and not affine:
        raise ConfigError(
            "batch_norm scale_init", "affine=True", "affine=False", "leave out one of the two"
        )
    names = AFFINE if affine else ()

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not shape or not shape[-1]:
            raise ShapeError(
                "batch_norm", "a shape (..., channels)", shape, "give each example a channel axis"
            )
        zeros, ones = jnp.zeros(shape[-1]), jnp.ones(shape[-1])
        scale = ones if scale_init is None else scale_init(key, shape[-1:])
        return (
            {"scale": scale, "bias": zeros} if affine else {},
            {"mean": zeros, "var": ones},
            shape,
        )

    def apply(
        params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool
    ):
        checks.floating("batch_norm x", x)
        trees.expect_arrays("batch_norm", params, dict.fromkeys(names, x.shape[-1:]))
        trees.expect_arrays("batch_norm", state, dict.fromkeys(STATISTICS, x.shape[-1:]))
        wide = x.astype(trees.wide(x))
        if not train:
            mean, var = (along_last(state[name].astype(wide.dtype), x) for name in STATISTICS)
            return normalize(wide, mean, var, eps, params).astype(x.dtype), state
        y, mean, var = _by_batch(wide, params, eps)
        return y.astype(x.dtype), _moved(state, mean, var, x.size // x.shape[-1])

    def _moved(state: State, mean: jax.Array, var: jax.Array, count: int) -> State:
        batch = {"mean": mean, "var": var * (count / (count - 1))}

        def moved(name: str, old: jax.Array) -> jax.Array:
            keep = trees.knob(momentum, old)
            return keep * old + (1 - keep) * batch[name].reshape(old.shape).astype(old.dtype)

        return {name: moved(name, old) for name, old in state.items()}

    return Layer(init, apply)


def _by_batch(x: jax.Array, params: Params, eps: Number) -> tuple[jax.Array, jax.Array, jax.Array]:
    if x.size <= x.shape[-1]:
        advice = "use a larger batch, or train=False"
        raise ShapeError(
            "batch_norm x", "more than 1 value per channel when training", x.shape, advice
        )
    each = (1,) * x.ndim
    scale, bias = (
        along_last(params[name].astype(x.dtype), x)
        if name in params
        else jnp.full(each, default, x.dtype)
        for name, default in zip(AFFINE, (1, 0), strict=True)
    )
    return normalized(
        x,
        scale,
        bias,
        jnp.asarray(trees.knob(eps, x), x.dtype).reshape(each),
        tuple(range(x.ndim - 1)),
    )
