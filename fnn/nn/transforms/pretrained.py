"""Networks that begin where others ended."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.nn.composite import ByName, expect_layer, maker, named
from fnn.types import Layer, Params, State


def pretrained(layer: Layer, params: Params, state: State) -> Layer:
    """The layer beginning with these params and this state instead of drawing its own.

    So chain(freeze(pretrained(body, params, state)), dense(10)) is transfer learning. A part of it, as `take` gives it,
    begins with its share of them. TreeMismatchError, in init, where they are not just like what the layer would draw,
    naming the path.
    """
    expect_layer("pretrained layer", layer)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        ends = []

        def draw() -> tuple[Params, State]:
            *drawn, end = layer.init(key, shape)
            ends.append(end)
            return tuple(drawn)

        wanted = jax.eval_shape(draw)
        for what, given, like in zip(("params", "state"), (params, state), wanted, strict=True):
            trees.expect_like(f"pretrained {what}", given, like)
        return jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, state), ends[0]

    return named(maker(layer), Layer(init, layer.apply, _by_part(layer, params, state)))


def _by_part(layer: Layer, params: Params, state: State) -> Callable[..., Layer] | None:
    """The rebuild that hands each part its share, where the layer keeps them by part; else the layer has them all."""
    rebuild = layer.rebuild
    if isinstance(rebuild, ByName):
        return lambda change: rebuild(
            lambda name, part: change(name, pretrained(part, params.get(name, {}), state.get(name, {})))
        )
    return None if rebuild is None else lambda change: pretrained(rebuild(change), params, state)
