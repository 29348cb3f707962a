"""Networks that begin where others ended."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.nn.composite import expect_layer, in_place_of, name_of, parts
from fnn.types import Layer, Params, State
from fnn.values import maker


@maker
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

    if layer.by_name:
        shares = {
            name: pretrained(part, params.get(name, {}), state.get(name, {})) for name, part in parts(layer).items()
        }
        return Layer(init, layer.apply, name_of(layer), shares, layer.with_parts, by_name=True)
    return in_place_of(layer, Layer(init, layer.apply), partial(pretrained, params=params, state=state))
