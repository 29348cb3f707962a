"""Frozen parameters: kept in the state, so that no optimizer changes them."""

from collections.abc import Callable, Mapping, Set
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import TreeMismatchError
from fnn.nn.core.composite import drop_empty, expect_layer, wrap_layer
from fnn.types import FROZEN, PENALTY, Layer, Params, State
from fnn.values import maker

BODY = "body"  # in the state of a layer that wraps another: the state of that one


@maker
def freeze(layer: Layer, *paths: str) -> Layer:
    """Freeze parameters of a layer: no gradient, no weight decay and no optimizer state.

    The frozen parameters move from the params to the state, which no optimizer changes. They are
    under the name "(frozen)" there, next to the state of the layer, and keep their own names.
    Running statistics are not parameters: they are still updated in training, and dropout still
    drops. `inference` turns these off as well, and `unfreeze` moves the parameters back.

    Args:
        layer: The layer.
        paths: Paths of parameters, such as "stem" for all below it, or patterns with `*`, such as
            "*/bias". Without any, all parameters are frozen.

    Raises:
        ConfigError: `layer` is not a Layer; or, in `init`, a path matches no parameter.
        TreeMismatchError: The layer holds params or state in other containers than dicts; or, in
            `apply`, a parameter is both in the params and in the frozen state.
    """
    expect_layer("freeze layer", layer)

    def select(params: Params) -> Set[str]:
        # A layer without params may be frozen as a whole, but no path can match there.
        if not paths and not jax.tree.leaves(params):
            return set()
        matches = trees.matching("freeze path", params, paths or ("*",))
        return {path for path, is_match in matches.items() if is_match}

    return hold_params(layer, layer, select, lambda other: freeze(other, *paths))


def hold_params(
    layer: Layer,
    changed: Layer,
    select: Callable[[Params], Set[str]],
    rewrap: Callable[[Layer], Layer],
) -> Layer:
    """Move parameters of a layer to its state.

    Args:
        layer: The original, whose name and parts the result has.
        changed: The layer that computes, with the params of the original.
        select: (params) -> paths of the parameters to move.
        rewrap: The same change, for the original with other parts.
    """

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        params, state, out_shape = changed.init(checks.key("freeze key", key), shape)
        frozen_paths = select(params)
        trained_paths = trees.named_leaves(params).keys() - frozen_paths
        trained = _select(params, trained_paths)
        frozen = _select(params, frozen_paths)
        return trained, _join(frozen, state), out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        frozen, body = _split(state)
        # The layer gets one tree, as if nothing were frozen.
        all_params = _merge("freeze", params, frozen)
        y, new_body = changed.apply(all_params, body, x, key=key, train=train)
        return y, _join(frozen, new_body)

    return wrap_layer(layer, Layer(init, apply), rewrap)


def unfreeze(params: Params, state: State) -> tuple[Params, State]:
    """Return the params and the state of a network as if nothing in it were frozen.

    The inverse of what `freeze` and `inference` do to them, at any depth, whole or by paths.
    Linear probing and then fine-tuning of all parameters [Kumar et al. 2022, arXiv:2202.10054] is
    a run of the frozen network, and a run of nn.pretrained(network, *nn.unfreeze(params, state)).

    Args:
        params: Params of a network with frozen parameters, such as those after a run.
        state: Its state.

    Returns:
        (params, state) of the network without `freeze` and `inference`.

    Raises:
        TreeMismatchError: A parameter is both in the params and in the frozen state.
    """
    frozen, body = _split(state)
    if frozen:
        params = _merge("unfreeze", params, frozen)
    if not isinstance(body, Mapping):
        return params, body
    all_params = params
    new_state = {}
    for name, part_state in body.items():
        if _is_wrapped(name, body):
            # The state of a wrapped layer is one level deeper than its params.
            all_params, new_state[name] = unfreeze(all_params, part_state)
            continue
        # Without frozen parameters there may be no params of this name.
        part_params = all_params.get(name, {}) if isinstance(all_params, Mapping) else {}
        new_params, new_state[name] = unfreeze(part_params, part_state)
        if new_params is not part_params:
            all_params = {**all_params, name: new_params}
    return all_params, drop_empty(new_state)


def is_frozen(path: str) -> bool:
    """Return whether the path of a state leaf is that of a frozen parameter."""
    return FROZEN in path.split("/")


def _join(frozen: Params, body: State) -> State:
    """Return the state of a layer with frozen parameters."""
    if not frozen:
        return body
    if not isinstance(body, Mapping):
        expected = "a state that is a dict"
        advice = "let the layer name its state in a dict"
        raise TreeMismatchError("freeze state", expected, f"a {type(body).__name__}", advice)
    # A layer inside may be frozen in part already.
    inner, rest = _split(body)
    return {**rest, FROZEN: _merge("freeze", inner, frozen)}


def _split(state: State) -> tuple[Params, State]:
    """Return the frozen parameters in a state, and the rest of it."""
    if not isinstance(state, Mapping) or FROZEN not in state:
        return {}, state
    rest = {name: part for name, part in state.items() if name != FROZEN}
    return state[FROZEN], rest


def _is_wrapped(name: str, state: State) -> bool:
    """Return whether an entry is the state of a layer that another one wraps.

    The states of activity_regularizer and spectral_norm are {"body", "penalty"}, the penalty a
    number, and {"body", "u", "v"}.
    """
    if name != BODY:
        return False
    is_regularized = PENALTY in state and not isinstance(state[PENALTY], Mapping)
    return is_regularized or state.keys() == {BODY, "u", "v"}


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
