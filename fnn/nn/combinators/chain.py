"""One layer after another."""

from typing import Any

from fnn.nn.composite import Go, by_place, composite
from fnn.types import Layer
from fnn.values import maker


@maker
def chain(*layers: Layer, **named: Layer) -> Layer:
    """One layer after another, y = f_n(... f_2(f_1(x))).

    The params and the state are dicts: a named layer stands under its name, a positional one under its maker's name and
    its place, `conv_0`; a layer without params, or without state, does not appear. Layer i gets fold_in(key, i).
    ConfigError for what is no layer; TreeMismatchError for params of no layer here; a layer's error names its path.
    """
    parts = by_place("chain", layers, named)

    def through(go: Go, x: Any) -> Any:
        for name in parts:
            x = go(name, x)
        return x

    return composite("chain", parts, through, through)
