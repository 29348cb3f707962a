"""How a cell reads a sequence: what the recurrent layers share."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.affine import along_last, expect_affine
from fnn.nn.core.bounds import within
from fnn.nn.core.composite import Go, composite
from fnn.nn.initializers.random import lecun_normal, orthogonal
from fnn.types import Initializer, Layer, Params, Shape, State
from fnn.xla import on_cpu_else

Project = Callable[[Params, jax.Array], jax.Array]
Carry = tuple[jax.Array, ...]  # each (batch, units); the first is what the cell puts out


class Cell(NamedTuple):
    """One step of reading.

    gates:   how many times `units` the kernels are wide
    carries: how many arrays (batch, units) go from step to step, all 0 before the first
    biases:  (units) -> the initial vectors by name, among them `bias` (gates units,)
    step:    (params, projected, carry) -> carry, where projected (batch, gates units) is x_t kernel + bias
    """

    gates: int
    carries: int
    biases: Callable[[int], Mapping[str, jax.Array]]
    step: Callable[[Params, jax.Array, Carry], Carry]


class Reading(NamedTuple):
    """What the recurrent layers have in common: their options."""

    units: int
    bidirectional: bool
    last: bool
    kernel_init: Initializer | None
    recurrent_init: Initializer | None


def recurrent(where: str, cell: Cell, options: Reading) -> Layer:
    """The layer that reads by a cell: from the front, or from both ends with the two outputs side by side."""
    checks.whole(f"{where} units", options.units)
    checks.flag(f"{where} bidirectional", options.bidirectional)
    checks.flag(f"{where} last", options.last)
    if not options.bidirectional:
        return _one_way(where, cell, options, reverse=False)
    ways = {"forward": False, "backward": True}
    return _both_ways(
        where, {name: _one_way(where, cell, options, reverse=back) for name, back in ways.items()}
    )


def _both_ways(where: str, parts: Mapping[str, Layer]) -> Layer:
    def shapes(go: Go, shape: Shape) -> Shape:
        forward, backward = (go(name, shape) for name in parts)
        return (*forward[:-1], forward[-1] + backward[-1])

    def arrays(go: Go, x: Any) -> jax.Array:
        return jnp.concatenate([go(name, x) for name in parts], axis=-1)

    return composite(where, parts, shapes, arrays)


def _one_way(where: str, cell: Cell, options: Reading, reverse: bool) -> Layer:
    units, width = options.units, cell.gates * options.units

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        time, features = _sequence_shape(where, shape)
        kernel_key, recurrent_key = (jax.random.fold_in(key, place) for place in range(2))
        kernel = _gates(
            kernel_key, cell.gates, (features, units), options.kernel_init or lecun_normal()
        )
        recurrent = _gates(
            recurrent_key, cell.gates, (units, units), options.recurrent_init or orthogonal()
        )
        params = {"kernel": kernel, "recurrent_kernel": recurrent, **cell.biases(units)}
        return params, {}, (units,) if options.last else (time, units)

    def apply(
        params: Params, state: State, x: Any, *, key: jax.Array | None = None, train: bool = False
    ):
        x, lengths = _sequences(where, x)
        kernels = {"kernel": (x.shape[-1], width), "recurrent_kernel": (units, width)}
        biases = {
            name: bias.shape for name, bias in jax.eval_shape(lambda: cell.biases(units)).items()
        }
        _expect_params(where, params, x, kernels | biases)
        alarm = within(
            f"{where} lengths", f"1 <= length <= {x.shape[1]}", lengths, 1, x.shape[1] + 1
        )
        seen = jnp.arange(x.shape[1])[None] < lengths.astype(int)[:, None]
        params = {name: array.astype(x.dtype) for name, array in params.items()}
        last, outputs = _read(cell, units, params, jnp.where(seen[..., None], x, 0), seen, reverse)
        y = last if options.last else jnp.where(seen[..., None], outputs, 0)
        return (y * alarm.astype(y.dtype).reshape(-1, *(1,) * (y.ndim - 1))).astype(x.dtype), state

    return Layer(init, apply, where)


def _read(cell: Cell, units: int, params: Params, x: jax.Array, seen: jax.Array, reverse: bool):
    """The output after the whole of each sequence (batch, units), and after each step (batch, time, units)."""
    wide = trees.wide(x)  # what is carried on, for what a step adds may be small

    def project(params: Params, x: jax.Array) -> jax.Array:
        return (x @ params["kernel"] + along_last(params["bias"], x)).astype(wide)

    def scan(
        project: Project, params: Params, xs: jax.Array, seen: jax.Array
    ) -> tuple[Carry, jax.Array]:
        def step(carry: Carry, at: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
            now, seen = at
            moved = cell.step(params, project(params, now), carry)
            carry = tuple(
                jnp.where(seen[:, None], new, old) for new, old in zip(moved, carry, strict=True)
            )
            return carry, carry[0]

        begin = (jnp.zeros((xs.shape[1], units), wide),) * cell.carries
        return jax.lax.scan(step, begin, (xs, seen), reverse=reverse)

    def at_once(params: Params, x: jax.Array, seen: jax.Array) -> tuple[Carry, jax.Array]:
        return scan(lambda params, now: now, params, project(params, x), seen)

    # One matrix product for all times; but where memory is slow, as a CPU's, what is `gates` times as wide as the
    # outputs is not worth to be written and read again: benchmarks/lstm_step.py takes a fifth less time.
    read = on_cpu_else(partial(scan, project), at_once)
    carry, outputs = read(params, jnp.moveaxis(x, 1, 0), seen.T)
    return carry[0], jnp.moveaxis(outputs, 0, 1)


def recur(params: Params, output: jax.Array) -> jax.Array:
    """What the gates get from the output before: output recurrent_kernel."""
    kernel = params["recurrent_kernel"]
    return (output.astype(kernel.dtype) @ kernel).astype(output.dtype)


def _gates(key: jax.Array, gates: int, shape: Shape, start: Initializer) -> jax.Array:
    """A kernel for each gate, each drawn as a matrix of its own, side by side."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(gates))
    kernels = jax.vmap(lambda key: start(key, shape))(keys)  # (gates, inputs, units)
    return jnp.moveaxis(kernels, 0, 1).reshape(shape[0], -1)


