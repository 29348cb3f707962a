"""The recurrent layers, each by what its cell does in one step."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.recurrent.recurrence import Carry, Cell, Reading, recur, recurrent
from fnn.types import Initializer, Layer, Number, Params
from fnn.values import maker

# What the three docstrings share is told once, in rnn's.


@maker
def rnn(
    units: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    bidirectional: bool = False,
    last: bool = False,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
) -> Layer:
    """Read a sequence step by step, h_t = activation(x_t W + h_(t-1) U + b), from h_0 = 0.

    x (batch, time, features), or the pair of it and lengths (batch,), integers in 1..time. y (batch, time, units) is
    every h_t, and 0 beyond a length; with `last` (batch, units), h at each sequence's end. `bidirectional` sets the
    same beside it, of params of its own, read from the end: 2 units. `kernel` W (features, units), lecun_normal;
    `recurrent_kernel` U (units, units), orthogonal; `bias` b, zeros. What stands beyond a length has no influence.
    ShapeError, DTypeError or TreeMismatchError for x or params that do not fit; RangeError for a length out of range,
    or NaN where it is traced [Elman 1990].
    """

    def step(params: Params, projected: jax.Array, carry: Carry) -> Carry:
        (output,) = carry
        return (activation(projected + recur(params, output)),)

    cell = Cell(1, 1, lambda units: {"bias": jnp.zeros(units)}, step)
    return recurrent("rnn", cell, Reading(units, bidirectional, last, kernel_init, recurrent_init))


@maker
def lstm(
    units: int,
    *,
    forget_bias: Number = 1.0,
    bidirectional: bool = False,
    last: bool = False,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
) -> Layer:
    """Read a sequence with a memory c that gates write and forget: h_t = o tanh(c_t), c_t = f c_(t-1) + i g.

    (i, f, g, o) = (σ, σ, tanh, σ)(x_t W + h_(t-1) U + b), side by side in that order, as in torch. x, y and the options
    are those of nn.rnn, W (features, 4 units), U (units, 4 units), b (4 units,); b of f begins at forget_bias, for
    what is remembered has gradients [Hochreiter & Schmidhuber 1997; Gers et al. 2000; Jozefowicz et al. 2015].
    """
    checks.number("lstm forget_bias", forget_bias, "(-inf, inf)")

    def biases(units: int) -> Mapping[str, jax.Array]:
        zeros = jnp.zeros(4 * units)
        return {"bias": zeros.at[units : 2 * units].set(trees.knob(forget_bias, zeros))}

    def step(params: Params, projected: jax.Array, carry: Carry) -> Carry:
        output, memory = carry
        write, keep, new, show = jnp.split(projected + recur(params, output), 4, axis=-1)
        memory = jax.nn.sigmoid(keep) * memory + jax.nn.sigmoid(write) * jnp.tanh(new)
        return jax.nn.sigmoid(show) * jnp.tanh(memory), memory

    return recurrent(
        "lstm",
        Cell(4, 2, biases, step),
        Reading(units, bidirectional, last, kernel_init, recurrent_init),
    )


@maker
def gru(
    units: int,
    *,
    bidirectional: bool = False,
    last: bool = False,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
) -> Layer:
    """Read a sequence by two gates: h_t = (1 - z) n + z h_(t-1), n = tanh(x_t W_n + b_n + r (h_(t-1) U_n + d)).

    (r, z) = σ(x_t W + h_(t-1) U + b), and (r, z, n) stand side by side in that order, as in torch. x, y and the options
    are those of nn.rnn, W (features, 3 units), U (units, 3 units), b (3 units,); `recurrent_bias` d (units,), zeros,
    stands inside of the reset gate r; torch's other recurrent biases would only be added to b
    [Cho et al. 2014, arXiv:1406.1078].
    """

    def biases(units: int) -> Mapping[str, jax.Array]:
        return {"bias": jnp.zeros(3 * units), "recurrent_bias": jnp.zeros(units)}

    def step(params: Params, projected: jax.Array, carry: Carry) -> Carry:
        (output,) = carry
        (reset, update, new), (own_reset, own_update, own) = (
            jnp.split(part, 3, axis=-1) for part in (projected, recur(params, output))
        )
        kept = jax.nn.sigmoid(update + own_update)
        own = own + params["recurrent_bias"].astype(own.dtype)[None]
        return (
            (1 - kept) * jnp.tanh(new + jax.nn.sigmoid(reset + own_reset) * own) + kept * output,
        )

    return recurrent(
        "gru",
        Cell(3, 1, biases, step),
        Reading(units, bidirectional, last, kernel_init, recurrent_init),
    )
