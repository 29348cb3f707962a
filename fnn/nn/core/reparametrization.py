"""Access to the kernels of a network, for layers that compute with changed weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, map_decoder, map_leaves, name_of
from fnn.types import KERNEL, Layer, Params, Shape, State


def kernels(params: Params) -> dict[str, jax.Array]:
    """Return the arrays named "kernel" by path; their last axis is that of the outputs.

    Raises:
        DTypeError: A kernel does not hold floating-point numbers.
    """
    found = {}
    for path, leaf in trees.named_leaves(params).items():
        if path.split("/")[-1] == KERNEL:
            found[path] = checks.floating(path, leaf)
    return found


def with_kernels(params: Params, changed: Mapping[str, jax.Array]) -> Params:
    """Return the params with other arrays at these paths."""
    # In the order of the leaves of the tree.
    leaves = trees.named_leaves(params)
    new_leaves = [changed.get(path, leaf) for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), new_leaves)


def change_kernels(
    where: str,
    layer: Layer,
    change: Callable[[Layer], Layer],
) -> Layer:
    """Apply a change to each leaf layer of a network, and check that it has kernels.

    Leaf by leaf, each change has the kernels of one layer only, also where `repeat` stacks them.

    Args:
        where: Name of the change, for errors.
        layer: A layer or a network.
        change: (layer) -> changed layer, called with each layer that is not composed of others.

    Returns:
        The changed network under the name of the first.

    Raises:
        ConfigError: `layer` is not a Layer; or, in `init`, its params have no kernel to change.
    """
    expect_layer(f"{where} layer", layer)

    def change_leaf(path: str, leaf: Layer) -> Layer:
        changed = change(leaf)
        decoder = map_decoder(leaf, change)
        return Layer(changed.init, changed.apply, name_of(changed), decoder=decoder)

    changed = map_leaves(change_leaf, layer)

    # Only `init` knows the params, so that a network without kernels is found there.
    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Any]:
        params, state, out_shape = changed.init(key, shape)
        if not kernels(params):
            expected = "one with a kernel among its params"
            got = list(trees.named_leaves(params))
            raise ConfigError(f"{where} layer", expected, got, "wrap a layer that has one")
        return params, state, out_shape

    return Layer(
        init,
        changed.apply,
        name_of(layer),
        changed.parts,
        changed.with_parts,
        decoder=changed.decoder,
    )
