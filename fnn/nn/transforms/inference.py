"""Evaluation mode within training, for a whole layer or parts of it."""

from collections.abc import Set
from functools import partial
from typing import Any

import jax

from fnn import checks, trees
from fnn.nn.core.composite import (
    change_at,
    expect_layer,
    is_under,
    map_leaves,
    matching_layers,
    wrap_layer,
)
from fnn.nn.transforms.freeze import hold_params, is_frozen
from fnn.types import Layer, Params, State
from fnn.values import maker


@maker
def inference(
    layer: Layer,
    *paths: str,
    params: bool = True,
    statistics: bool = True,
    noise: bool = True,
) -> Layer:
    """Run a layer, or parts of it, in evaluation mode within training.

    By default the layer is the fixed function that it is in evaluation: its params are frozen as by
    `freeze`, batch norm uses its running statistics and does not update them, and dropout drops
    nothing. Each of the three may be left as in training. Frozen batch norm is
    inference(network, "*batch_norm*"); linear probing is chain(inference(body), dense(10)), also
    with a body that has batch norm and dropout. With params=True, `unfreeze` moves the params back.

    Args:
        layer: The layer. Its name and its parts stay the same.
        paths: Paths of layers, such as "stem" or "body/conv_0", each with all below it, or patterns
            with `*`, such as "*/batch_norm*". Without any, the whole layer.
        params: Whether the params are frozen.
        statistics: Whether layers with a state, such as batch norm, use it and do not change it.
        noise: Whether dropout and other noise is off.

    Raises:
        ConfigError: `layer` is not a Layer, or an option is not a bool; or a path matches no layer.
        TreeMismatchError: As `freeze`.
    """
    expect_layer("inference layer", layer)
    checks.flag("inference params", params)
    checks.flag("inference statistics", statistics)
    checks.flag("inference noise", noise)
    chosen = matching_layers("inference", layer, paths)

    def hold(_: str, part: Layer) -> Layer:
        return _hold(part, statistics, noise)

    changed = change_at(chosen, hold, layer)
    again = partial(inference, params=params, statistics=statistics, noise=noise)

    def rewrap(other: Layer) -> Layer:
        return again(other, *paths)

    if not params:
        return wrap_layer(layer, changed, rewrap)

    def select(all_params: Params) -> Set[str]:
        leaf_paths = trees.named_leaves(all_params)
        return {leaf for leaf in leaf_paths if any(is_under(leaf, path) for path in chosen)}

    return hold_params(layer, changed, select, rewrap)


def _hold(layer: Layer, statistics: bool, noise: bool) -> Layer:
    """Return the layer with train=False for layers with a state, for the others, or for all."""

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        # Only noise is without a state, also that between the layers of a composite, which has no
        # layer of its own: composites get the flag of the noise.
        own_train = train and not noise
        with_state = train and not statistics
        held = layer
        if own_train != with_state:
            change = partial(_with_flag, train=with_state)
            held = map_leaves(lambda path, leaf: change(leaf), layer)
        return held.apply(params, state, x, key=key, train=own_train)

    return wrap_layer(
        layer, Layer(layer.init, apply), partial(_hold, statistics=statistics, noise=noise)
    )


def _with_flag(layer: Layer, *, train: bool) -> Layer:
    """Return a layer that gets this flag if it has a state other than frozen parameters."""

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        **flag: bool,
    ):
        has_state = not all(map(is_frozen, trees.named_leaves(state)))
        own = {"train": train} if has_state else flag
        return layer.apply(params, state, x, key=key, **own)

    return Layer(layer.init, apply, layer.name)
