"""The leaf layers of a network and their outputs, and the order of layers and parameters."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.nn.combinators.shared import SHARED
from fnn.nn.core.composite import name_of, parts
from fnn.nn.transforms.tap import Tapped, record, split
from fnn.train.recipe import Recipe, expect_recipe
from fnn.types import Layer, Params, RandomKey, Shape, State

# Makers of layers whose parts have several copies, with stacked params and states.
STACKED = frozenset({"repeat", "ensemble"})


class Node(NamedTuple):
    """A layer of a network.

    Attributes:
        kind: Name of its maker, such as "relu".
        is_leaf: Whether it is not made of others.
        place: Its place in the order of the network.
    """

    kind: str
    is_leaf: bool
    place: int


Nodes = dict[str, Node]  # by path


class Columns(NamedTuple):
    """The columns of layers, or of parameters, in the order of the network.

    Attributes:
        names: One for each layer or parameter; for those with copies, one for each copy, such as
            "repeat_1/body/relu_1[0]".
        kinds: The maker of each layer, such as "relu"; "" for parameters.
        order: Indices that sort the copies of all layers into this order, (columns,).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    order: np.ndarray


class LayerOutput(NamedTuple):
    """The output of a leaf layer.

    Attributes:
        path: Path of the layer.
        kind: Name of its maker, such as "relu".
        y: The output, (copies, batch, ...). A layer within `repeat` or `ensemble` has several
            copies, all others have one.
        copies: Shape of the copies, () for a layer without.
    """

    path: str
    kind: str
    y: jax.Array
    copies: Shape


def layer_names(recipe: Recipe, shape: Shape) -> tuple[str, ...]:
    """Return the names of the layers that instruments measure, in the order of the network.

    These are the layers that are not made of others and whose output is a single array. Each copy
    of a layer within `repeat` and `ensemble` has a name, such as "repeat_1/body/relu_1[0]".

    Args:
        recipe: From `train.recipe`.
        shape: Shape of the inputs of one example as the network gets them, as of `train.start`.

    Raises:
        ConfigError: `recipe` is not a recipe.
        ShapeError: The network does not accept inputs of this shape.
    """
    expect_recipe("layer_names", recipe, trains=False)
    return columns_of_shape(recipe.network, shape).names


def parameter_names(recipe: Recipe, shape: Shape) -> tuple[str, ...]:
    """Return the names of the parameters that instruments measure, in the order of the network.

    These are their paths. Each copy of a parameter within `repeat` and `ensemble` has a name, such
    as "repeat_1/body/dense_0/kernel[0]".

    Args:
        recipe: From `train.recipe`.
        shape: Shape of the inputs of one example as the network gets them, as of `train.start`.

    Raises:
        ConfigError: `recipe` is not a recipe.
        ShapeError: The network does not accept inputs of this shape.
    """
    expect_recipe("parameter_names", recipe, trains=False)

    def params() -> Params:
        return recipe.network.init(jax.random.key(0), shape)[0]

    return columns_of_parameters(recipe.network, jax.eval_shape(params)).names


def columns_of_shape(network: Layer, shape: Any) -> Columns:
    """Return the columns of the leaf layers, for the input shape of one example."""

    def taps() -> dict[str, Tapped]:
        key = jax.random.key(0)
        if not network.parts:
            _, _, out_shape = network.init(key, shape)
            y = jax.tree.map(jnp.zeros, out_shape, is_leaf=trees.is_shape)
            return _root_tap(network, y)
        _, marked, _ = _recording(network).init(key, shape)
        return split(marked)[1]

    # Nothing is computed. Shapes are those of one example, which does not matter for names.
    found = _select_arrays(jax.eval_shape(taps))
    return columns(network, {path: tapped.stacked.shape for path, tapped in found.items()})


def columns_of_layers(network: Layer, outputs: Iterable[LayerOutput]) -> Columns:
    """Return the columns of layers with these outputs."""
    return columns(network, {output.path: output.copies for output in outputs})


def columns_of_parameters(network: Layer, params: Params) -> Columns:
    """Return the columns of parameters."""
    return columns(network, copies_of_parameters(network, params))


def copies_of_parameters(network: Layer, params: Params) -> dict[str, Shape]:
    """Return the shape of the copies of each parameter by path, () for one without."""
    nodes = _nodes(network)
    copies = {}
    for path, leaf in trees.named_leaves(params).items():
        copies[path] = leaf.shape[: _count_stacked(nodes, path)]
    return copies


