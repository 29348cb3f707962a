"""Take, replace and initialize parts of a network from trained parameters."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, in_place_of, name_of, parts, with_changed
from fnn.types import Layer, Params, State
from fnn.values import maker


def take(network: Layer, path: str) -> Layer:
    """The part of a network at a path such as "body/conv_0", the path that its params stand at and that errors tell.

    ConfigError for a path of no part, naming the parts there are where it fails.
    """
    name, rest = _first(path)
    part = _expect_part(network, name)
    return take(part, rest) if rest else part


@maker
def replace(network: Layer, path: str, layer: Layer) -> Layer:
    """The same network with another layer in place of its part at a path such as "head", or "body/conv_0".

    Everything else keeps its name and its place, so params of the parts that stay fit on. ConfigError for a path of no
    part, naming the parts there are where it fails; ShapeError, from init, for a layer that does not fit in.
    """
    expect_layer("replace layer", layer)
    name, rest = _first(path)
    _expect_part(network, name)

    def change(own: str, part: Layer) -> Layer:
        if own != name:
            return part
        return replace(part, rest, layer) if rest else layer

    changed = with_changed(network, change)
    return Layer(
        changed.init,
        changed.apply,
        name_of(network),
        changed.parts,
        changed.with_parts,
        changed.by_name,
    )


def _first(path: str) -> tuple[str, str]:
    """The part that a path begins with, and the path from there on."""
    if not isinstance(path, str):
        raise ConfigError(
            "path", "a path of parts", repr(path), "name the parts on the way, as in body/conv_0"
        )
    name, _, rest = path.partition("/")
    return name, rest


def _expect_part(network: Layer, name: str) -> Layer:
    found = parts(expect_layer("network", network))
    if name not in found:
        there = f"a part among {list(found)}" if found else "a layer made of parts"
        raise ConfigError(
            f"path {name}", there, repr(name), "name the parts on the way, as in body/conv_0"
        )
    return found[name]


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
            name: pretrained(part, params.get(name, {}), state.get(name, {}))
            for name, part in parts(layer).items()
        }
        return Layer(init, layer.apply, name_of(layer), shares, layer.with_parts, by_name=True)
    return in_place_of(
        layer, Layer(init, layer.apply), partial(pretrained, params=params, state=state)
    )
