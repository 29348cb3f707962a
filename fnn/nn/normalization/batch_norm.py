"""Normalization of each channel over the batch."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.bounds import nan_outside_bounds
from fnn.nn.core.decoder import per_position
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

    x (batch, ..., channels), or a pair of it and the positions that count, which is described
    below; `scale` and `bias` (channels,), initially 1 and 0. With train=True
    mean and var are those of the batch (two passes, float32 at least), and the running ones in the
    state move: running <- momentum running + (1 - momentum) batch, with the unbiased variance, as
    in torch. With train=False mean and var are the running ones. `train` has no default here, since
    a wrong guess would be silent. A batch sharded over devices is one batch
    [Ioffe & Szegedy 2015, arXiv:1502.03167].

    The positions of a pair are weights >= 0 or booleans (batch, ...), one for each vector of
    channels, or lengths (batch,) of sequences (batch, time, ..., channels), integers in 1..time. A
    mean is then Σ weight x / Σ weight. At positions of weight 0 or beyond a length y is 0, and
    values of x, also NaN, do not affect y, state or gradients. A batch with less than two positions
    does not change the running statistics.

    Args:
        momentum: Share of the old value in a running statistic, in [0, 1]; torch counts the share
            of the new one.
        eps: Number added to the variance, > 0.
        affine: Whether the layer has `scale` and `bias`.
        scale_init: Initializer of the scale; ones if None. Zeros let a residual block begin as its
            shortcut.

    Raises:
        ConfigError: An option is out of range, or `scale_init` is given without `affine`.
        ShapeError: An example has no channels, the positions have another shape, or, in training, a
            channel has a single value.
        DTypeError: x or params are not of floating point.
        RangeError: A length is out of range; where lengths are traced, y is NaN there instead.
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

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Shape]:
        shape = _expect_pair(shape)
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
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool,
    ):
        positions = None
        if isinstance(x, tuple):
            _expect_pair(jax.tree.map(lambda array: array.shape[1:], x))
            x, positions = x
        checks.floating("batch_norm x", x)
        trees.expect_arrays("batch_norm", params, dict.fromkeys(names, x.shape[-1:]))
        trees.expect_arrays("batch_norm", state, dict.fromkeys(STATISTICS, x.shape[-1:]))
        # Statistics of bfloat16 would have two to three digits.
        wide = x.astype(trees.wide(x))
        weights = None
        if positions is not None:
            weights = _weights(wide, positions)
            # Before all else: NaN at a position of weight 0 would reach the gradients as 0 * NaN.
            wide = jnp.where(weights == 0, 0, wide)
        if not train:
            # (channels,) -> (1, ..., 1, channels)
            mean, var = (along_last(state[name].astype(wide.dtype), x) for name in STATISTICS)
            y = normalize(wide, mean, var, eps, params)
        elif weights is None:
            y, mean, var = _normalize_by_batch(wide, params, eps)
            state = update_running(state, mean, var, x.size // x.shape[-1])
        else:
            y, mean, var = _normalize_by_weights(wide, weights, params, eps)
            count = (weights != 0).sum().astype(wide.dtype)
            moved = update_running(state, mean, var, jnp.maximum(count, 2))
            state = trees.select(count > 1, moved, state)
        if weights is not None:
            # A length out of range has weights of NaN.
            y = jnp.where(weights == 0, 0, jnp.where(jnp.isnan(weights), jnp.nan, y))
        return y.astype(x.dtype), state

    def update_running(state: State, mean: jax.Array, var: jax.Array, count: Number) -> State:
        # count / (count - 1) makes the variance unbiased, as in torch; y uses the biased one.
        batch = {"mean": mean, "var": var * (count / (count - 1))}

        def update(name: str, old: jax.Array) -> jax.Array:
            # In the dtype of the state, which may be wider than that of x.
            keep = trees.knob(momentum, old)
            # (1, ..., 1, channels) -> (channels,)
            return keep * old + (1 - keep) * batch[name].reshape(old.shape).astype(old.dtype)

        return {name: update(name, old) for name, old in state.items()}

    # In evaluation, by its running statistics.
    return per_position(Layer(init, apply))


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


def _normalize_by_weights(
    x: jax.Array,
    weights: jax.Array,
    params: Params,
    eps: Number,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return y, and the weighted mean and var of the batch, all of the rank of x.

    Args:
        x: The batch, 0 at positions of weight 0.
        weights: (batch, ..., 1).
        params: `scale` and `bias`, both optional.
        eps: Number added to the variance.
    """
    axes = tuple(range(x.ndim - 1))
    total = weights.sum(axes, keepdims=True)
    shares = weights / jnp.where(total == 0, 1, total)
    # Distances from one of the values, as in `moments`; 0 if no position counts.
    largest = jnp.where(weights == 0, -jnp.inf, x).max(axes, keepdims=True)
    one = jax.lax.stop_gradient(jnp.where(total == 0, 0, largest))
    distances = jnp.where(weights == 0, 0, x - one)
    shift = (shares * distances).sum(axes, keepdims=True)
    var = (shares * jnp.square(distances - shift)).sum(axes, keepdims=True)
    return normalize(distances, shift, var, eps, params), one + shift, var


def _weights(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Return the weights (batch, ..., 1) of the positions of x, from weights or lengths."""
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        _expect_positions(positions.shape, x.shape[:-1])
        return positions.astype(x.dtype)[..., None]
    _expect_positions(positions.shape, x.shape[:1])
    if x.ndim < 3:
        expected = "sequences (batch, time, ..., channels) with lengths"
        raise ShapeError("batch_norm x", expected, x.shape, "give booleans or weights instead")
    time = x.shape[1]
    expected = f"1 <= length <= {time}"
    nan = nan_outside_bounds("batch_norm lengths", expected, positions, 1, time + 1)
    is_valid = jnp.arange(time)[None] < positions.astype(int)[:, None]  # (batch, time)
    weights = is_valid.astype(x.dtype) * nan.astype(x.dtype)[:, None]
    # (batch, time) -> (batch, time, 1, ..., 1) -> (batch, time, ..., 1)
    weights = weights.reshape(*weights.shape, *(1,) * (x.ndim - 2))
    return jnp.broadcast_to(weights, (*x.shape[:-1], 1))


def _expect_positions(shape: Shape, expected: Shape) -> None:
    if shape != expected:
        advice = "give one weight for each position, or one length for each sequence"
        raise ShapeError("batch_norm positions", f"a shape {expected}", shape, advice)


def _expect_pair(shape: Any) -> Shape:
    """Return the shape of x, given that of one example or a pair of it and that of positions."""
    if trees.is_shape(shape):
        return shape
    is_pair = isinstance(shape, tuple) and len(shape) == 2
    if not is_pair or not trees.is_shape(shape[0]) or shape[1] not in ((), shape[0][:-1]):
        expected = "one shape (..., channels), or a pair of it and (...) or ()"
        advice = "give x alone, or a pair (x, weights) or (x, lengths)"
        raise ShapeError("batch_norm", expected, shape, advice)
    return shape[0]
