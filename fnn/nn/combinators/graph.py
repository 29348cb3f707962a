"""Networks that are no chain."""

from collections.abc import Mapping
from typing import Any

from fnn.errors import ConfigError
from fnn.nn.core.composite import Go, composite, expect_layer
from fnn.types import Layer
from fnn.values import maker

INPUT = "x"


@maker
def graph(**nodes: tuple[Any, ...]) -> Layer:
    """Layers that take in what others give, told node by node: name=(layer, *names of what it takes in).

    "x" is the input of the network, and the last node its output. A node that takes in one thing is given just that,
    one that takes in several their tuple, for `add`, `multiply` or `concat` to join. So y = W₂ tanh(W₁ x) + W₃ x is
    graph(h=(chain(dense(4), tanh()), "x"), a=(dense(2), "h"), b=(dense(2), "x"), y=(add(), "a", "b")).
    ConfigError for a name that is no earlier node, for a node that takes in nothing or that nothing takes in, for one
    named x, and for no nodes.
    """
    if not nodes:
        raise ConfigError(
            "graph", "at least one node, name=(layer, *sources)", "none", "nn.chain() passes x on"
        )
    for name, node in nodes.items():
        if not isinstance(node, tuple) or isinstance(node, Layer) or len(node) < 2:
            got = "a layer alone" if isinstance(node, Layer) else repr(node)
            raise ConfigError(
                f"graph {name}",
                "(layer, *names of what it takes in)",
                got,
                f'as in (layer, "{INPUT}")',
            )
        expect_layer(f"graph {name}", node[0])
    sources = {name: tuple(node[1:]) for name, node in nodes.items()}
    _expect_known(sources)

    def through(go: Go, x: Any) -> Any:
        values = {INPUT: x}
        for name, names in sources.items():
            taken = tuple(values[source] for source in names)
            values[name] = go(name, taken if len(taken) > 1 else taken[0])
        return values[next(reversed(sources))]

    return composite("graph", {name: node[0] for name, node in nodes.items()}, through, through)


def _expect_known(sources: Mapping[str, tuple[str, ...]]) -> None:
    known = [INPUT]
    for name, names in sources.items():
        if name == INPUT:
            raise ConfigError(
                "graph x", "a node of another name", INPUT, "x is the input of the network"
            )
        for source in names:
            if source not in known:
                raise ConfigError(
                    f"graph {name}",
                    f"to take in some of {known}",
                    repr(source),
                    "name earlier nodes",
                )
        known.append(name)
    *inner, _ = sources
    if idle := set(inner).difference(*sources.values()):
        got = ", ".join(name for name in inner if name in idle)
        raise ConfigError(
            "graph", "nodes that a later one takes in", got, "the last node alone is the output"
        )
