"""Memory of a device while a run trains, by purpose, and the layout that fits it."""

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh

from fnn import checks, train
from fnn.diagnose.plan import BYTE_UNITS, Plan, format_amount, plan
from fnn.errors import ConfigError
from fnn.train.devices import as_layout, use_layout
from fnn.train.exchange import apply_network, exchange_primitive
from fnn.train.figures import LOSS
from fnn.train.inputs import example_shapes
from fnn.train.layout import Devices, Layout, state_shardings
from fnn.train.measure import measure_examples
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import train_step_on_batch
from fnn.types import Data, TrainState
from fnn.xla import subjaxprs

# Sizes of the axis of tensor parallelism that are tried: the devices of one machine.
MODEL_SIZES = (2, 4, 8)
FEW = 2  # examples that are traced: batch norm needs several


class Footprint(NamedTuple):
    """Bytes of one device while a run trains, computed from shapes.

    Attributes:
        params: Parameters.
        grads: Gradients.
        opt_state: State of the optimizer.
        state: State of the network, and all else of the train state.
        gathered: The largest parameter that a layer gathers, with its gradient; with
            `regather=False` all parameters.
        activations: Intermediate values that the backward pass needs, of the part of a batch, or of
            a micro-batch, without tensor parallelism. XLA may keep fewer.
        program: XLA's account of one compiled step; None if it was not compiled.
    """

    params: int
    grads: int
    opt_state: int
    state: int
    gathered: int
    activations: int
    program: Plan | None = None

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self._amounts().values())

    def _amounts(self) -> dict[str, int]:
        amounts: dict[str, Any] = self._asdict()
        del amounts["program"]
        return amounts

    def __str__(self) -> str:
        """Format bytes in powers of 1024."""
        texts = []
        for name, amount in self._amounts().items():
            texts.append(f"{name} {format_amount(amount, 1024, BYTE_UNITS)}")
        texts.append(f"total {format_amount(self.total, 1024, BYTE_UNITS)}")
        if self.program is not None:
            texts.append(f"compiled: {self.program}")
        return ", ".join(texts)


class Proposal(NamedTuple):
    """A layout that fits the memory of a device, with the ones that were tried.

    Attributes:
        layout: For an AbstractMesh. Make a mesh of its sizes, and `train.layout` of that.
        footprint: Its bytes.
        tried: Descriptions and bytes of all layouts up to this one.
    """

    layout: Layout
    footprint: Footprint
    tried: tuple[tuple[str, Footprint], ...]

    def __str__(self) -> str:
        """Return one line for each layout; the last one fits."""
        return "\n".join(f"{text}: {footprint}" for text, footprint in self.tried)


