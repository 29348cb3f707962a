"""Recurrent layers: RNN, LSTM and GRU, each given by one step of its cell."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.nn.recurrent.recurrence import Carry, Cell, Options, recurrent, recurrent_product
from fnn.types import Initializer, Layer, Number, Params
from fnn.values import maker


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
    """Elman recurrent layer, h_t = activation(x_t W + h_(t-1) U + b), with h_0 = 0 [Elman 1990].

    x (batch, time, features), or a pair of it and lengths (batch,), integers in 0..time.
    y (batch, time, units) is h_t at every step and 0 beyond a length. Values of x beyond a length,
    also NaN, do not affect y or gradients; a sequence of length 0 has y = 0. The params are
    `kernel` W (features, units), `recurrent_kernel` U (units, units) and `bias` b (units,), zeros
    at first.

    Args:
        units: Size of h.
        activation: Nonlinearity of h.
        bidirectional: Whether a second layer, with params of its own, reads from the end. Its
            outputs are concatenated, y (batch, time, 2 units), and the params are dicts of
            `forward` and `backward`.
        last: Whether y is h at the end of each sequence only, (batch, units).
        kernel_init: Initializer of W; lecun_normal if None, for inputs of unit variance.
        recurrent_init: Initializer of U; orthogonal if None, which keeps the norm of h.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: x has another rank or number of features, or lengths another shape.
        DTypeError: x is not floating-point, or lengths are not integers.
        RangeError: A length is out of range; where lengths are traced, y is NaN there instead.
        TreeMismatchError: The params are of another layer.
    """

    def step(
        params: Params,
        projected: jax.Array,
        carry: Carry,
    ) -> Carry:
        (output,) = carry
        # (batch, units), as in every step: `projected` is x_t W + b
        total = projected + recurrent_product(params, output)
        return (activation(total),)

    def biases(units: int) -> Mapping[str, jax.Array]:
        return {"bias": jnp.zeros(units)}

    cell = Cell(gates=1, carries=1, biases=biases, step=step)
    options = Options(units, bidirectional, last, kernel_init, recurrent_init)
    return recurrent("rnn", cell, options)


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
    """Long short-term memory, h_t = o tanh(c_t) with c_t = f c_(t-1) + i g.

    (i, f, g, o) = (σ, σ, tanh, σ)(x_t W + h_(t-1) U + b), concatenated in this order, as in torch
    [Hochreiter & Schmidhuber 1997]. x and y are those of `rnn`. The params are `kernel` W
    (features, 4 units), `recurrent_kernel` U (units, 4 units) and `bias` b (4 units,).

    Args:
        units: Size of h and of c.
        forget_bias: Initial bias of the forget gate f; the rest of b is 0. At 1 the gate is mostly
            open, so that gradients pass [Gers et al. 2000; Jozefowicz et al. 2015].
        bidirectional: Whether a second layer reads from the end, as in `rnn`.
        last: Whether y is h at the end of each sequence only, (batch, units).
        kernel_init: Initializer of W, gate by gate; lecun_normal if None.
        recurrent_init: Initializer of U, gate by gate; orthogonal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, RangeError, TreeMismatchError: As `rnn`.
    """
    checks.number("lstm forget_bias", forget_bias, "(-inf, inf)")

    def biases(units: int) -> Mapping[str, jax.Array]:
        zeros = jnp.zeros(4 * units)
        forget = slice(units, 2 * units)  # the second of the four gates
        initial = trees.knob(forget_bias, zeros)
        return {"bias": zeros.at[forget].set(initial)}

    def step(
        params: Params,
        projected: jax.Array,
        carry: Carry,
    ) -> Carry:
        output, memory = carry
        total = projected + recurrent_product(params, output)
        # (batch, 4 units) -> 4 arrays (batch, units)
        input_gate, forget_gate, new, output_gate = jnp.split(total, 4, axis=-1)
        # The memory only passes products and sums, so that its gradient does not vanish.
        kept = jax.nn.sigmoid(forget_gate) * memory
        added = jax.nn.sigmoid(input_gate) * jnp.tanh(new)
        memory = kept + added
        output = jax.nn.sigmoid(output_gate) * jnp.tanh(memory)
        return output, memory

    cell = Cell(gates=4, carries=2, biases=biases, step=step)
    options = Options(units, bidirectional, last, kernel_init, recurrent_init)
    return recurrent("lstm", cell, options)


@maker
def gru(
    units: int,
    *,
    bidirectional: bool = False,
    last: bool = False,
    kernel_init: Initializer | None = None,
    recurrent_init: Initializer | None = None,
) -> Layer:
    """Gated recurrent unit, h_t = (1 - z) n + z h_(t-1) [Cho et al. 2014, arXiv:1406.1078].

    n = tanh(x_t W_n + b_n + r (h_(t-1) U_n + d)) and (r, z) = σ(x_t W + h_(t-1) U + b), where
    (r, z, n) are concatenated in this order, as in torch. x and y are those of `rnn`. The params
    are `kernel` W (features, 3 units), `recurrent_kernel` U (units, 3 units), `bias` b (3 units,)
    and `recurrent_bias` d (units,), both biases zeros at first. Only d is inside of the reset gate
    r: the other recurrent biases of torch would only be added to b.

    Args:
        units: Size of h.
        bidirectional: Whether a second layer reads from the end, as in `rnn`.
        last: Whether y is h at the end of each sequence only, (batch, units).
        kernel_init: Initializer of W, gate by gate; lecun_normal if None.
        recurrent_init: Initializer of U, gate by gate; orthogonal if None.

    Raises:
        ConfigError, ShapeError, DTypeError, RangeError, TreeMismatchError: As `rnn`.
    """

    def biases(units: int) -> Mapping[str, jax.Array]:
        bias = jnp.zeros(3 * units)
        recurrent_bias = jnp.zeros(units)
        return {"bias": bias, "recurrent_bias": recurrent_bias}

    def step(
        params: Params,
        projected: jax.Array,
        carry: Carry,
    ) -> Carry:
        (output,) = carry
        product = recurrent_product(params, output)
        # (batch, 3 units) -> 3 arrays (batch, units), of x_t and of h_(t-1)
        reset_x, update_x, new_x = jnp.split(projected, 3, axis=-1)
        reset_h, update_h, new_h = jnp.split(product, 3, axis=-1)
        # z near 1 keeps the previous output.
        update = jax.nn.sigmoid(update_x + update_h)
        recurrent_bias = params["recurrent_bias"].astype(new_h.dtype)
        new_h = new_h + recurrent_bias[None]
        renewed = 1 - update
        reset = jax.nn.sigmoid(reset_x + reset_h)
        new = jnp.tanh(new_x + reset * new_h)
        return (renewed * new + update * output,)

    cell = Cell(gates=3, carries=1, biases=biases, step=step)
    options = Options(units, bidirectional, last, kernel_init, recurrent_init)
    return recurrent("gru", cell, options)
