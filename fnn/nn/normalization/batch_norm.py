"""Normalization of each channel over the batch."""

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.wide_sums import along_last
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
    """Batch normalization: y = scale (x - mean) / √(var + eps) + bias for each channel.

    x (batch, ..., channels); `scale` and `bias` (channels,), initially 1 and 0. With train=True
    mean and var are those of the batch (two passes, float32 at least), and the running ones in the
    state move: running <- momentum running + (1 - momentum) batch, with the unbiased variance, as
    in torch. With train=False mean and var are the running ones. `train` has no default here, since
    a wrong guess would be silent. A batch sharded over devices is one batch
    [Ioffe & Szegedy 2015, arXiv:1502.03167].

    Args:
        momentum: Share of the old value in a running statistic, in [0, 1]; torch counts the share
            of the new one.
        eps: Number added to the variance, > 0.
        affine: Whether the layer has `scale` and `bias`.
        scale_init: Initializer of the scale; ones if None. Zeros let a residual block begin as its
            shortcut.

    Raises:
        ConfigError: An option is out of range, or `scale_init` is given without `affine`.
        ShapeError: An example has no channels, or, in training, a channel has a single value.
        DTypeError: x or params are not of floating point.
        TreeMismatchError: Params or state are not those of this layer.
    """
    checks.number("batch_norm momentum", momentum, "[0, 1]")
    checks.number("batch_norm eps", eps, "(0, inf)")
    checks.flag("batch_norm affine", affine)
    if scale_init is not None and not affine:
        raise ConfigError(
            "batch_norm scale_init",
            "affine=True",
            "affine=False",
            "leave out one of the two",
        )
    names = AFFINE if affine else ()

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        if not shape or not shape[-1]:
            raise ShapeError(
                "batch_norm",
                "a shape (..., channels)",
                shape,
                "give each example a channel axis",
            )
        channels = shape[-1]
        # Each array has memory of its own, so that all of them can be donated.
        state = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
        if not affine:
            return {}, state, shape
        scale = jnp.ones(channels) if scale_init is None else scale_init(key, (channels,))
        return {"scale": scale, "bias": jnp.zeros(channels)}, state, shape

    # `train` is required here, unlike in other layers.
    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool,
    ):
        checks.floating("batch_norm x", x)
        trees.expect_arrays("batch_norm", params, dict.fromkeys(names, x.shape[-1:]))
        trees.expect_arrays("batch_norm", state, dict.fromkeys(STATISTICS, x.shape[-1:]))
        # Statistics of bfloat16 would have two to three digits.
        wide = x.astype(trees.wide(x))
        if not train:
            # (channels,) -> (1, ..., 1, channels)
            mean, var = (along_last(state[name].astype(wide.dtype), x) for name in STATISTICS)
            return normalize(wide, mean, var, eps, params).astype(x.dtype), state
        y, mean, var = _normalize_by_batch(wide, params, eps)
        values_per_channel = x.size // x.shape[-1]
        return y.astype(x.dtype), update_running(state, mean, var, values_per_channel)

    def update_running(state: State, mean: jax.Array, var: jax.Array, count: int) -> State:
        # count / (count - 1) makes the variance unbiased, as in torch; y uses the biased one.
        batch = {"mean": mean, "var": var * (count / (count - 1))}

        def update(name: str, old: jax.Array) -> jax.Array:
            # In the dtype of the state, which may be wider than that of x.
            keep = trees.knob(momentum, old)
            # (1, ..., 1, channels) -> (channels,)
            return keep * old + (1 - keep) * batch[name].reshape(old.shape).astype(old.dtype)

        return {name: update(name, old) for name, old in state.items()}

    return Layer(init, apply)


def _normalize_by_batch(
    x: jax.Array,
    params: Params,
    eps: Number,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return y, mean and var of the batch, all of the rank of x."""
    if x.size <= x.shape[-1]:
        raise ShapeError(
            "batch_norm x",
            "more than 1 value per channel when training",
            x.shape,
            "use a larger batch, or train=False",
        )
    single = (1,) * x.ndim  # the shape of one number that broadcasts to x

    def param(name: str, default: float) -> jax.Array:
        if name in params:
            return along_last(params[name].astype(x.dtype), x)
        return jnp.full(single, default, x.dtype)

    scale = param("scale", 1)
    bias = param("bias", 0)
    eps_array = jnp.asarray(trees.knob(eps, x), x.dtype).reshape(single)
    # Under jit with a sharded batch, XLA sums these axes over all devices.
    all_but_channels = tuple(range(x.ndim - 1))
    return normalized(x, scale, bias, eps_array, all_but_channels)