def footprint(
    recipe: Recipe,
    data: Data,
    *,
    batch_size: int,
    mesh: Devices | None = None,
    compiles: bool = False,
) -> Footprint:
    """Compute the bytes of one device while a run trains, from shapes, before anything compiles.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays or jax.ShapeDtypeStruct, whose first axis is the example.
        batch_size: Examples per step, on all devices together.
        mesh: Devices, as for `train.run`; None for one. A layout of an AbstractMesh needs none.
        compiles: Whether to compile one step too, on the devices of the mesh, for XLA's account.

    Raises:
        ConfigError: An argument is not of the type described here, or the layout does not fit.
    """
    expect_recipe("footprint", recipe)
    checks.whole("footprint batch_size", batch_size)
    checks.flag("footprint compiles", compiles)
    # A plan may be for devices that are not there.
    is_plan = isinstance(mesh, Layout) and not compiles
    layout: Any = mesh if is_plan else as_layout("footprint mesh", mesh)
    shape = example_shapes(recipe, data[0])
    train_state = jax.eval_shape(lambda: train.start(jax.random.key(0), recipe, shape))
    sizes = _bytes_of_state(layout, train_state)
    parts = 1 if layout is None else layout.parts
    limit = recipe.micro_batch_size or batch_size
    local = -(-min(batch_size, limit) // parts)
    activations = _activations(recipe, train_state, data, local)
    program = _compiled(recipe, train_state, data, batch_size, layout) if compiles else None
    gathered = _gathered(recipe, train_state, data, layout)
    return Footprint(*sizes, gathered, activations, program)


def _bytes_of_state(
    layout: Layout | None,
    train_state: TrainState,
) -> tuple[int, int, int, int]:
    """Return the bytes of params, gradients, optimizer state, and all else, on one device."""
    divisors = jax.tree.map(lambda _: 1, train_state)
    if layout is not None:
        shardings: Any = jax.tree.map(
            lambda _, one: one, train_state, state_shardings(layout, train_state)
        )

        def parts(sharding: Any) -> int:
            names = [name for entry in sharding.spec for name in jax.tree.leaves(entry)]
            return prod(layout.mesh.shape[name] for name in names)

        divisors = jax.tree.map(parts, shardings)
    sizes = jax.tree.map(lambda leaf, by: _nbytes(leaf) // by, train_state, divisors)
    params, state, opt_state, *others = (sum(jax.tree.leaves(part)) for part in sizes)
    # A gradient has the dtype of its parameter.
    return params, params, opt_state, state + sum(others)


def _nbytes(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return prod(leaf.shape) * leaf.dtype.itemsize


def _gathered(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    layout: Layout | None,
) -> int:
    """Return the bytes of parameters that are gathered, and of gradients before their division."""
    if layout is None or not layout.divides_params:
        return 0

    def forward(train_state: TrainState, inputs: Any) -> Any:
        params, state = train_state[:2]
        prepared = recipe.prepare(inputs)
        key = train_state.key
        return apply_network(recipe.network, params, state, prepared, key=key, train=True)[0]

    with use_layout(layout):
        jaxpr = jax.make_jaxpr(forward)(train_state, _batch(data, FEW)[0])
    sizes = list(_exchanges(jaxpr, layout))
    largest = max((size for size, _ in sizes), default=0)
    if layout.regather:
        return 2 * largest
    return sum(size * count for size, count in sizes) + largest


def _exchanges(jaxpr: Any, layout: Layout, count: int = 1) -> Iterator[tuple[int, int]]:
    """Yield the bytes of each parameter that is gathered, and how often it is, by loops."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive is exchange_primitive():
            names = jax.tree.leaves(equation.params["specs"][0])
            parts = prod(layout.mesh.shape[name] for name in names)
            yield _nbytes(equation.outvars[0].aval) // parts, count
        for inner in subjaxprs(equation):
            yield from _exchanges(inner, layout, count * equation.params.get("length", 1))


def _activations(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    examples: int,
) -> int:
    """Return the bytes that the backward pass needs for some examples, besides parameters."""

    def residuals(train_state: TrainState, key: Any, inputs: Any, targets: Any) -> Any:
        def losses(params: Any) -> Any:
            prepared = recipe.prepare(inputs)
            outputs, _ = recipe.network.apply(
                params, train_state.state, prepared, key=key, train=True
            )
            return measure_examples(recipe, outputs, targets)[LOSS]

        # The pullback is a pytree of the values that it needs.
        return jax.vjp(losses, train_state.params)[1]

    amounts = []
    for count in (FEW, 2 * FEW):
        batch = _batch(data, count)
        found = jax.eval_shape(residuals, train_state, train_state.key, *batch)
        amounts.append(sum(_nbytes(leaf) for leaf in jax.tree.leaves(found)))
    # Parameters are among them, but do not grow with the batch.
    return examples * (amounts[1] - amounts[0]) // FEW


def _batch(data: Data, count: int) -> Any:
    """Return the shapes of a batch."""

    def shaped(leaf: Any) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        return jax.ShapeDtypeStruct((count, *leaf.shape[1:]), dtype)

    return jax.tree.map(shaped, tuple(data))


def _compiled(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    batch_size: int,
    layout: Layout | None,
) -> Plan:
    """Compile one step from shapes, and return XLA's account of it."""
    batch = _batch(data, batch_size)

    def step(train_state: TrainState, inputs: Any, targets: Any) -> Any:
        return train_step_on_batch(recipe, train_state, inputs, targets)

    if layout is None:
        return plan(step, train_state, *batch)

    def placed(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    shardings = jax.tree.map(lambda _, one: one, train_state, state_shardings(layout, train_state))
    train_state = jax.tree.map(placed, train_state, shardings)
    batch = jax.tree.map(lambda leaf: placed(leaf, layout.divided), batch)
    with use_layout(layout):
        return plan(step, train_state, *batch)


def propose_layout(
    recipe: Recipe,
    data: Data,
    *,
    batch_size: int,
    devices: int,
    memory: float,
) -> Proposal:
    """Find a layout whose train state and activations fit the memory of a device.

    Layouts are tried in the order of what passes between devices: the examples divided; the
    parameters too, gathered once a step, then twice; then tensor parallelism of transformer blocks
    in addition, over 2, 4 and 8 devices.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays or jax.ShapeDtypeStruct, whose first axis is the example.
        batch_size: Examples per step, on all devices together.
        devices: Number of devices.
        memory: Bytes of one device. Leave a tenth of it to XLA.

    Raises:
        ConfigError: No layout fits, or an argument is not of the type described here.
    """
    checks.whole("propose_layout devices", devices)
    checks.number("propose_layout memory", memory, "(0, inf)")
    tried = []
    for text, layout in _candidates(devices, batch_size):
        try:
            found = footprint(recipe, data, batch_size=batch_size, mesh=layout)
        except ConfigError:
            # The rules of transformers do not fit this network.
            if not layout.rules:
                raise
            continue
        tried.append((text, found))
        if found.total <= memory:
            return Proposal(layout, found, tuple(tried))
    text, best = min(tried, key=lambda one: one[1].total, default=("no layout", None))
    raise ConfigError(
        "propose_layout memory",
        "a layout that fits" if best is None else f"{best.total:,} bytes or more, for {text}",
        f"{memory:,.0f}",
        "use more devices, a smaller batch, micro_batch_size or nn.remat",
    )


def _candidates(devices: int, batch_size: int) -> Iterator[tuple[str, Layout]]:
    """Yield layouts whose examples divide evenly, with their descriptions."""
    if batch_size % devices == 0:
        mesh = AbstractMesh((devices,), ("data",))
        yield f"data {devices}", train.layout(mesh)
        if devices > 1:
            yield f"fsdp {devices}, gathered once", train.layout(mesh, fsdp=True, regather=False)
            yield f"fsdp {devices}", train.layout(mesh, fsdp=True)
    for size in MODEL_SIZES:
        rest = devices // size
        if devices % size == 0 and rest > 1 and batch_size % rest == 0:
            mesh = AbstractMesh((rest, size), ("data", "model"))
            layout = train.layout(mesh, fsdp=True, rules=train.transformer_rules("model"))
            yield f"fsdp {rest} x model {size}", layout
