"""Frozen parameters: kept in the state, so that no optimizer changes them."""

from collections.abc import Mapping, Set
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import TreeMismatchError
from fnn.nn.core.composite import drop_empty, expect_layer, expect_names, wrap_layer
from fnn.types import FROZEN, Layer, Params, State
from fnn.values import maker

BODY = "body"


@maker
def freeze(layer: Layer, *paths: str) -> Layer:
    """Freeze parameters of a layer: no gradient, no weight decay and no optimizer state.

    The frozen parameters move from the params to the state, which no optimizer changes:
    {"frozen": those params, "body": the state of the layer}. Their names stay the same. Running
    statistics are not parameters and are still updated in training.

    Args:
        layer: The layer.
        paths: Paths of parameters, such as "stem" for all below it, or patterns with `*`, such as
            "*/bias". Without any, all parameters are frozen.

    Raises:
        ConfigError: `layer` is not a Layer; or, in `init`, a path matches no parameter.
        TreeMismatchError: The layer holds params in other containers than dicts; or, in `apply`, a
            parameter is both in the params and in the frozen state.
    """
    expect_layer("freeze layer", layer)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = layer.init(checks.key("freeze key", key), shape)
        # A layer without params may be frozen as a whole, but no path can match there.
        matches = {}
        if paths or jax.tree.leaves(params):
            matches = trees.matching("freeze path", params, paths or ("*",))
        trained_paths = {path for path, match in matches.items() if not match}
        frozen_paths = {path for path, match in matches.items() if match}
        trained = _select(params, trained_paths)
        frozen = _select(params, frozen_paths)
        return trained, drop_empty({FROZEN: frozen, BODY: state}), out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        expect_names("freeze", [FROZEN, BODY], state)
        # The layer gets one tree, as if nothing were frozen.
        all_params = _merge("freeze", params, state.get(FROZEN, {}))
        y, new_state = layer.apply(all_params, state.get(BODY, {}), x, key=key, train=train)
        return y, drop_empty(dict(state) | {BODY: new_state})

    return wrap_layer(layer, Layer(init, apply), lambda other: freeze(other, *paths))


def is_frozen(path: str) -> bool:
    """Return whether the path of a state leaf is that of a frozen parameter."""
    return FROZEN in path.split("/")


def _select(tree: Any, paths: Set[str], path: str = "") -> Any:
    """Return the leaves at these paths, in their dicts; dicts that become empty are dropped."""
    if not isinstance(tree, Mapping):
        # A leaf has a name; without a path, the params are one bare array.
        if not path or not jax.tree_util.all_leaves([tree]):
            raise TreeMismatchError(
                f"freeze {path}",
                "arrays in dicts",
                f"a {type(tree).__name__}",
                "let the layer name its params in dicts",
            )
        # An empty dict in place of a leaf is dropped with its parents.
        return tree if path in paths else {}
    selected = {}
    for name, part in tree.items():
        part_path = f"{path}/{name}" if path else name
        selected[name] = _select(part, paths, part_path)
    return drop_empty(selected)


def _merge(where: str, params: Any, frozen: Any) -> Any:
    """Return the leaves of both trees, or raise TreeMismatchError if a leaf is in both."""
    if not (isinstance(params, Mapping) and isinstance(frozen, Mapping)):
        raise TreeMismatchError(
            where,
            "a leaf in the params or in the frozen state",
            "it in both",
            "drop one of them",
        )
    # A name in both is a branch with trained and frozen leaves.
    merged = {**params, **frozen}
    for name in params.keys() & frozen.keys():
        merged[name] = _merge(f"{where}/{name}", params[name], frozen[name])
    return merged
