"""The linear maps of a transformer, as wide as what they meet asks for."""

from collections.abc import Callable

import jax

from fnn.errors import ShapeError
from fnn.nn.linear.dense import dense
from fnn.types import Initializer, Layer, Params, Shape, State


def projection(units: Callable[[int], int], use_bias: bool = True, kernel_init: Initializer | None = None) -> Layer:
    """The dense layer of units(inputs) units, for a width that is known only when x is."""

    def of(inputs: int) -> Layer:
        return dense(units(inputs), use_bias=use_bias, kernel_init=kernel_init)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return of(shape[-1]).init(key, shape)

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        return of(x.shape[-1]).apply(params, state, x)

    return Layer(init, apply, "dense")


def divided(where: str, width: int, parts: int) -> int:
    """A part of the width; ShapeError unless the parts are equal."""
    if width % parts:
        raise ShapeError(where, f"a width that {parts} divides", width, "choose another width or another count")
    return width // parts
