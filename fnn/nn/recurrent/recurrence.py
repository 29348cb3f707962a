"""The scan of a recurrent cell over sequences, shared by all recurrent layers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ShapeError
from fnn.nn.core.affine import expect_affine
from fnn.nn.core.bounds import nan_outside_bounds
from fnn.nn.core.composite import Go, composite
from fnn.nn.core.wide_sums import along_last
from fnn.nn.initializers.random import lecun_normal, orthogonal
from fnn.types import Initializer, Layer, Params, Shape, Span, State
from fnn.xla import on_cpu_else

CARRY = "carry"  # in the state of a decoder: the carry after the earlier parts
Project = Callable[[Params, jax.Array], jax.Array]
Carry = tuple[jax.Array, ...]  # each (batch, units); the first is the output of the cell
StepInputs = tuple[jax.Array, jax.Array]  # x_t, projected or not, and is_valid (batch,)


class Cell(NamedTuple):
    """One step of a recurrent layer.

    Attributes:
        gates: Width of the kernels in multiples of `units`.
        carries: Number of arrays (batch, units) carried from step to step, all 0 at first.
        biases: (units) -> the initial vectors by name, among them `bias` (gates units,).
        step: (params, projected, carry) -> carry, where projected (batch, gates units) is
            x_t kernel + bias.
    """

    gates: int
    carries: int
    biases: Callable[[int], Mapping[str, jax.Array]]
    step: Callable[[Params, jax.Array, Carry], Carry]


class Options(NamedTuple):
    """The options that all recurrent layers have in common.

    Attributes:
        units: Size of the output.
        bidirectional: Whether a second layer reads from the end.
        last: Whether only the output at the end of each sequence is returned.
        kernel_init: Initializer of the input kernel, or None.
        recurrent_init: Initializer of the recurrent kernel, or None.
    """

    units: int
    bidirectional: bool
    last: bool
    kernel_init: Initializer | None
    recurrent_init: Initializer | None


def recurrent(
    where: str,
    cell: Cell,
    options: Options,
) -> Layer:
    """Make the recurrent layer of a cell, in one direction or in both.

    Args:
        where: Name of the layer.
        cell: One step.
        options: The options of the layer, which are checked here.
    """
    checks.whole(f"{where} units", options.units)
    checks.flag(f"{where} bidirectional", options.bidirectional)
    checks.flag(f"{where} last", options.last)
    forward = _one_direction(where, cell, options, reverse=False)
    if not options.bidirectional:
        return forward
    backward = _one_direction(where, cell, options, reverse=True)
    return _both_directions(where, {"forward": forward, "backward": backward})


def _both_directions(where: str, parts: Mapping[str, Layer]) -> Layer:
    """Concatenate the outputs of the parts."""

    def shapes(go: Go, shape: Shape) -> Shape:
        forward, backward = (go(name, shape) for name in parts)
        *rest, forward_units = forward
        backward_units = backward[-1]
        return (*rest, forward_units + backward_units)

    def arrays(go: Go, x: Any) -> jax.Array:
        outputs = [go(name, x) for name in parts]
        return jnp.concatenate(outputs, axis=-1)

    return composite(where, parts, shapes, arrays)


def _one_direction(
    where: str,
    cell: Cell,
    options: Options,
    reverse: bool,
) -> Layer:
    units = options.units
    width = cell.gates * units

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        checks.key(f"{where} key", key)
        time, features = _sequence_shape(where, shape)
        kernel_key = jax.random.fold_in(key, 0)
        recurrent_key = jax.random.fold_in(key, 1)
        # (features, gates units) and (units, gates units)
        kernel_init = options.kernel_init or lecun_normal()
        kernel = _init_gates(kernel_key, cell.gates, (features, units), kernel_init)
        recurrent_init = options.recurrent_init or orthogonal()
        recurrent = _init_gates(recurrent_key, cell.gates, (units, units), recurrent_init)
        params = {"kernel": kernel, "recurrent_kernel": recurrent, **cell.biases(units)}
        out_shape = (units,) if options.last else (time, units)
        return params, {}, out_shape

    def scan(
        params: Params,
        x: jax.Array,
        lengths: jax.Array,
        carry: Carry | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Return the carry at the end of each sequence, and y.

        Args:
            params: Of the layer.
            x: (batch, time, features).
            lengths: (batch,).
            carry: The carry before the first step; zeros if None.
        """
        _, time, features = x.shape
        shapes = {"kernel": (features, width), "recurrent_kernel": (units, width)}
        biases = jax.eval_shape(lambda: cell.biases(units))
        for name, bias in biases.items():
            shapes[name] = bias.shape
        _expect_params(where, params, x, shapes)

        expected = f"0 <= length <= {time}"
        nan = nan_outside_bounds(f"{where} lengths", expected, lengths, 0, time + 1)
        # (batch, time): True for the steps before the length of each sequence
        steps = jnp.arange(time)[None]
        is_valid = steps < lengths.astype(int)[:, None]
        params = {name: array.astype(x.dtype) for name, array in params.items()}
        # Zeros before the scan as well: NaN beyond a length would reach the gradients as 0 * NaN.
        x = jnp.where(is_valid[..., None], x, 0)
        if carry is None:
            # The carry is float32 at least, since the term that one step adds may be small.
            zeros = jnp.zeros((x.shape[0], units), trees.wide(x))
            carry = (zeros,) * cell.carries
        carry, outputs = _scan_sequences(cell, params, x, is_valid, carry, reverse)
        y = carry[0]  # (batch, units)
        if not options.last:
            y = jnp.where(is_valid[..., None], outputs, 0)  # (batch, time, units)
        # (batch,) -> (batch, 1, ...), to multiply y of two or three axes
        ones = (1,) * (y.ndim - 1)
        nan = nan.astype(y.dtype).reshape(-1, *ones)
        return carry, (y * nan).astype(x.dtype)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        x, lengths = _sequences(where, x)
        _, y = scan(params, x, lengths)
        return y, state

    def decoder(span: Span) -> Layer:
        def apply_part(
            params: Params,
            state: State,
            x: jax.Array,
            *,
            key: jax.Array | None = None,
            train: bool = False,
        ):
            x, _ = _sequences(where, x)
            # The first part has no carry in its state.
            carry, y = scan(params, x, span.length, state.get(CARRY))
            return y, {CARRY: carry}

        return Layer(init, apply_part, where)

    # y of a reversed layer, or the last y, depends on the whole sequence.
    if reverse or options.last:
        return Layer(init, apply, where)
    return Layer(init, apply, where, decoder=decoder)


