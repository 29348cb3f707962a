"""Parameters that are not trained."""

from collections.abc import Mapping, Set
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import TreeMismatchError
from fnn.nn.core.composite import expect_layer, expect_names, filled, in_place_of
from fnn.types import FROZEN, Layer, Params, State
from fnn.values import maker

BODY = "body"


@maker
def freeze(layer: Layer, *paths: str) -> Layer:
    """The layer with its params at these paths, or all of them, held fast: no gradient, decay or optimizer memory.

    A path names a leaf or what lies above some, as "stem", or many by `*`, as "*/bias". What is frozen moves from the
    params to the state, {"frozen": those params, "body": the layer's own state}, which no optimizer sees; names stay.
    Running statistics are no params and go on moving in training. ConfigError, in init, for a path that names nothing.
    """
    expect_layer("freeze layer", layer)

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = layer.init(checks.key("freeze key", key), shape)
        chosen = (
            trees.matching("freeze path", params, paths or ("*",))
            if paths or jax.tree.leaves(params)
            else {}
        )
        rest, frozen = (
            _only(params, {path for path in chosen if chosen[path] is held})
            for held in (False, True)
        )
        return rest, filled({FROZEN: frozen, BODY: state}), out_shape

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        expect_names("freeze", [FROZEN, BODY], state)
        own = _merged("freeze", params, state.get(FROZEN, {}))
        y, new_state = layer.apply(own, state.get(BODY, {}), x, key=key, train=train)
        return y, filled(dict(state) | {BODY: new_state})

    return in_place_of(layer, Layer(init, apply), lambda other: freeze(other, *paths))


def is_frozen(path: str) -> bool:
    """Whether the path of a state's leaf leads to a frozen parameter."""
    return FROZEN in path.split("/")


def _only(tree: Any, paths: Set[str], path: str = "") -> Any:
    """The leaves at these paths, in the dicts that they stand in."""
    if not isinstance(tree, Mapping):
        if not path or not jax.tree_util.all_leaves([tree]):
            got = f"a {type(tree).__name__}"
            raise TreeMismatchError(
                f"freeze {path}", "arrays in dicts", got, "let the layer name its params in dicts"
            )
        return tree if path in paths else {}
    return filled(
        {
            name: _only(part, paths, f"{path}/{name}" if path else name)
            for name, part in tree.items()
        }
    )


def _merged(where: str, params: Any, frozen: Any) -> Any:
    """The leaves of both; TreeMismatchError for one that stands in both."""
    if not (isinstance(params, Mapping) and isinstance(frozen, Mapping)):
        raise TreeMismatchError(
            where, "a leaf in the params or in the frozen state", "it in both", "drop one of them"
        )
    both = {
        name: _merged(f"{where}/{name}", params[name], frozen[name])
        for name in params.keys() & frozen.keys()
    }
    return {**params, **frozen, **both}
