"""Sequential and residual networks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn.errors import ShapeError
from fnn.nn.core.composite import Go, composite, name_layers
from fnn.nn.core.decoder import per_position
from fnn.types import Layer, Shape
from fnn.values import maker


@maker
def chain(*layers: Layer, **named: Layer) -> Layer:
    """Layers in sequence, y = f_n(... f_2(f_1(x))).

    The params and the state are dicts with an entry for each layer that has params or state. Layer
    i gets the key fold_in(key, i). An error inside a layer names its path in the network, such as
    `head/conv_0`.

    Args:
        layers: Layers in order. Each is named after its maker and its index, such as `conv_0`.
        named: Layers that follow the positional ones, under the names of the keyword arguments.

    Raises:
        ConfigError: An argument is not a Layer, or a name equals that of a positional layer, is
            empty or has a slash.
        TreeMismatchError: In `apply`, the params or the state have an entry for a layer that is not
            in the chain.
    """
    parts = name_layers("chain", layers, named)

    def through(go: Go, x: Any) -> Any:
        for name in parts:
            x = go(name, x)
        return x

    # Shapes and arrays pass through the layers in the same order.
    return per_position(composite("chain", parts, through, through))


@maker
def residual(body: Layer, shortcut: Layer | None = None) -> Layer:
    """Residual connection, y = body(x) + shortcut(x) [He et al. 2016, arXiv:1512.03385].

    Tuples and dicts of arrays are added array by array.

    The params and the state are dicts with the entries `body` and `shortcut`.

    Args:
        body: The residual branch.
        shortcut: The other branch; the identity by default. A 1x1 convolution fits x to a body that
            changes its shape.

    Raises:
        ConfigError: An argument is not a Layer.
        ShapeError: The branches end in different shapes; nothing is broadcast.
    """
    parts = {"body": body}
    if shortcut is not None:
        parts["shortcut"] = shortcut

    def both(go: Go, x: Any, add: Callable[[Any, Any], Any]) -> Any:
        # The body comes first, so its key is fold_in(key, 0) with or without a shortcut.
        y = go("body", x)
        return add(y, go("shortcut", x) if "shortcut" in parts else x)

    # Adding two shapes means to check that they are equal.
    shapes = partial(both, add=_expect_same_shape)
    arrays = partial(both, add=partial(jax.tree.map, jnp.add))
    return per_position(composite("residual", parts, shapes, arrays))


def _expect_same_shape(body: Shape, shortcut: Shape) -> Shape:
    if body != shortcut:
        advice = "give a shortcut that ends like the body, such as nn.conv(channels, 1)"
        raise ShapeError(
            "residual body",
            f"to end in {shortcut}",
            body,
            advice,
        )
    return body