def _scan_sequences(
    cell: Cell,
    params: Params,
    x: jax.Array,
    is_valid: jax.Array,
    carry: Carry,
    reverse: bool,
) -> tuple[Carry, jax.Array]:
    """Apply the cell step by step, beginning with this carry.

    Returns:
        The carry at the end of each sequence, and the output at every step (batch, time, units).
    """
    wide = trees.wide(x)

    def project(params: Params, x: jax.Array) -> jax.Array:
        product = x @ params["kernel"]
        projected = product + along_last(params["bias"], x)
        return projected.astype(wide)

    def scan(
        project: Project,
        params: Params,
        xs: jax.Array,
        is_valid: jax.Array,
        carry: Carry,
    ) -> tuple[Carry, jax.Array]:
        # The gradients of the params are summed over the steps in the dtype that enters the scan.
        wide_params = {name: array.astype(wide) for name, array in params.items()}

        def step(carry: Carry, inputs: StepInputs) -> tuple[Carry, jax.Array]:
            x, is_valid = inputs  # (batch, features) or (batch, gates units); (batch,)
            own = {name: array.astype(params[name].dtype) for name, array in wide_params.items()}
            proposed = cell.step(own, project(own, x), carry)
            # Beyond its length a sequence keeps its carry, so that the last is that at its end.
            kept = []
            for new, old in zip(proposed, carry, strict=True):
                kept.append(jnp.where(is_valid[:, None], new, old))
            return tuple(kept), kept[0]

        return jax.lax.scan(step, carry, (xs, is_valid), reverse=reverse)

    def project_then_scan(
        params: Params,
        xs: jax.Array,
        is_valid: jax.Array,
        carry: Carry,
    ) -> tuple[Carry, jax.Array]:
        return scan(lambda params, x: x, params, project(params, xs), is_valid, carry)

    # One matrix product for all steps is faster on an accelerator. On CPU it is not worth writing
    # and reading an array `gates` times as wide as the outputs: projecting step by step takes a
    # fifth less time in benchmarks/lstm_step.py.
    scan_all = on_cpu_else(partial(scan, project), project_then_scan)
    # The scan runs over the first axis: (batch, time, features) -> (time, batch, features).
    xs = jnp.moveaxis(x, 1, 0)
    carry, outputs = scan_all(params, xs, is_valid.T, carry)
    return carry, jnp.moveaxis(outputs, 0, 1)  # (batch, time, units)


