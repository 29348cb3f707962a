"""How layers become networks: combinators take layers and give a layer."""

from collections.abc import Mapping
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, ShapeError, TreeMismatchError, inside
from fnn.types import Layer, Params, Shape, State

Parts = Mapping[str, Layer]


def chain(*layers: Layer, **named: Layer) -> Layer:
    """One layer after another, y = f_n(... f_2(f_1(x))).

    The params and the state are dicts: a named layer stands under its name, a positional one under its maker's name and
    its place, `conv_0`; a layer without params, or without state, does not appear. Layer i gets fold_in(key, i).
    ConfigError for what is no layer; TreeMismatchError for params of no layer here; a layer's error names its path.
    """
    positional = {f"{_maker(layer)}_{place}": layer for place, layer in enumerate(layers)}
    if clash := sorted(positional.keys() & named.keys()):
        raise ConfigError("chain", "names that no positional layer has", ", ".join(clash), "choose another name")
    parts = _expect_layers("chain", positional | named)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state = {}, {}
        for name in parts:
            params[name], state[name], shape = _init_part(parts, name, key, shape)
        return _filled(params), _filled(state), shape

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        _expect_names("chain", parts, params, state)
        new_state = {}
        for name in parts:
            x, new_state[name] = _apply_part(parts, name, params, state, x, key, train)
        return x, _filled(new_state)

    return Layer(init, apply)


def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """A body and a way around it, y = body(x) + shortcut(x), the shortcut being x itself unless given.

    The params and the state are dicts of `body` and `shortcut`. ShapeError where the two ends differ in shape
    [He et al. 2016, arXiv:1512.03385].
    """
    parts = _expect_layers("residual", {"body": body} | ({} if shortcut is None else {"shortcut": shortcut}))

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, shapes = {}, {}, {"shortcut": tuple(shape)}
        for name in parts:
            params[name], state[name], shapes[name] = _init_part(parts, name, key, shape)
        if shapes["body"] != shapes["shortcut"]:
            advice = "give a shortcut that ends like the body, such as nn.conv(channels, 1)"
            raise ShapeError("residual body", f"to end in {shapes['shortcut']}", shapes["body"], advice)
        return _filled(params), _filled(state), shapes["body"]

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        _expect_names("residual", parts, params, state)
        ends, new_state = {"shortcut": x}, {}
        for name in parts:
            ends[name], new_state[name] = _apply_part(parts, name, params, state, x, key, train)
        return ends["body"] + ends["shortcut"], _filled(new_state)

    return Layer(init, apply)


def _init_part(parts: Parts, name: str, key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
    with inside(name, shape=shape):
        return parts[name].init(_own_key(parts, name, checks.key("key", key)), tuple(shape))


def _apply_part(parts: Parts, name: str, params: Params, state: State, x: Any, key: jax.Array | None, train: bool):
    own = params.get(name, {})
    with inside(name, **_seen(x, own)):
        own_key = None if key is None else _own_key(parts, name, key)
        return parts[name].apply(own, state.get(name, {}), x, key=own_key, train=train)


def _own_key(parts: Parts, name: str, key: jax.Array) -> jax.Array:
    """By place, so that a layer renamed draws what it drew before."""
    return jax.random.fold_in(key, list(parts).index(name))


def _maker(layer: Layer) -> str:
    """The name of the maker that the layer's apply belongs to: "conv" of "conv.<locals>.apply"."""
    name = getattr(getattr(layer, "apply", None), "__qualname__", "").rpartition(".<locals>")[0].rpartition(".")[2]
    return name if name.isidentifier() else "layer"


def _expect_layers(where: str, parts: Parts) -> Parts:
    for name, layer in parts.items():
        if not isinstance(layer, Layer):
            raise ConfigError(f"{where} {name}", "a Layer", repr(layer), "call the maker, as in nn.relu()")
    return parts


def _expect_names(where: str, parts: Parts, *trees: Mapping[str, Any]) -> None:
    for tree in trees:
        if not isinstance(tree, Mapping) or tree.keys() - parts.keys():
            got = list(tree) if isinstance(tree, Mapping) else type(tree).__name__
            raise TreeMismatchError(where, f"entries among {list(parts)}", got, "pass what init returned")


def _filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}


def _seen(x: Any, params: Any) -> dict[str, Any]:
    arrays = {"x": x} | (dict(params) if isinstance(params, Mapping) else {})
    return {name: checks.describe(array) for name, array in arrays.items() if hasattr(array, "dtype")}
