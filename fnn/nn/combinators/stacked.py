"""What layers of n alike bodies share: their arrays stand in one tree, stacked along a leading axis of n."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import TreeMismatchError, inside
from fnn.nn.composite import as_shape, expect_names, filled, seen
from fnn.types import Layer, Params, Shape, State

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
    build: Build, place: jax.Array, params: Params, state: State, x: Any, key: jax.Array | None, train: bool
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
            raise TreeMismatchError(place, f"a leading axis of {n}", checks.describe(leaf), "pass what init returned")
    return [tree.get(BODY, {}) for tree in given]