def recurrent_product(params: Params, output: jax.Array) -> jax.Array:
    """Multiply the previous output (batch, units) by the recurrent kernel."""
    kernel = params["recurrent_kernel"]
    # The product is in the dtype of the params, the sums of the carry in the wide one.
    product = output.astype(kernel.dtype) @ kernel
    return product.astype(output.dtype)


def _init_gates(
    key: jax.Array,
    gates: int,
    shape: Shape,
    initializer: Initializer,
) -> jax.Array:
    """Draw one matrix for each gate and concatenate them, (inputs, gates units)."""
    # Drawn apart, so that fans and orthogonality are those of one gate.
    fold_in = partial(jax.random.fold_in, key)
    keys = jax.vmap(fold_in)(jnp.arange(gates))
    kernels = jax.vmap(lambda key: initializer(key, shape))(keys)  # (gates, inputs, units)
    kernels = jnp.moveaxis(kernels, 0, 1)  # (inputs, gates, units)
    return kernels.reshape(shape[0], -1)


def _sequence_shape(where: str, shape: Any) -> Shape:
    """Return (time, features) of a shape, or of a pair of it and the shape () of a length."""
    sequence, length = shape, ()
    if not trees.is_shape(shape) and len(shape) == 2:
        sequence, length = shape
    is_pair = trees.is_shape(sequence) and len(sequence) == 2
    if not is_pair or 0 in sequence or length != ():
        expected = "a shape (time, features) or ((time, features), ())"
        advice = "give sequences (batch, time, features), alone or as a pair with their "
        advice += "lengths (batch,)"
        raise ShapeError(where, expected, shape, advice)
    return sequence


def _sequences(where: str, x: Any) -> tuple[jax.Array, jax.Array]:
    """Return sequences (batch, time, features) and lengths (batch,), by default those of x."""
    is_pair = isinstance(x, tuple)
    sequences = x[0] if is_pair else x
    example_shapes = jax.tree.map(lambda array: array.shape[1:], x)
    _sequence_shape(f"{where} x", example_shapes)
    checks.floating(f"{where} x", sequences)
    batch, time = sequences.shape[:2]
    lengths = x[1] if is_pair else jnp.full(batch, time)
    if lengths.shape != (batch,):
        expected = f"one a sequence, ({batch},)"
        raise ShapeError(f"{where} lengths", expected, lengths.shape, "give one for each")
    return sequences, lengths


def _expect_params(
    where: str,
    params: Params,
    x: jax.Array,
    shapes: Mapping[str, Shape],
) -> None:
    if isinstance(params, Mapping):
        # First the arrays that x must fit, so that x of a wrong width is reported as such.
        affine = {name: params[name] for name in ("kernel", "bias") if name in params}
        expect_affine(where, affine, x, shapes["kernel"], use_bias=True)
    trees.expect_arrays(where, params, shapes)
