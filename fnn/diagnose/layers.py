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
Rank = list[tuple[int, str]]  # a key to sort by


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

    network = recipe.network

    def params() -> Params:
        key = jax.random.key(0)
        params, _, _ = network.init(key, shape)
        return params

    shapes = jax.eval_shape(params)
    return columns_of_parameters(network, shapes).names


def columns_of_shape(network: Layer, shape: Any) -> Columns:
    """Return the columns of the leaf layers, for the input shape of one example."""

    def taps() -> dict[str, Tapped]:
        key = jax.random.key(0)
        if not network.parts:
            _, _, out_shape = network.init(key, shape)
            y = jax.tree.map(jnp.zeros, out_shape, is_leaf=trees.is_shape)
            return _root_tap(network, y)
        recording = _recording(network)
        _, marked, _ = recording.init(key, shape)
        _, taps = split(marked)
        return taps

    # Nothing is computed. Shapes are those of one example, which does not matter for names.
    shapes = jax.eval_shape(taps)
    copies = {}
    for path, tapped in _select_arrays(shapes).items():
        copies[path] = tapped.stacked.shape
    return columns(network, copies)


def columns_of_layers(network: Layer, outputs: Iterable[LayerOutput]) -> Columns:
    """Return the columns of layers with these outputs."""
    copies = {}
    for output in outputs:
        copies[output.path] = output.copies
    return columns(network, copies)


def columns_of_parameters(network: Layer, params: Params) -> Columns:
    """Return the columns of parameters."""
    copies = copies_of_parameters(network, params)
    return columns(network, copies)


def copies_of_parameters(network: Layer, params: Params) -> dict[str, Shape]:
    """Return the shape of the copies of each parameter by path, () for one without."""
    nodes = _nodes(network)
    copies = {}
    for path, leaf in trees.named_leaves(params).items():
        # Stacked arrays have the axes of the copies first.
        axes = _count_stacked(nodes, path)
        copies[path] = leaf.shape[:axes]
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
        recording = _recording(network)
        _, marked = recording.apply(
            params,
            state,
            x,
            key=key,
            train=True,
        )
        _, taps = split(marked)
    else:
        y, _ = network.apply(
            params,
            state,
            x,
            key=key,
            train=True,
        )
        taps = _root_tap(network, y)
    nodes = _nodes(network)
    outputs = []
    for path, tapped in _select_arrays(taps).items():
        copies = tapped.stacked.shape
        y = tapped.y
        axes = len(copies)
        # (copies..., batch, ...) -> (copies, batch, ...)
        flat = y.reshape(-1, *y.shape[axes:])
        kind = _kind(nodes, path)
        output = LayerOutput(
            path,
            kind,
            flat,
            copies,
        )
        outputs.append(output)
    return outputs


def _root_tap(network: Layer, y: Any) -> dict[str, Tapped]:
    """Return the output of a network that is a single leaf layer."""
    name = name_of(network)
    no_copies = jnp.zeros(())
    return {name: Tapped(y, no_copies)}


def _recording(network: Layer) -> Layer:
    """Return the network that records the outputs of its leaf layers in its state."""
    nodes = _nodes(network)
    leaves = [path for path, node in nodes.items() if node.is_leaf]
    return record("instruments", network, tuple(leaves))


def _select_arrays(taps: Mapping[str, Tapped]) -> dict[str, Tapped]:
    """Select the outputs of leaf layers that are single arrays, sorted by path."""
    selected = {}
    for path in sorted(taps):
        tapped = taps[path]
        # The position of a shared layer that has parts is no leaf.
        inside = f"{path}/"
        has_inner = any(other.startswith(inside) for other in taps)
        is_array = jax.tree_util.all_leaves([tapped.y])
        if is_array and not has_inner:
            selected[path] = tapped
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
        kind = name_of(part)
        is_leaf = not part.parts
        place = len(nodes)
        nodes[path] = Node(kind, is_leaf, place)
        _add_nodes(nodes, part, f"{path}/")


def columns(network: Layer, copies: Mapping[str, Shape]) -> Columns:
    """Return the columns of layers or parameters, given the shape of their copies by path."""
    nodes = _nodes(network)
    names: list[str] = []
    kinds: list[str] = []
    ranks: list[Rank] = []
    for path, shape in copies.items():
        own_names = copy_names(path, shape)
        names += own_names
        kinds += [_kind(nodes, path)] * len(own_names)
        for index in np.ndindex(*shape):
            rank = _rank(nodes, path, index)
            ranks.append(rank)
    positions = range(len(ranks))
    order = sorted(positions, key=ranks.__getitem__)
    return Columns(
        names=tuple(names[position] for position in order),
        kinds=tuple(kinds[position] for position in order),
        order=np.array(order, int),
    )


def copy_names(path: str, copies: Shape) -> list[str]:
    """Return the path, or for several copies, one name for each.

    Args:
        path: Path of a layer or parameter.
        copies: Shape of its copies.
    """
    if not copies:
        return [path]
    names = []
    for index in np.ndindex(*copies):
        numbers = ",".join(map(str, index))
        names.append(f"{path}[{numbers}]")
    return names


def _rank(
    nodes: Nodes,
    path: str,
    index: tuple[int, ...],
) -> Rank:
    """Return the key to sort a layer or parameter by, with the index of its copy.

    All layers of the first copy come before those of the second.
    """
    rank = []
    rest = list(index)
    for prefix in _prefixes(path):
        origin = _origin(nodes, prefix)
        if origin is None:
            # The name of a parameter. The parts of a layer precede its own parameters.
            last = len(nodes)
            rank.append((last, prefix))
            continue
        node = nodes[origin]
        rank.append((node.place, ""))
        if node.kind in STACKED and rest:
            copy = rest.pop(0)
            rank.append((copy, ""))
    return rank


def _count_stacked(nodes: Nodes, path: str) -> int:
    """Return the number of layers around a parameter that stack the params of their parts."""
    count = 0
    for prefix in _prefixes(path):
        kind = _kind(nodes, prefix)
        count += kind in STACKED
    return count


def _kind(nodes: Nodes, path: str) -> str:
    """Return the name of the maker of a layer; "" where there is no layer of this path."""
    origin = _origin(nodes, path)
    return "" if origin is None else nodes[origin].kind


def _prefixes(path: str) -> list[str]:
    """Return "", "a" and "a/b" for "a/b"."""
    prefixes = [""]
    for name in path.split("/"):
        outer = prefixes[-1]
        prefix = f"{outer}/{name}" if outer else name
        prefixes.append(prefix)
    return prefixes


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
