"""What the layers that are made of layers share: where params, state, keys and errors of their parts go."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, TreeMismatchError, inside
from fnn.types import Layer, Params, Shape, State

Parts = Mapping[str, Layer]
Go = Callable[[str, Any], Any]
Change = Callable[[str, Layer], Layer]


def composite(
    where: str, parts: Parts, shapes: Callable[[Go, Any], Any], arrays: Callable[[Go, Any], Any]
) -> Layer:
    """A layer made of parts, given by the way through them: arrays(go, x) -> y, where go(name, x) passes x through one.

    shapes(go, shape) is the same way for shapes. The params and the state are dicts by the parts' names; a part without
    params, or without state, does not appear. The part at place i gets fold_in(key, i), so that one renamed draws what
    it drew before. ConfigError for what is no layer; TreeMismatchError for params of no part here; a part's error names
    its path.
    """
    for name, part in parts.items():
        expect_layer(f"{where} {name}", part)
    place = {name: index for index, name in enumerate(parts)}

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("key", key)
        params, state = {}, {}

        def go(name: str, shape: Shape) -> Shape:
            with inside(name, shape=shape):
                own_key = jax.random.fold_in(key, place[name])
                params[name], state[name], shape = parts[name].init(own_key, as_shape(shape))
            return shape

        out_shape = shapes(go, as_shape(shape))
        return filled(params), filled(state), out_shape

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        expect_names(where, parts, params, state)
        new_state = dict(state)

        def go(name: str, x: Any) -> Any:
            own = params.get(name, {})
            with inside(name, **seen(x, own)):
                own_key = None if key is None else jax.random.fold_in(key, place[name])
                y, new_state[name] = parts[name].apply(
                    own, state.get(name, {}), x, key=own_key, train=train
                )
            return y

        y = arrays(go, x)
        return y, filled(new_state)

    def with_parts(parts: Parts) -> Layer:
        return composite(where, parts, shapes, arrays)

    return Layer(init, apply, where, parts, with_parts, by_name=True)


def by_place(where: str, layers: Sequence[Layer], named: Parts) -> dict[str, Layer]:
    """The layers by name: a positional one under its maker's name and its place, `conv_0`, then the named ones."""
    positional = {f"{name_of(layer)}_{place}": layer for place, layer in enumerate(layers)}
    if clash := sorted(positional.keys() & named.keys()):
        raise ConfigError(
            where, "names that no positional layer has", ", ".join(clash), "choose another name"
        )
    return positional | dict(named)


def name_of(layer: Any) -> str:
    """What a layer is called in a chain."""
    return (layer.name if isinstance(layer, Layer) else None) or "layer"


def in_place_of(layer: Layer, changed: Layer, again: Callable[[Layer], Layer]) -> Layer:
    """A changed layer that keeps the name and the parts of the first, so that adding the change renames no params.

    again(layer) is the same change made to another layer.
    """
    return Layer(
        changed.init,
        changed.apply,
        name_of(layer),
        layer.parts,
        lambda parts: again(_with(layer, parts)),
    )


def with_changed(layer: Layer, change: Change) -> Layer:
    """The same layer with change(name, part) in place of each of its parts."""

    def changed(name: str, part: Any) -> Any:
        return (
            change(name, part)
            if isinstance(part, Layer)
            else lambda *given: change(name, part(*given))
        )

    return _with(layer, {name: changed(name, part) for name, part in layer.parts.items()})


def _with(layer: Layer, parts: Mapping[str, Any]) -> Layer:
    assert layer.with_parts is not None  # since it has parts
    return layer.with_parts(parts)


def parts(layer: Layer) -> dict[str, Layer]:
    """The layers that a layer is made of, by name; none for one that holds its arrays itself."""
    found: dict[str, Layer] = {}

    def note(name: str, part: Layer) -> Layer:
        found[name] = part
        return part

    if layer.parts:
        with_changed(layer, note)
    return found


def map_leaves(change: Callable[[str, Layer], Layer], layer: Layer, path: str = "") -> Layer:
    """The same network with change(path, leaf) in place of every layer that is not made of others.

    The path is that of the layer's params, such as "body/conv_0", and "" for a layer that stands alone.
    """
    if not layer.parts:
        return change(path, layer)
    return with_changed(
        layer, lambda name, part: map_leaves(change, part, f"{path}/{name}" if path else name)
    )


def seen(x: Any, params: Any) -> dict[str, Any]:
    """What a layer was given, for the note of an error: x and its own arrays, each as `float32[2,8,8,1]`."""
    arrays = {"x": x} | (dict(params) if isinstance(params, Mapping) else {})
    return {name: described for name, array in arrays.items() if (described := _described(array))}


def expect_layer(where: str, part: Any) -> Layer:
    """The part, if it is a layer; ConfigError otherwise, as for the maker itself."""
    if not isinstance(part, Layer):
        raise ConfigError(where, "a Layer", repr(part), "call the maker, as in nn.relu()")
    return part


def expect_names(where: str, names: Collection[str], *trees: Any) -> None:
    """Raise TreeMismatchError unless each tree is a dict with no other entries than these."""
    for tree in trees:
        if not isinstance(tree, Mapping) or tree.keys() - set(names):
            got = list(tree) if isinstance(tree, Mapping) else type(tree).__name__
            raise TreeMismatchError(
                where, f"entries among {list(names)}", got, "pass what init returned"
            )


def filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that hold arrays."""
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}


def as_shape(shape: Any) -> Any:
    """A shape as every layer is given it, be it told as a list."""
    return tuple(shape) if isinstance(shape, list) else shape


def _described(x: Any) -> str:
    if isinstance(x, Mapping):
        return "{" + ", ".join(f"{name} {_described(part)}" for name, part in x.items()) + "}"
    if isinstance(x, tuple | list):
        return f"({', '.join(map(_described, x))})"
    return checks.describe(x) if hasattr(x, "dtype") else ""
