"""A body and a way around it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from fnn.errors import ShapeError
from fnn.nn.composite import Go, composite
from fnn.types import Layer, Shape
from fnn.values import maker


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
