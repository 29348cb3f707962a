"""Layers made of layers: params, state, keys and error paths of their parts."""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from typing import Any

import jax

from fnn import checks
from fnn.errors import ConfigError, TreeMismatchError, inside
from fnn.types import FROZEN, Layer, Params, Shape, Span, State

Parts = Mapping[str, Layer]
# (name, x) -> y: passes x, an array or a shape, through the part of this name.
Go = Callable[[str, Any], Any]
# (go, x) -> y: passes x through all parts.
Forward = Callable[[Go, Any], Any]
# (name, layer) -> layer
Change = Callable[[str, Layer], Layer]


def composite(
    where: str,
    parts: Parts,
    shapes: Forward,
    arrays: Forward,
) -> Layer:
    """Make a layer from parts and from two functions that pass shapes and arrays through them.

    The params and the state are dicts by the names of the parts; a part without params, or without
    state, has no entry.

    Args:
        where: Name of the layer.
        parts: The layers by name.
        shapes: (go, shape) -> shape of y, where go(name, shape) is the output shape of a part.
        arrays: (go, x) -> y, where go(name, x) is the output of a part.

    Returns:
        The layer. Its `apply` raises TreeMismatchError for params or state of other names, and
        errors inside a part name its path.

    Raises:
        ConfigError: A part is not a Layer, or its name is empty, has a slash, or is that of frozen
            params.
    """
    for name, part in parts.items():
        expect_layer(f"{where} {name}", part)
        # Paths of parts and of params are their names joined by "/".
        if not name or "/" in name:
            raise ConfigError(where, "names without /", repr(name), "choose another name")
        # It marks the frozen params in a state.
        if name == FROZEN:
            raise ConfigError(where, "names of parts", repr(name), "choose another one")
    # Keys depend on the index of a part, so that renaming one does not change its draws.
    indices = {name: index for index, name in enumerate(parts)}

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("key", key)
        params, state = {}, {}

        def go(name: str, shape: Shape) -> Shape:
            with inside(name, shape=shape):
                part_key = jax.random.fold_in(key, indices[name])
                part = parts[name]
                part_params, part_state, out_shape = part.init(part_key, as_shape(shape))
            # A part that is passed twice is initialized twice, with the same key.
            params[name] = part_params
            state[name] = part_state
            return out_shape

        out_shape = shapes(go, as_shape(shape))
        return drop_empty(params), drop_empty(state), out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        expect_names(where, parts, params, state)
        new_state = dict(state)

        def go(name: str, x: Any) -> Any:
            part_params = params.get(name, {})
            part_state = state.get(name, {})
            with inside(name, **describe_arrays(x, part_params)):
                part_key = None
                if key is not None:
                    part_key = jax.random.fold_in(key, indices[name])
                part = parts[name]
                y, new_part_state = part.apply(
                    part_params, part_state, x, key=part_key, train=train
                )
            new_state[name] = new_part_state
            return y

        y = arrays(go, x)
        return y, drop_empty(new_state)

    def with_parts(parts: Parts) -> Layer:
        return composite(where, parts, shapes, arrays)

    return Layer(init, apply, where, parts, with_parts, by_name=True)


def name_layers(
    where: str,
    layers: Sequence[Layer],
    named: Parts,
) -> dict[str, Layer]:
    """Return layers by name: positional ones as `conv_0`, from maker and index, then named ones.

    Raises:
        ConfigError: A given name is also that of a positional layer.
    """
    positional = {}
    for index, layer in enumerate(layers):
        positional[f"{name_of(layer)}_{index}"] = layer
    clash = sorted(positional.keys() & named.keys())
    if clash:
        expected = "names that no positional layer has"
        raise ConfigError(where, expected, ", ".join(clash), "choose another name")
    return positional | dict(named)


def name_of(layer: Any) -> str:
    """Return the name of a layer in a chain, "layer" for one without a name."""
    name = layer.name if isinstance(layer, Layer) else None
    return name or "layer"


def wrap_layer(
    layer: Layer,
    changed: Layer,
    rewrap: Callable[[Layer], Layer],
) -> Layer:
    """Give a changed layer the name and the parts of the original, so that no params are renamed.

    Args:
        layer: The original.
        changed: The layer that computes.
        rewrap: The same change, for the original with other parts.
    """

    def with_parts(parts: Mapping[str, Any]) -> Layer:
        return rewrap(_with_parts(layer, parts))

    return Layer(
        changed.init,
        changed.apply,
        name_of(layer),
        layer.parts,
        with_parts,
        decoder=map_decoder(layer, rewrap),
    )


def map_decoder(
    layer: Layer,
    change: Callable[[Layer], Layer],
) -> Callable[[Span], Layer] | None:
    """Return the decoder of a changed layer: the same change of its decoder, if it has one."""
    decoder = layer.decoder
    if decoder is None:
        return None
    return lambda span: change(decoder(span))


def map_parts(layer: Layer, change: Change) -> Layer:
    """Rebuild a layer with change(name, part) for each of its direct parts."""

    def change_part(name: str, part: Any) -> Any:
        if isinstance(part, Layer):
            return change(name, part)
        # A function that makes the part, as of `repeat` and `shared`: change its result.
        return lambda *arguments: change(name, part(*arguments))

    changed = {name: change_part(name, part) for name, part in layer.parts.items()}
    return _with_parts(layer, changed)


def _with_parts(layer: Layer, parts: Mapping[str, Any]) -> Layer:
    assert layer.with_parts is not None  # a layer with parts always has it
    return layer.with_parts(parts)


