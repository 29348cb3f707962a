"""Dropout of elements, channels, residual branches and weights."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.decoder import per_position
from fnn.nn.core.reparametrization import change_kernels, kernels, with_kernels
from fnn.types import Layer, Number, Params, Shape, State
from fnn.values import maker


@maker
def dropout(drop_rate: Number) -> Layer:
    """Dropout: y = x m / (1 - drop_rate) in training, y = x otherwise.

    m ~ Bernoulli(1 - drop_rate), drawn for every number. The division keeps the mean of y
    [Srivastava et al. 2014, JMLR 15].

    Args:
        drop_rate: Probability of dropping a number, in [0, 1).

    Raises:
        ConfigError: `drop_rate` is outside of [0, 1).
        DTypeError: No key is given in training, or x is not of floating point.
    """
    return _dropout_layer("dropout", drop_rate, lambda shape: shape)


@maker
def channel_dropout(drop_rate: Number) -> Layer:
    """Dropout of whole channels of an example: y = x m / (1 - drop_rate) in training, else y = x.

    x (batch, ..., channels); m ~ Bernoulli(1 - drop_rate), drawn for every example and channel.
    Neighboring pixels are correlated, therefore dropping single ones removes little information
    [Tompson et al. 2015, arXiv:1411.4280, as spatial dropout].

    Args:
        drop_rate: Probability of dropping a channel of an example, in [0, 1).

    Raises:
        ConfigError: `drop_rate` is outside of [0, 1).
        ShapeError: An example has no channel axis.
        DTypeError: No key is given in training, or x is not of floating point.
    """
    return _dropout_layer("channel_dropout", drop_rate, _one_per_channel)


@maker
def drop_path(drop_rate: Number) -> Layer:
    """Stochastic depth: y = x m / (1 - drop_rate) in training, y = x otherwise.

    x (batch, ...); m ~ Bernoulli(1 - drop_rate), drawn for every example. At the end of the body of
    a residual, nn.residual(nn.chain(..., nn.drop_path(0.1))), a dropped example skips the body. The
    rate commonly grows with depth: of n bodies, body i has the rate i / n times that of the last
    [Huang et al. 2016, arXiv:1603.09382].

    Args:
        drop_rate: Probability of dropping an example, in [0, 1).

    Raises:
        ConfigError: `drop_rate` is outside of [0, 1).
        DTypeError: No key is given in training, or x is not of floating point.
    """
    return _dropout_layer("drop_path", drop_rate, lambda shape: (1,) * len(shape))


@maker
def drop_connect(layer: Layer, drop_rate: Number) -> Layer:
    """Dropout of weights: a layer acts with W m / (1 - drop_rate) in training, with W otherwise.

    W is every `kernel` of the layer, or of the layers it is made of; m ~ Bernoulli(1 - drop_rate)
    is drawn for every weight, once a batch. Params and state are those of the layer
    [Wan et al. 2013, ICML].

    Args:
        layer: The layer whose kernels are dropped, or a network of such layers.
        drop_rate: Probability of dropping a weight, in [0, 1).

    Raises:
        ConfigError: `drop_rate` is outside of [0, 1), or, in init, the layer has no kernel.
        DTypeError: No key is given in training.
    """
    checks.number("drop_connect drop_rate", drop_rate, "[0, 1)")

    def with_dropout(leaf: Layer) -> Layer:
        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            # Outside of training, and in parts without a kernel, the layer acts as it is.
            weights = kernels(params)
            if not weights or not train:
                return leaf.apply(params, state, x, key=key, train=train)
            key = checks.key("drop_connect key", key)
            dropped = {}
            # Kernel i draws by fold_in(key, i), counted from 1; fold_in(key, 0) is the layer's key.
            for index, (path, kernel) in enumerate(weights.items(), 1):
                own_key = jax.random.fold_in(key, index)
                dropped[path] = _drop("drop_connect", own_key, kernel, drop_rate, kernel.shape)
            new_params = with_kernels(params, dropped)
            layer_key = jax.random.fold_in(key, 0)
            return leaf.apply(new_params, state, x, key=layer_key, train=train)

        return Layer(leaf.init, apply, leaf.name)

    return change_kernels("drop_connect", layer, with_dropout)


def _dropout_layer(where: str, drop_rate: Number, mask_shape_of: Callable[[Shape], Shape]) -> Layer:
    """Make a layer that drops in training by a mask of shape (batch, *mask_shape_of(example))."""
    checks.number(f"{where} drop_rate", drop_rate, "[0, 1)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.one_shape(where, shape)
        mask_shape_of(shape)  # raises for a shape that does not fit
        return {}, {}, shape

    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        checks.floating(f"{where} x", x)
        trees.expect_arrays(where, params, {})
        mask_shape = (*x.shape[:1], *mask_shape_of(x.shape[1:]))
        if not train:
            # No rescaling: the mask was divided by its mean in training.
            return x, state
        return _drop(where, key, x, drop_rate, mask_shape), state

    # Outside of training these layers change nothing.
    return per_position(Layer(init, apply, where))


def _drop(
    where: str,
    key: jax.Array | None,
    x: jax.Array,
    drop_rate: Number,
    mask_shape: Shape,
) -> jax.Array:
    """Return x m / (1 - drop_rate), the mask m being broadcast from its shape to that of x."""
    key = checks.key(f"{where} key", key)
    size = math.prod(mask_shape)
    # Drawn flat: the same numbers as for the shape itself, in half the time to compile.
    flat_mask = jax.random.bernoulli(key, 1 - drop_rate, (size,))
    mask = flat_mask.reshape(mask_shape)
    # In float32 at least: bfloat16 would round the rate, and with it the mean of y.
    wide = x.astype(trees.wide(x))
    scaled = wide / (1 - trees.knob(drop_rate, wide))
    # `where`, not a product: 0 times inf would be NaN.
    return jnp.where(mask, scaled, 0).astype(x.dtype)


def _one_per_channel(shape: Shape) -> Shape:
    if not shape:
        raise ShapeError(
            "channel_dropout",
            "a shape (..., channels)",
            shape,
            "give each example a channel axis",
        )
    # (..., channels) -> (1, ..., 1, channels)
    return (1,) * (len(shape) - 1) + shape[-1:]
