"""Mixed precision."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, in_place_of
from fnn.nn.transforms.freeze import is_frozen
from fnn.types import Layer, Params, State
from fnn.values import maker

DTYPES = ("bfloat16", "float16", "float32", "float64")


@maker
def cast(layer: Layer, dtype: Any = jnp.bfloat16) -> Layer:
    """The layer at work in another precision, its params and its results kept in their own.

    Floating-point params, frozen ones too, and x go to the dtype on the way in; y comes back, and gradients arrive, in
    the widest dtype of params and x, so float32. The state keeps its own, for running statistics to lose nothing, and
    norms compute theirs in float32. float16 overflows at 65504 and may need its loss scaled; bfloat16 does not.
    ConfigError unless the dtype is bfloat16, float16, float32 or float, JAX's default
    [Micikevicius et al. 2018, arXiv:1710.03740].
    """
    expect_layer("cast layer", layer)
    name = _name(dtype)

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        low = jnp.result_type(float) if name == "float64" else jnp.dtype(name)
        own_params, own_x = _floats_to(low, params), _floats_to(low, x)
        y, new_state = layer.apply(own_params, _frozen_to(low, state), own_x, key=key, train=train)
        return _floats_to(_widest(params, x), y), _as_before(new_state, state)

    return in_place_of(layer, Layer(layer.init, apply), partial(cast, dtype=dtype))


def _name(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        raise ConfigError(
            "cast dtype", "bfloat16, float16, float32 or float", name, "leave it out for bfloat16"
        )
    return name


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _floats_to(dtype: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if _is_float(leaf) else leaf, tree)


def _frozen_to(dtype: Any, state: State) -> State:
    return trees.map_named(
        lambda path, leaf: _floats_to(dtype, leaf) if is_frozen(path) else leaf, "state", state
    )


def _widest(*given: Any) -> Any:
    """The widest floating-point dtype there, and JAX's default where there is none."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(given) if _is_float(leaf)}
    return max(dtypes or {jnp.result_type(float)}, key=lambda dtype: jnp.finfo(dtype).bits)


def _as_before(new_state: State, state: State) -> State:
    """The new state in the dtypes of the old, with what is frozen as it was to the last bit."""
    before = trees.named_leaves(state)

    def one(path: str, new: Any) -> Any:
        old = before.get(
            path.removeprefix("state/"), new
        )  # what only this pass gives, as in lsuv, stays
        return old if is_frozen(path) else _floats_to(old.dtype, new)

    return trees.map_named(one, "state", new_state)