def parts(layer: Layer) -> dict[str, Layer]:
    """Return the direct parts of a layer by name; a leaf layer has none."""
    found: dict[str, Layer] = {}

    def record(name: str, part: Layer) -> Layer:
        found[name] = part
        return part

    # Rebuilding calls the functions that make parts, which `layer.parts` has uncalled.
    if layer.parts:
        map_parts(layer, record)
    return found


def layer_paths(layer: Layer, prefix: str = "") -> list[str]:
    """Return the paths of all layers inside of a layer, as "body" and "body/conv_0".

    Args:
        layer: The layer.
        prefix: Beginning of all paths.
    """
    found = []
    for name, part in parts(layer).items():
        path = f"{prefix}{name}"
        found.extend([path, *layer_paths(part, f"{path}/")])
    return found


def map_leaves(
    change: Change,
    layer: Layer,
    path: str = "",
) -> Layer:
    """Rebuild a network with change(path, leaf) for every layer that is not made of others.

    Args:
        change: (path, leaf) -> layer.
        layer: The network; a leaf layer is changed under the given path.
        path: Path of `layer`, "" at the root. Paths are those of the params, as "body/conv_0".
    """
    if not layer.parts:
        return change(path, layer)

    def change_part(name: str, part: Layer) -> Layer:
        part_path = f"{path}/{name}" if path else name
        return map_leaves(change, part, part_path)

    return map_parts(layer, change_part)


def matching_layers(
    where: str,
    layer: Layer,
    patterns: Collection[str],
) -> Set[str]:
    """Return the paths of the layers that a pattern matches; without patterns "", the whole.

    Args:
        where: Name of the caller, for errors.
        layer: The network.
        patterns: Paths of layers, or patterns with `*`.

    Raises:
        ConfigError: A pattern matches no layer.
    """
    if not patterns:
        return {""}
    return match_paths(f"{where} path", layer_paths(layer), patterns)


def match_paths(
    where: str,
    paths: Collection[str],
    patterns: Collection[str],
) -> Set[str]:
    """Return the paths that a pattern matches; raise ConfigError for a pattern without a match.

    Args:
        where: Name of the argument, for errors.
        paths: The paths.
        patterns: Paths, or patterns with `*`.
    """
    # A text is a sequence too, of its letters.
    if isinstance(patterns, str):
        advice = f"write ({patterns!r},)"
        raise ConfigError(where, "a sequence of paths", repr(patterns), advice)
    for pattern in patterns:
        # fnmatch fails on anything but text.
        is_text = isinstance(pattern, str)
        if not is_text or not any(fnmatchcase(path, pattern) for path in paths):
            expected = f"a path among {list(paths)}"
            raise ConfigError(where, expected, repr(pattern), "name a layer")
    return {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}


def change_at(
    paths: Set[str],
    change: Change,
    layer: Layer,
    path: str = "",
) -> Layer:
    """Change the layers at these paths; those inside of a changed layer stay as they are.

    Args:
        paths: Paths of layers; "" is the whole network.
        change: (path, layer) -> layer.
        layer: The network, or a part of it.
        path: Path of `layer`, "" at the root.
    """
    if path in paths:
        return change(path, layer)
    if not any(is_under(other, path) for other in paths):
        return layer

    def change_part(name: str, part: Layer) -> Layer:
        part_path = f"{path}/{name}" if path else name
        return change_at(paths, change, part, part_path)

    return map_parts(layer, change_part)


def is_under(path: str, prefix: str) -> bool:
    """Return whether a path is that of a layer, or of a part of it; the prefix "" is the whole."""
    return not prefix or f"{path}/".startswith(f"{prefix}/")


def describe_arrays(x: Any, params: Any) -> dict[str, Any]:
    """Describe x and the params of a layer as `float32[2,8,8,1]` each, for the note of an error."""
    arrays = {"x": x}
    if isinstance(params, Mapping):
        arrays.update(params)
    described = {name: _describe(array) for name, array in arrays.items()}
    return {name: text for name, text in described.items() if text}


def _describe(x: Any) -> str:
    if isinstance(x, Mapping):
        entries = [f"{name} {_describe(part)}" for name, part in x.items()]
        return "{" + ", ".join(entries) + "}"
    if isinstance(x, tuple | list):
        return f"({', '.join(map(_describe, x))})"
    return checks.describe(x) if hasattr(x, "dtype") else ""


def expect_layer(where: str, part: Any) -> Layer:
    """Return the part if it is a Layer; raise ConfigError otherwise, as for a maker not called."""
    if isinstance(part, list | tuple):
        advice = "unpack it, as in nn.chain(*layers)"
        raise ConfigError(where, "a Layer", f"a {type(part).__name__} of {len(part)}", advice)
    if not isinstance(part, Layer):
        raise ConfigError(where, "a Layer", repr(part), "call the maker, as in nn.relu()")
    return part


def expect_names(
    where: str,
    names: Collection[str],
    *trees: Any,
) -> None:
    """Raise TreeMismatchError unless each tree is a dict whose keys are all among these names."""
    for tree in trees:
        is_dict = isinstance(tree, Mapping)
        if is_dict and tree.keys() <= set(names):
            continue
        got = list(tree) if is_dict else type(tree).__name__
        expected = f"entries among {list(names)}"
        raise TreeMismatchError(where, expected, got, "pass the tree that init returned")


def drop_empty(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that hold arrays."""
    return {name: part for name, part in tree.items() if jax.tree.leaves(part)}


def as_shape(shape: Any) -> Any:
    """Return a shape given as a list as a tuple, and anything else unchanged."""
    return tuple(shape) if isinstance(shape, list) else shape