def layer_outputs(
    network: Layer,
    params: Params,
    state: State,
    x: Any,
    *,
    key: RandomKey | None,
) -> list[LayerOutput]:
    """Return the outputs of the leaf layers in training mode that are single arrays.

    Args:
        network: The network.
        params: Its parameters.
        state: Its state.
        x: Inputs, (batch, ...).
        key: Random key of the noise.
    """
    if network.parts:
        _, marked = _recording(network).apply(params, state, x, key=key, train=True)
        _, taps = split(marked)
    else:
        y, _ = network.apply(params, state, x, key=key, train=True)
        taps = _root_tap(network, y)
    nodes = _nodes(network)
    outputs = []
    for path, tapped in _select_arrays(taps).items():
        copies = tapped.stacked.shape
        y = tapped.y
        # (copies..., batch, ...) -> (copies, batch, ...)
        flat = y.reshape(-1, *y.shape[len(copies) :])
        origin = _origin(nodes, path)
        kind = "" if origin is None else nodes[origin].kind
        outputs.append(LayerOutput(path, kind, flat, copies))
    return outputs


def _root_tap(network: Layer, y: Any) -> dict[str, Tapped]:
    """Return the output of a network that is a single leaf layer."""
    return {name_of(network): Tapped(y, jnp.zeros(()))}


def _recording(network: Layer) -> Layer:
    """Return the network that records the outputs of its leaf layers in its state."""
    leaves = [path for path, node in _nodes(network).items() if node.is_leaf]
    return record("instruments", network, tuple(leaves))


def _select_arrays(taps: Mapping[str, Tapped]) -> dict[str, Tapped]:
    """Select the outputs of leaf layers that are single arrays, sorted by path."""
    selected = {}
    for path in sorted(taps):
        # The position of a shared layer that has parts is no leaf.
        has_inner = any(other.startswith(f"{path}/") for other in taps)
        is_array = jax.tree_util.all_leaves([taps[path].y])
        if is_array and not has_inner:
            selected[path] = taps[path]
    return selected


def _nodes(network: Layer) -> Nodes:
    """Return all layers of a network by path, in its order; the path of the network is ""."""
    name = name_of(network)
    if not network.parts:
        return {name: Node(name, is_leaf=True, place=0)}
    nodes = {"": Node(name, is_leaf=False, place=0)}
    _add_nodes(nodes, network, "")
    return nodes


def _add_nodes(nodes: Nodes, layer: Layer, prefix: str) -> None:
    for name, part in parts(layer).items():
        path = f"{prefix}{name}"
        nodes[path] = Node(name_of(part), not part.parts, len(nodes))
        _add_nodes(nodes, part, f"{path}/")


def columns(network: Layer, copies: Mapping[str, Shape]) -> Columns:
    """Return the columns of layers or parameters, given the shape of their copies by path."""
    nodes = _nodes(network)
    entries = []
    for path, shape in copies.items():
        origin = _origin(nodes, path)
        kind = "" if origin is None else nodes[origin].kind
        for index, name in zip(np.ndindex(*shape), copy_names(path, shape), strict=True):
            entries.append((_rank(nodes, path, index), name, kind))
    order = sorted(range(len(entries)), key=lambda position: entries[position][0])
    names = tuple(entries[position][1] for position in order)
    kinds = tuple(entries[position][2] for position in order)
    return Columns(names, kinds, np.array(order, int))


def copy_names(path: str, copies: Shape) -> list[str]:
    """Return the path, or for several copies, one name for each.

    Args:
        path: Path of a layer or parameter.
        copies: Shape of its copies.
    """
    if not copies:
        return [path]
    return [f"{path}[{','.join(map(str, index))}]" for index in np.ndindex(*copies)]


def _rank(nodes: Nodes, path: str, index: tuple[int, ...]) -> list[tuple[int, str]]:
    """Return the key to sort a layer or parameter by, with the index of its copy.

    All layers of the first copy come before those of the second.
    """
    rank = []
    rest = list(index)
    for prefix in _prefixes(path):
        origin = _origin(nodes, prefix)
        if origin is None:
            # The name of a parameter.
            rank.append((len(nodes), prefix))
            continue
        rank.append((nodes[origin].place, ""))
        if nodes[origin].kind in STACKED and rest:
            rank.append((rest.pop(0), ""))
    return rank


def _count_stacked(nodes: Nodes, path: str) -> int:
    """Return the number of layers around a parameter that stack the params of their parts."""
    origins = [_origin(nodes, prefix) for prefix in _prefixes(path)]
    return sum(origin is not None and nodes[origin].kind in STACKED for origin in origins)


def _prefixes(path: str) -> list[str]:
    """Return "", "a" and "a/b" for "a/b"."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(len(names) + 1)]


def _origin(nodes: Nodes, path: str) -> str | None:
    """Return the path of a layer, or for one inside of a shared layer, its path in that layer.

    As in "tie/shared/relu_1" for "tie/body/chain_0/relu_1", where "tie/body/chain_0" is a position
    of the shared layer. None if there is no layer of this path.
    """
    if path in nodes:
        return path
    position = path
    while position and position not in nodes:
        position, _, _ = position.rpartition("/")
    inner = path.removeprefix(position)
    container = position
    while container:
        container, _, _ = container.rpartition("/")
        origin = f"{container}/{SHARED}{inner}".removeprefix("/")
        if origin in nodes:
            return origin
    return None
