"""What the layers that act with changed weights share: which arrays are weights, and who has such."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, map_leaves, name_of
from fnn.types import KERNEL, Layer, Params, Shape, State


def kernels(params: Params) -> dict[str, jax.Array]:
    """The arrays named kernel, by path; their last axis is that of the outputs. DTypeError for integers."""
    leaves = trees.named_leaves(params)
    return {
        path: checks.floating(path, leaf)
        for path, leaf in leaves.items()
        if path.split("/")[-1] == KERNEL
    }


def with_kernels(params: Params, changed: Mapping[str, jax.Array]) -> Params:
    """The params with other arrays at these paths."""
    paths = trees.named_leaves(params)
    return jax.tree.unflatten(
        jax.tree.structure(params), [changed.get(path, leaf) for path, leaf in paths.items()]
    )


def change_kernels(where: str, layer: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """The same network with change(leaf) in place of each layer that is not made of others; ConfigError for no layer.

    So each sees the kernels of one layer alone, even where they are stacked further out. ConfigError in init where no
    layer has a kernel, for then nothing would change.
    """
    expect_layer(f"{where} layer", layer)
    changed = map_leaves(lambda path, leaf: change(leaf), layer)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
        params, state, out_shape = changed.init(key, shape)
        if not kernels(params):
            got = list(trees.named_leaves(params))
            raise ConfigError(
                f"{where} layer",
                "one with a kernel among its params",
                got,
                "wrap a layer that has one",
            )
        return params, state, out_shape

    return Layer(init, changed.apply, name_of(layer), changed.parts, changed.with_parts)
