"""Copies of one layer with stacked parameters: in sequence, or in parallel as an ensemble."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks, trees
from fnn.errors import ShapeError, TreeMismatchError, inside
from fnn.nn.core.composite import as_shape, describe_arrays, drop_empty, expect_layer, expect_names
from fnn.nn.core.decoder import per_position
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

BODY = "body"
Build = Callable[[Array], Layer]  # (index of the copy, a traced integer) -> the copy


@maker
def repeat(layer: Layer | Callable[[Array], Layer], n: int) -> Layer:
    """n copies of a layer in sequence, y = f_n(... f_1(x)), each with separate parameters.

    The copies run in a `lax.scan`, so that n copies compile as fast as one. The params and the
    state are {"body": arrays stacked along a leading axis (n, ...)}. Copy i gets the key
    fold_in(key, i): the draws are those of the chain of the n copies.

    Args:
        layer: A layer, or a function of depth = (i + 1) / n, traced, that makes copy i, such as
            `lambda depth: residual(chain(dense(4), drop_path(0.2 * depth)))`.
        n: Number of copies, at least 1.

    Raises:
        ConfigError: `n` is not a whole number >= 1, or `layer` neither is nor makes a Layer.
        ShapeError: The output of the layer differs from its input in shape or dtype.
    """
    checks.whole("repeat n", n)
    body = (lambda depth: layer) if isinstance(layer, Layer) or not callable(layer) else layer
    # A NumPy number, so that making a network runs nothing on a device.
    last_depth: Any = np.float32(1)
    expect_layer("repeat body", body(last_depth))

    def build(index: Array) -> Layer:
        # In JAX's default float, which is float64 under jax_enable_x64.
        depth = (index + 1).astype(jnp.result_type(float)) / n
        return body(depth)

    def init(key: Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, out_shape = init_stacked(build, n, key, shape)
        _expect_same_end(as_shape(shape), out_shape)
        return params, state, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: Array | None = None,
        train: bool = False,
    ):
        def apply_copy(x: Any, copy: tuple[Array, Params, State]) -> tuple[Any, State]:
            index, copy_params, copy_state = copy
            y, new_state = apply_body(build, index, copy_params, copy_state, x, key, train)
            # A scan needs the same shapes and dtypes on both sides; its message would not say why.
            begin = jax.tree.map(checks.describe, x)
            end = jax.tree.map(checks.describe, y)
            _expect_same_end(begin, end)
            return y, new_state

        # Copy i reads slice i of the stacks, so that one compiled body serves all copies.
        indices = jnp.arange(n)
        stacks = unpack_stacked("repeat", n, params, state)
        y, new_state = jax.lax.scan(apply_copy, x, (indices, *stacks))
        return y, drop_empty({BODY: new_state})

    copies = Layer(init, apply, "repeat", {BODY: layer}, lambda parts: repeat(parts[BODY], n))
    return per_position(copies)


@maker
def ensemble(layer: Layer, n: int) -> Layer:
    """n copies of a layer on the same input, y[:, i] = f_i(x), each with separate parameters.

    x (batch, ...) -> y (batch, n, ...). The params and the state are {"body": arrays stacked along
    a leading axis (n, ...)}. Member i gets the key fold_in(key, i), so that the members differ in
    their initial parameters and in their noise [Lakshminarayanan et al. 2017, arXiv:1612.01474].

    Args:
        layer: The layer.
        n: Number of members, at least 1.

    Raises:
        ConfigError: `n` is not a whole number >= 1, or `layer` is not a Layer.
    """
    checks.whole("ensemble n", n)
    expect_layer("ensemble body", layer)

    def build(index: Array) -> Layer:
        return layer

    def init(key: Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, member_shape = init_stacked(build, n, key, shape)
        # A member may return several arrays: then its shape is a tree of shapes.
        out_shape = jax.tree.map(lambda shape: (n, *shape), member_shape, is_leaf=trees.is_shape)
        return params, state, out_shape

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: Array | None = None,
        train: bool = False,
    ):
        def apply_member(index: Array, params: Params, state: State) -> tuple[Any, State]:
            return apply_body(build, index, params, state, x, key, train)

        stacks = unpack_stacked("ensemble", n, params, state)
        # y (batch, n, ...) has the members after the batch; the state (n, ...) has them first.
        apply_members = jax.vmap(apply_member, out_axes=(1, 0))
        y, new_state = apply_members(jnp.arange(n), *stacks)
        return y, drop_empty({BODY: new_state})

    return Layer(init, apply, "ensemble", {BODY: layer}, lambda parts: ensemble(parts[BODY], n))


def init_stacked(
    build: Build,
    n: int,
    key: Array,
    shape: Shape,
) -> tuple[Params, State, Shape]:
    """Initialize n copies with the keys fold_in(key, i), their arrays stacked (n, ...).

    Returns:
        The params, the state, and the output shape of one copy.
    """
    checks.key("key", key)
    out_shapes: list[Shape] = []

    def init_copy(index: Array) -> tuple[Params, State]:
        with inside(BODY, shape=shape):
            copy = build(index)
            copy_key = jax.random.fold_in(key, index)
            params, state, out_shape = copy.init(copy_key, as_shape(shape))
        # A vmap returns arrays only, so the shape is stored here; the function is traced once.
        out_shapes.append(out_shape)
        return params, state

    params, state = jax.vmap(init_copy)(jnp.arange(n))
    return drop_empty({BODY: params}), drop_empty({BODY: state}), out_shapes[0]


def apply_body(
    build: Build,
    index: Array,
    params: Params,
    state: State,
    x: Any,
    key: Array | None,
    train: bool,
) -> tuple[Any, State]:
    """Apply one copy to x, with its slice of the stacked arrays and its key."""
    with inside(BODY, **describe_arrays(x, params)):
        copy_key = None if key is None else jax.random.fold_in(key, index)
        return build(index).apply(params, state, x, key=copy_key, train=train)


def unpack_stacked(where: str, n: int, *given: Any) -> list[Any]:
    """Return the arrays under "body" of each tree, or raise TreeMismatchError.

    All of them must have a leading axis of n.
    """
    # A layer without arrays has no entry, so both {} and {"body": ...} are valid.
    expect_names(where, [BODY], *given)
    for path, leaf in trees.named_leaves(given).items():
        if jnp.shape(leaf)[:1] != (n,):
            # The path begins with the index of the tree among those given.
            leaf_path = path.partition("/")[2]
            raise TreeMismatchError(
                f"{where} {leaf_path}",
                f"a leading axis of {n}",
                checks.describe(leaf),
                "pass those that init returned",
            )
    return [tree.get(BODY, {}) for tree in given]


def _expect_same_end(begin: Any, end: Any) -> None:
    if begin != end:
        expected = f"to end as it begins, in {begin}"
        advice = "let its last layer give that width"
        raise ShapeError(
            "repeat body",
            expected,
            end,
            advice,
        )