def _sequence_shape(where: str, shape: Any) -> Shape:
    """The (time, features) of a sequence, with a length () beside it or not."""
    sequence, length = (shape, ()) if trees.is_shape(shape) or len(shape) != 2 else shape
    if not trees.is_shape(sequence) or len(sequence) != 2 or 0 in sequence or length != ():
        advice = (
            "give sequences (batch, time, features), alone or as a pair with their lengths (batch,)"
        )
        raise ShapeError(where, "a shape (time, features) or ((time, features), ())", shape, advice)
    return sequence


def _sequences(where: str, x: Any) -> tuple[jax.Array, jax.Array]:
    """The sequences (batch, time, features), and how much of each counts (batch,): all of it, unless told."""
    sequences = x[0] if isinstance(x, tuple) else x
    _sequence_shape(f"{where} x", jax.tree.map(lambda array: array.shape[1:], x))
    checks.floating(f"{where} x", sequences)
    batch, time = sequences.shape[:2]
    lengths = x[1] if isinstance(x, tuple) else jnp.full(batch, time)
    if lengths.shape != (batch,):
        raise ShapeError(
            f"{where} lengths", f"one a sequence, ({batch},)", lengths.shape, "give one for each"
        )
    return sequences, lengths


def _expect_params(where: str, params: Params, x: jax.Array, shapes: Mapping[str, Shape]) -> None:
    if isinstance(params, Mapping):  # first those that x must fit, for a wrong x is x's fault
        affine = {name: params[name] for name in ("kernel", "bias") if name in params}
        expect_affine(where, affine, x, shapes["kernel"], use_bias=True)
    trees.expect_arrays(where, params, shapes)
