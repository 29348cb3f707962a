"""The activation that is learned whole, as the largest of several linear maps."""

import jax

from fnn import checks
from fnn.errors import ShapeError
from fnn.nn.affine import add_bias, expect_affine, init_affine
from fnn.nn.initializers.scaled import lecun_normal
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.values import maker


@maker
def maxout(units: int, *, pieces: int = 2, use_bias: bool = True, kernel_init: Initializer | None = None) -> Layer:
    """The largest of several linear maps of the last axis, y_u = max_p (x W + b)_(u, p).

    x (batch, ..., inputs) -> y (batch, ..., units); `kernel` W (inputs, units * pieces), lecun_normal, where the pieces
    of a unit are neighbors; `bias` b (units * pieces,), zeros. ConfigError unless units and pieces >= 1; ShapeError,
    DTypeError or TreeMismatchError for x or params that do not fit [Goodfellow et al. 2013, arXiv:1302.4389].
    """
    checks.flag("maxout use_bias", use_bias)
    width = checks.whole("maxout units", units) * checks.whole("maxout pieces", pieces)

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key("maxout key", key)
        if not shape:
            raise ShapeError("maxout", "a shape (..., inputs)", shape, "give each example a feature axis")
        params = init_affine("maxout", key, (shape[-1], width), kernel_init or lecun_normal(), use_bias)
        return params, {}, (*shape[:-1], units)

    def apply(params: Params, state: State, x: jax.Array, *, key: jax.Array | None = None, train: bool = False):
        expect_affine("maxout", params, x, (x.shape[-1], width), use_bias)
        y = add_bias(x @ params["kernel"], params, use_bias)
        return y.reshape(*y.shape[:-1], units, pieces).max(-1), state  # (..., units * pieces) -> (..., units)

    return Layer(init, apply)
