"""Taps: the outputs of inner layers of a network, and gradients with respect to them."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError
from fnn.nn.combinators.shared import SHARED
from fnn.nn.core.composite import expect_layer, map_parts, name_of, parts
from fnn.types import Layer, Params, State
from fnn.values import maker

# Begins the name of an output in the state that a recording network returns: outputs travel in the
# state, since every combinator passes on the state of its parts, also through scans and vmaps.
MARK = "tap of "
# Name of the state of a layer that is not a dict, next to the outputs.
OWN = "tap state"


class Tapped(NamedTuple):
    """An output of an inner layer, as it travels in the state.

    Attributes:
        y: The output, stacked along leading axes where `repeat` or `ensemble` stack the layer.
        stacked: Zeros of the shape of these leading axes.
    """

    y: Any
    stacked: Any


@maker
def tap(network: Layer, *paths: str) -> Layer:
    """Return outputs of inner layers along with the output: (y, {path: output}).

    The params, the state, the draws and y are those of the network, so that trained params fit. An
    output is (batch, ...); that of a layer inside of `repeat` or `ensemble` is (batch, n, ...),
    with one entry for each copy. The layer of a `shared` has an output at each of its positions,
    such as "body/dense_0". `forward_pass` gives gradients with respect to inner outputs.

    Args:
        network: The network.
        paths: Paths of layers, as of `take` and of the params, such as "body/conv_0", or patterns
            with `*`, such as "*relu_*".

    Raises:
        ConfigError: `network` is not a Layer, no path is given, or a path matches no layer; the
            message lists the layers.
    """
    recording = record("tap", network, paths)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = network.init(key, shape)

        def marked_state() -> State:
            _, marked, _ = recording.init(key, shape)
            return marked

        # Shapes travel as those of arrays that are never computed.
        marked = jax.eval_shape(marked_state)
        _, taps = split(marked)
        shapes = {}
        for path, tapped in taps.items():
            shapes[path] = jax.tree.map(lambda leaf: leaf.shape, tapped.y)
        return params, state, (out_shape, shapes)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        y, marked = recording.apply(params, state, x, key=key, train=train)
        new_state, taps = split(marked)
        inner_outputs = outputs(taps)
        return (y, inner_outputs), new_state

    return Layer(init, apply)


def record(
    where: str,
    network: Layer,
    paths: tuple[str, ...],
) -> Layer:
    """Make a network return the outputs at some paths in its state, where `split` finds them.

    Outputs in the state that it gets, as from `offsets`, are added to those that it computes.

    Args:
        where: Name of the caller, for errors.
        network: The network.
        paths: Paths of layers, or patterns with `*`.

    Raises:
        ConfigError: `network` is not a Layer, no path is given, or a path matches no layer.
    """
    expect_layer(f"{where} network", network)
    known = _layer_paths(network)
    expected = f"a path among {known}"
    if not paths:
        raise ConfigError(f"{where} paths", f"paths among {known}", "no path", "name a layer")
    for path in paths:
        # fnmatch fails on anything but text.
        is_text = isinstance(path, str)
        if not is_text or not any(fnmatchcase(layer, path) for layer in known):
            got = repr(path)
            advice = "name a layer, as in body/conv_0, or use a pattern with *"
            raise ConfigError(f"{where} path", expected, got, advice)
    return _record_parts(network, "", paths)


def split(marked: State) -> tuple[State, dict[str, Tapped]]:
    """Split the state of a recording network into that of the network, and the outputs by path."""
    # The state of a layer may be any tree; outputs are in dicts only.
    if not isinstance(marked, Mapping):
        return marked, {}
    taps: dict[str, Tapped] = {}
    state = {}
    for name, part in marked.items():
        if isinstance(part, Tapped):
            path = name.removeprefix(MARK)
            taps[path] = part
            continue
        part_state, part_taps = split(part)
        taps |= part_taps
        # A part that had outputs only has no state.
        if not part_taps or jax.tree.leaves(part_state):
            state[name] = part_state
    own_state = state.get(OWN, state)
    return own_state, taps


def outputs(taps: Mapping[str, Tapped]) -> dict[str, Any]:
    """Return the outputs by path, with the batch as the first axis."""

    def batch_first(tapped: Tapped) -> Any:
        # (copies, batch, ...) -> (batch, copies, ...)
        batch_axis = tapped.stacked.ndim

        def move(leaf: jax.Array) -> jax.Array:
            return jnp.moveaxis(leaf, batch_axis, 0)

        return jax.tree.map(move, tapped.y)

    return {path: batch_first(tapped) for path, tapped in taps.items()}


def offsets(marked: State) -> State:
    """Return zeros for the outputs in the state of a recording network, in their places."""
    zeros: dict[str, Any] = {}
    if not isinstance(marked, Mapping):
        return zeros

    def zeros_like(leaf: Any) -> jax.Array:
        return jnp.zeros(leaf.shape, leaf.dtype)

    for name, part in marked.items():
        if isinstance(part, Tapped):
            zeros[name] = jax.tree.map(zeros_like, part)
            continue
        inner = offsets(part)
        # Only the places of outputs, not the state around them.
        if inner:
            zeros[name] = inner
    return zeros


def with_offsets(state: State, added: State) -> State:
    """Put outputs of `offsets` into the state of a network, in their places."""
    if isinstance(added, Tapped):
        return added
    if not added:
        return state
    # A state that is no dict gets a name, next to the outputs.
    merged = dict(state) if isinstance(state, Mapping) else {OWN: state}
    for name, part in added.items():
        own_part = merged.get(name, {})
        merged[name] = with_offsets(own_part, part)
    return merged


def _layer_paths(network: Layer, prefix: str = "") -> list[str]:
    """Return the paths of all inner layers, in order."""
    paths = []
    for name, part in parts(network).items():
        path = prefix + name
        inner_paths = _layer_paths(part, f"{path}/")
        paths += [path, *inner_paths]
    return paths


def _record_parts(
    layer: Layer,
    prefix: str,
    patterns: tuple[str, ...],
) -> Layer:
    """Make the inner layers of a layer return their outputs, those whose paths match."""

    def change(name: str, part: Layer) -> Layer:
        path = prefix + name
        inner = _record_parts(part, f"{path}/", patterns)
        is_tapped = any(fnmatchcase(path, pattern) for pattern in patterns)
        return _record(inner, name, is_tapped)

    if not layer.parts:
        return layer
    return map_parts(layer, change)


def _record(
    layer: Layer,
    name: str,
    is_tapped: bool,
) -> Layer:
    """Make a layer return its output, if it is tapped, and prepend its name to those of its parts.

    Names are relative to the layer that returns them, since only the layers around it know where it
    is: the layer of a `shared` is at several positions.
    """
    mark = MARK + name
    # The beginning of the names of inner outputs: outside of the layer, and inside.
    outside = f"{mark}/"
    inside = MARK
    if not layer.parts:
        # A layer without parts has inner outputs only where it is a position of a shared layer.
        outside = mark
        inside = MARK + SHARED

    def add_output(state: State, y: Any) -> State:
        state = _renamed(state, inside, outside)
        if not is_tapped:
            return state
        own_state = state if isinstance(state, Mapping) else {OWN: state}
        # No leading axes yet: `repeat` and `ensemble` stack the zero too.
        tapped = Tapped(y, jnp.zeros(()))
        return {**own_state, mark: tapped}

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = layer.init(key, shape)
        y = jax.tree.map(jnp.zeros, out_shape, is_leaf=trees.is_shape)
        marked = add_output(state, y)
        return params, marked, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        offset = None
        if is_tapped and isinstance(state, Mapping) and mark in state:
            # The offset is no state of the layer, hence is taken out.
            rest = {name: part for name, part in state.items() if name != mark}
            offset = state[mark]
            state = rest.get(OWN, rest)
        state = _renamed(state, outside, inside)
        y, new_state = layer.apply(params, state, x, key=key, train=train)
        if offset is not None:
            y = jax.tree.map(jnp.add, y, offset.y)
        marked = add_output(new_state, y)
        return y, marked

    layer_name = name_of(layer)
    return Layer(init, apply, layer_name, layer.parts, layer.with_parts, layer.by_name)


def _renamed(
    state: State,
    old: str,
    new: str,
) -> State:
    """Replace the beginning of the names of outputs in a state."""
    if not isinstance(state, Mapping):
        return state
    renamed = {}
    for name, part in state.items():
        if isinstance(part, Tapped):
            rest = name.removeprefix(old)
            renamed[new + rest] = part
        else:
            renamed[name] = _renamed(part, old, new)
    return renamed
