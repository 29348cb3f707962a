"""Dropout of elements, channels, residual branches and weights."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.reparametrization import change_kernels, kernels, with_kernels
from fnn.types import Layer, Number, Params, Shape, State
from fnn.values import maker


def dropping(where: str, drop_rate: Number, draws: Callable[[Shape], Shape]) -> Layer:
    """A layer without params that drops in training, by draws of the shape draws(shape of one example)."""
    checks.number(f"{where} drop_rate", drop_rate, "[0, 1)")

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        draws(shape)  # raises where the shape cannot be
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
        own = (*x.shape[:1], *draws(x.shape[1:]))
        return thinned(where, key, x, drop_rate, own) if train else x, state

    return Layer(init, apply, where)


def thinned(
    where: str, key: jax.Array | None, x: jax.Array, drop_rate: Number, shape: Shape
) -> jax.Array:
    """x m / (1 - drop_rate), where m ~ Bernoulli(1 - drop_rate) has that shape and is spread over x."""
    # Drawn flat: the same numbers as for the shape itself, in half the time to compile.
    kept = jax.random.bernoulli(
        checks.key(f"{where} key", key), 1 - drop_rate, (math.prod(shape),)
    ).reshape(shape)
    wide = x.astype(trees.wide(x))
    return jnp.where(kept, wide / (1 - trees.knob(drop_rate, wide)), 0).astype(x.dtype)


@maker
def dropout(drop_rate: Number) -> Layer:
    """In training each number is dropped by chance, and the rest grows to keep the mean: y = x m / (1 - drop_rate).

    m ~ Bernoulli(1 - drop_rate), drawn anew for every number; with train=False y = x. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Srivastava et al. 2014, JMLR 15].
    """
    return dropping("dropout", drop_rate, lambda shape: shape)


@maker
def channel_dropout(drop_rate: Number) -> Layer:
    """In training an example's channels are dropped by chance, each with all its places: y = x m / (1 - drop_rate).

    x (batch, ..., channels); m ~ Bernoulli(1 - drop_rate), drawn for every example and channel; with train=False y = x.
    Neighbors in an image tell of each other, so that to drop them one by one hides little. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Tompson et al. 2015, arXiv:1411.4280, as spatial dropout].
    """
    return dropping("channel_dropout", drop_rate, _one_a_channel)


def _one_a_channel(shape: Shape) -> Shape:
    if not shape:
        raise ShapeError(
            "channel_dropout", "a shape (..., channels)", shape, "give each example a channel axis"
        )
    return (1,) * (len(shape) - 1) + shape[-1:]


@maker
def drop_path(drop_rate: Number) -> Layer:
    """In training whole examples are dropped by chance, and the others grow: y = x m / (1 - drop_rate).

    x (batch, ...); m ~ Bernoulli(1 - drop_rate), one draw an example; with train=False y = x. At the end of the body of
    a residual, nn.residual(nn.chain(..., nn.drop_path(0.1))), it is stochastic depth: an example skips the body. Deeper
    bodies are commonly skipped more, the last of n at the full rate, body i at i / n of it. ConfigError unless
    0 <= drop_rate < 1; DTypeError in training without a key [Huang et al. 2016, arXiv:1603.09382].
    """
    return dropping("drop_path", drop_rate, lambda shape: (1,) * len(shape))


@maker
def drop_connect(layer: Layer, drop_rate: Number) -> Layer:
    """In training a layer's weights are dropped by chance, and the rest grows: W m / (1 - drop_rate) in place of W.

    W is every `kernel` of the layer, or of the layers it is made of; m ~ Bernoulli(1 - drop_rate) is drawn for every
    weight, once a batch; with train=False W itself acts. Params and state are the layer's own. ConfigError unless
    0 <= drop_rate < 1, and in init for a layer without kernel; DTypeError in training without a key
    [Wan et al. 2013, ICML].
    """
    checks.number("drop_connect drop_rate", drop_rate, "[0, 1)")

    def dropped(leaf: Layer) -> Layer:
        def apply(
            params: Params,
            state: State,
            x: Any,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            own = kernels(params)
            if not own or not train:
                return leaf.apply(params, state, x, key=key, train=train)
            key = checks.key("drop_connect key", key)
            for place, (path, kernel) in enumerate(own.items(), 1):
                own[path] = thinned(
                    "drop_connect", jax.random.fold_in(key, place), kernel, drop_rate, kernel.shape
                )
            return leaf.apply(
                with_kernels(params, own), state, x, key=jax.random.fold_in(key, 0), train=train
            )

        return Layer(leaf.init, apply, leaf.name)

    return change_kernels("drop_connect", layer, dropped)
