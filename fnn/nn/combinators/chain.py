"""Layers one after another, and residual connections around them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from fnn.errors import ShapeError
from fnn.nn.core.composite import Go, by_place, composite
from fnn.types import Layer, Shape
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


@maker
def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """A body and a way around it, y = body(x) + shortcut(x), the shortcut being x itself unless given.

    The params and the state are dicts of `body` and `shortcut`. ShapeError where the two ends differ in shape
    [He et al. 2016, arXiv:1512.03385].
    """
    parts = {"body": body} | ({} if shortcut is None else {"shortcut": shortcut})

    def both(go: Go, x: Any, add: Callable[[Any, Any], Any]) -> Any:
        return add(go("body", x), go("shortcut", x) if "shortcut" in parts else x)

    shapes, arrays = partial(both, add=_same), partial(both, add=jnp.add)
    return composite("residual", parts, shapes, arrays)


def _same(body: Shape, shortcut: Shape) -> Shape:
    if body != shortcut:
        advice = "give a shortcut that ends like the body, such as nn.conv(channels, 1)"
        raise ShapeError("residual body", f"to end in {shortcut}", body, advice)
    return body
