"""What the layers that are made of layers share: where params, state, keys and errors of their parts go."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, TreeMismatchError, inside
from fnn.types import Layer, Params, Shape, State

Parts = Mapping[str, Layer]
Go = Callable[[str, Any], Any]


def composite(
    where: str,
    parts: Parts,
    shapes: Callable[[Go, Any], Any],
    arrays: Callable[[Go, Any], Any],
    make: Callable[[Parts], Layer],
) -> Layer:
    """A layer made of parts, told by the way through them: arrays(go, x) -> y, where go(name, x) passes x through one.

    shapes(go, shape) is the same way for shapes, and make(parts) the same layer of other parts. The params and the
    state are dicts by the parts' names; a part without params, or without state, does not appear. The part at place i
    gets fold_in(key, i), so that one renamed draws what it drew before. ConfigError for what is no layer;
    TreeMismatchError for params of no part here; a part's error names its path.
    """
    for name, part in parts.items():
        if not isinstance(part, Layer):
            raise ConfigError(f"{where} {name}", "a Layer", repr(part), "call the maker, as in nn.relu()")
    place = {name: index for index, name in enumerate(parts)}

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("key", key)
        params, state = {}, {}

        def go(name: str, shape: Shape) -> Shape:
            with inside(name, shape=shape):
                own_key = jax.random.fold_in(key, place[name])
                params[name], state[name], shape = parts[name].init(own_key, tuple(shape))
            return shape

        out_shape = shapes(go, tuple(shape))
        return _filled(params), _filled(state), out_shape

    def apply(params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False):
        _expect_names(where, parts, params, state)
        new_state = dict(state)

        def go(name: str, x: Any) -> Any:
            own = params.get(name, {})
            with inside(name, **seen(x, own)):
                own_key = None if key is None else jax.random.fold_in(key, place[name])
                y, new_state[name] = parts[name].apply(own, state.get(name, {}), x, key=own_key, train=train)
            return y

        y = arrays(go, x)
        return y, _filled(new_state)

    def rebuild(change: Callable[[str, Layer], Layer]) -> Layer:
        return make({name: change(name, part) for name, part in parts.items()})

    return named(where, Layer(init, apply, rebuild))


def named(name: str, layer: Layer) -> Layer:
    """The layer, called so in a chain, which names its layers after the makers that their applys belong to."""
    layer.apply.__qualname__ = f"{name}.<locals>.apply"
    return layer


def maker(layer: Layer) -> str:
    """The name of the maker that the layer's apply belongs to: "conv" of "conv.<locals>.apply"."""
    name = getattr(getattr(layer, "apply", None), "__qualname__", "").rpartition(".<locals>")[0].rpartition(".")[2]
    return name if name.isidentifier() else "layer"


def in_place_of(layer: Layer, changed: Layer, again: Callable[[Layer], Layer]) -> Layer:
    """A changed layer that keeps the name and the parts of the first, so that adding the change renames no params.

    again(layer) is the same change made to another layer.
    """
    inner = layer.rebuild
    rebuild = None if inner is None else lambda change: again(inner(change))
    return named(maker(layer), changed._replace(rebuild=rebuild))


def seen(x: Any, params: Any) -> dict[str, Any]:
    """What a layer was given, for the note of an error: x and its own arrays, each as `float32[2,8,8,1]`."""
    arrays = {"x": x} | (dict(params) if isinstance(params, Mapping) else {})
    return {name: described for name, array in arrays.items() if (described := _described(array))}


def _described(x: Any) -> str:
    if isinstance(x, tuple | list):
        return f"({', '.join(map(_described, x))})"
    return checks.describe(x) if hasattr(x, "dtype") else ""


def _expect_names(where: str, parts: Parts, *trees: Mapping[str, Any]) -> None:
    for tree in trees:
        if not isinstance(tree, Mapping) or tree.keys() - parts.keys():
            got = list(tree) if isinstance(tree, Mapping) else type(tree).__name__
            raise TreeMismatchError(where, f"entries among {list(parts)}", got, "pass what init returned")


def _filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}
