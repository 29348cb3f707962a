"""Mixed precision: a layer computed in another floating-point dtype."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import expect_layer, wrap_layer
from fnn.nn.transforms.freeze import is_frozen
from fnn.types import Layer, Params, State
from fnn.values import maker

DTYPES = ("bfloat16", "float16", "float32", "float64")


@maker
def cast(layer: Layer, dtype: Any = jnp.bfloat16) -> Layer:
    """Compute a layer in another precision [Micikevicius et al. 2018, arXiv:1710.03740].

    The floating-point params, also frozen ones, and x are cast to the dtype. y and the gradients
    have the widest dtype of params and x, so float32 for float32 params. The other state keeps its
    dtype, so that running statistics lose nothing, and norms compute their statistics in float32.

    Args:
        layer: The layer. Its name, its params and its state stay the same.
        dtype: bfloat16, float16, float32, or float for JAX's default. bfloat16, the default, has
            the range of float32; float16 overflows at 65504 and may need a scaled loss.

    Raises:
        ConfigError: `layer` is not a Layer, or `dtype` is not one of these.
    """
    expect_layer("cast layer", layer)
    name = _dtype_name(dtype)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        # float is float64 only under jax_enable_x64, which may change after the layer was made.
        low = jnp.result_type(float) if name == "float64" else jnp.dtype(name)
        low_params = _cast_floats(low, params)
        low_x = _cast_floats(low, x)
        low_state = _cast_frozen(low, state)
        y, new_state = layer.apply(low_params, low_state, low_x, key=key, train=train)
        # The gradient of a cast is a cast back, so gradients arrive in the params' dtype.
        wide_y = _cast_floats(_widest_dtype(params, x), y)
        return wide_y, _restore_dtypes(new_state, state)

    return wrap_layer(layer, Layer(layer.init, apply), partial(cast, dtype=dtype))


def _dtype_name(dtype: Any) -> str:
    try:
        # A string, a NumPy dtype and a JAX scalar type have one name.
        name = jnp.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        expected = "bfloat16, float16, float32 or float"
        raise ConfigError(
            "cast dtype",
            expected,
            name,
            "leave it out for bfloat16",
        )
    return name


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _cast_floats(dtype: Any, tree: Any) -> Any:
    def cast_leaf(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if _is_float(leaf) else leaf

    return jax.tree.map(cast_leaf, tree)


def _cast_frozen(dtype: Any, state: State) -> State:
    """Cast the frozen parameters in the state, and nothing else."""

    def cast_leaf(path: str, leaf: Any) -> Any:
        return _cast_floats(dtype, leaf) if is_frozen(path) else leaf

    # Running statistics stay in their dtype: an average in bfloat16 would not move.
    return trees.map_named(cast_leaf, "state", state)


def _widest_dtype(*given: Any) -> Any:
    """Return the widest floating-point dtype of the leaves; without any, JAX's default."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(given) if _is_float(leaf)}
    if not dtypes:
        return jnp.result_type(float)
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)


def _restore_dtypes(new_state: State, state: State) -> State:
    """Return the new state in the dtypes of the old one."""
    old_leaves = trees.named_leaves(state)

    def restore(path: str, new: Any) -> Any:
        # A leaf that only this pass returns, as in lsuv, stays.
        old = old_leaves.get(path.removeprefix("state/"), new)
        if is_frozen(path):
            # Casting to the low dtype and back would round the frozen parameters.
            return old
        return _cast_floats(old.dtype, new)

    return trees.map_named(restore, "state", new_state)
