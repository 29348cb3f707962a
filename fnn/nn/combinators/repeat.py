"""Copies of one layer with stacked parameters: one after another, or side by side as an ensemble."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import checks, trees
from fnn.errors import ShapeError, TreeMismatchError, inside
from fnn.nn.core.composite import as_shape, expect_layer, expect_names, filled, seen
from fnn.types import Layer, Params, Shape, State
from fnn.values import maker

BODY = "body"
Build = Callable[[jax.Array], Layer]  # of the body's place 0, 1, ..., n - 1, a traced integer


def init_stacked(build: Build, n: int, key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
    """The stacked arrays of n bodies, drawn as each alone draws from fold_in(key, place), and where one body ends."""
    checks.key("key", key)
    ends: list[Shape] = []

    def one(place: jax.Array) -> tuple[Params, State]:
        with inside(BODY, shape=shape):
            params, state, end = build(place).init(jax.random.fold_in(key, place), as_shape(shape))
        ends.append(end)
        return params, state

    params, state = jax.vmap(one)(jnp.arange(n))
    return filled({BODY: params}), filled({BODY: state}), ends[0]


def apply_one(
    build: Build,
    place: jax.Array,
    params: Params,
    state: State,
    x: Any,
    key: jax.Array | None,
    train: bool,
) -> tuple[Any, State]:
    """One body on x, with its own arrays and its own key."""
    with inside(BODY, **seen(x, params)):
        own_key = None if key is None else jax.random.fold_in(key, place)
        return build(place).apply(params, state, x, key=own_key, train=train)


def stacks(where: str, n: int, *given: Any) -> list[Any]:
    """The stacked arrays in each of the trees; TreeMismatchError unless all of them have the leading axis of n."""
    expect_names(where, [BODY], *given)
    for path, leaf in trees.named_leaves(given).items():
        if jnp.shape(leaf)[:1] != (n,):
            place = f"{where} {path.partition('/')[2]}"
            raise TreeMismatchError(
                place, f"a leading axis of {n}", checks.describe(leaf), "pass what init returned"
            )
    return [tree.get(BODY, {}) for tree in given]


@maker
def repeat(layer: Layer | Callable[[Array], Layer], n: int) -> Layer:
    """A layer n times over, each with its own arrays, y = f_n(... f_1(x)), at the compile time of one.

    `layer` is a Layer, or a function of depth = (i + 1) / n, traced, that makes copy i, as in
    repeat(lambda depth: residual(chain(dense(4), drop_path(0.2 * depth))), 12). The params and the state are
    {"body": its own, stacked along a leading axis (n, ...)}, and `lax.scan` goes through them. Copy i gets
    fold_in(key, i), so it is the chain of n layers to the last key. ConfigError unless n >= 1; ShapeError where the
    body does not end as it begins, in shape and dtype.
    """
    checks.whole("repeat n", n)
    body = (lambda depth: layer) if isinstance(layer, Layer) or not callable(layer) else layer
    last: Any = np.float32(1)  # of NumPy, since making a network is no work for a device
    expect_layer("repeat body", body(last))

    def build(place: Array) -> Layer:
        return body((place + 1).astype(jnp.result_type(float)) / n)

    def init(key: Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, out_shape = init_stacked(build, n, key, shape)
        _expect_same(as_shape(shape), out_shape)
        return params, state, out_shape

    def apply(
        params: Params, state: State, x: Any, *, key: Array | None = None, train: bool = False
    ):
        def one(x: Any, own: tuple[Array, Params, State]) -> tuple[Any, State]:
            y, new_state = apply_one(build, *own, x, key, train)
            _expect_same(*(jax.tree.map(checks.describe, end) for end in (x, y)))
            return y, new_state

        y, new_state = jax.lax.scan(one, x, (jnp.arange(n), *stacks("repeat", n, params, state)))
        return y, filled({BODY: new_state})

    return Layer(init, apply, "repeat", {BODY: layer}, lambda parts: repeat(parts[BODY], n))


def _expect_same(begin: Any, end: Any) -> None:
    if begin != end:
        raise ShapeError(
            "repeat body",
            f"to end as it begins, in {begin}",
            end,
            "let its last layer give that width",
        )


@maker
def ensemble(layer: Layer, n: int) -> Layer:
    """A layer n times side by side on the same x, each with its own arrays, y[:, i] = f_i(x).

    x (batch, ...) -> y (batch, n, ...). The params and the state are {"body": its own, stacked along a leading axis
    (n, ...)}; member i gets fold_in(key, i), so it begins and draws like no other. ConfigError unless n >= 1
    [Lakshminarayanan et al. 2017, arXiv:1612.01474].
    """
    checks.whole("ensemble n", n)
    expect_layer("ensemble body", layer)

    def build(place: jax.Array) -> Layer:
        return layer

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        params, state, member = init_stacked(build, n, key, shape)
        return (
            params,
            state,
            jax.tree.map(lambda shape: (n, *shape), member, is_leaf=trees.is_shape),
        )

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        def one(place: jax.Array, params: Params, state: State) -> tuple[Any, State]:
            return apply_one(build, place, params, state, x, key, train)

        own = stacks("ensemble", n, params, state)
        y, new_state = jax.vmap(one, out_axes=(1, 0))(jnp.arange(n), *own)
        return y, filled({BODY: new_state})

    return Layer(init, apply, "ensemble", {BODY: layer}, lambda parts: ensemble(parts[BODY], n))
