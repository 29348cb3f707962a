"""Networks as directed acyclic graphs of named layers."""

from collections.abc import Mapping
from typing import Any

from fnn.errors import ConfigError
from fnn.nn.combinators.pick import expect_path, part_of
from fnn.nn.core.composite import Go, composite, expect_layer
from fnn.nn.core.decoder import per_position
from fnn.types import Layer
from fnn.values import maker

INPUT = "x"


@maker
def graph(**nodes: tuple[Any, ...]) -> Layer:
    """Directed acyclic graph of layers, given node by node as name=(layer, *sources).

    y = W₂ tanh(W₁ x) + W₃ x is graph(h=(chain(dense(4), tanh()), "x"), a=(dense(2), "h"),
    b=(dense(2), "x"), y=(add(), "a", "b")).

    A source may be a part of a tuple or dict, as "x/image" of an input with several arrays, or
    "encoder/mean" of a node that ends in parallel(..., join="dict"). A dict of sources gives the
    layer a dict: y=(chain(), {"image": "decoder", "mean": "encoder/mean"}) is a network with two
    outputs, since chain() is the identity.

    Args:
        nodes: For each node, a layer and the names of its sources: earlier nodes, or "x" for the
            input of the network, and paths of their parts. A layer with one source gets its output;
            a layer with several gets their tuple, which `add`, `multiply` or `concat` join. The
            last node is the output.

    Raises:
        ConfigError: There are no nodes, a node is not (layer, *sources), a node is named "x", a
            source is not an earlier node, or a node before the last is not a source of any.
        ShapeError: A source has no such part.
    """
    if not nodes:
        advice = "nn.chain() is the identity"
        raise ConfigError(
            "graph",
            "at least one node, name=(layer, *sources)",
            "0 nodes",
            advice,
        )
    for name, node in nodes.items():
        _expect_node(name, node)
    # The node i of the graph gets the key fold_in(key, i), as in a chain.
    layers = {name: node[0] for name, node in nodes.items()}
    sources = {name: tuple(node[1:]) for name, node in nodes.items()}
    paths = {name: _paths(name, own) for name, own in sources.items()}
    _expect_earlier(paths)
    _expect_all_used(paths)

    def through(go: Go, x: Any) -> Any:
        # Shapes and arrays pass through the graph alike.
        values = {INPUT: x}
        for name, own in sources.items():
            inputs = tuple(_value(name, source, values) for source in own)
            # One source is passed on bare, so that layers of one array need no unpacking.
            values[name] = go(name, inputs if len(inputs) > 1 else inputs[0])
        output = next(reversed(sources))
        return values[output]

    return per_position(composite("graph", layers, through, through))


def _expect_node(name: str, node: Any) -> None:
    # A layer alone is the likely mistake, so its message names it and does not print the layer.
    if not isinstance(node, tuple) or len(node) < 2:
        got = "a layer alone" if isinstance(node, Layer) else repr(node)
        advice = f'as in (layer, "{INPUT}")'
        raise ConfigError(
            f"graph {name}",
            "(layer, *names of its sources)",
            got,
            advice,
        )
    expect_layer(f"graph {name}", node[0])


def _paths(name: str, sources: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the paths among the sources of a node, or raise ConfigError."""
    paths: list[str] = []
    for source in sources:
        # Sources by name make a dict.
        paths += source.values() if isinstance(source, Mapping) and source else [source]
    for path in paths:
        if not isinstance(path, str):
            expected = "names of its sources, or a dict of such names"
            raise ConfigError(f"graph {name}", expected, repr(path), f'as in (layer, "{INPUT}")')
        expect_path(f"graph {name}", path)
    return tuple(paths)


def _node_of(path: str) -> str:
    return path.partition("/")[0]


def _value(name: str, source: Any, values: Mapping[str, Any]) -> Any:
    """Return the value of a source of a node: the output of a node, a part of it, or a dict."""
    if isinstance(source, Mapping):
        return {key: _value(name, path, values) for key, path in source.items()}
    node, _, path = source.partition("/")
    return part_of(f"graph {name}: {node}", values[node], path) if path else values[node]


def _expect_earlier(sources: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ConfigError unless each source is the input or an earlier node, so without cycles."""
    known = [INPUT]
    for name, names in sources.items():
        # A node named x would hide the input.
        if name == INPUT:
            advice = "x is the input of the network"
            raise ConfigError(
                "graph x",
                "a node of another name",
                INPUT,
                advice,
            )
        for source in names:
            if _node_of(source) not in known:
                expected = f"sources among {known}"
                raise ConfigError(
                    f"graph {name}",
                    expected,
                    repr(source),
                    "name earlier nodes",
                )
        known.append(name)


def _expect_all_used(sources: Mapping[str, tuple[str, ...]]) -> None:
    # The last node is the output, which no other node needs to use.
    *inner, _ = sources
    used = {_node_of(path) for paths in sources.values() for path in paths}
    unused = [name for name in inner if name not in used]
    if unused:
        expected = "each node but the last to be a source of another"
        raise ConfigError(
            "graph",
            expected,
            ", ".join(unused),
            "remove it, or use its output",
        )
