"""The devices of a run: recognition of its layout, and placement of its arrays.

Each device has an equal part of the data and computes an equal part of every batch. The train state
is the same on all of them, or each has a part of it. The program is the one of a single device.
Constraints on the batch divide its work, and XLA adds the sums over devices: of gradients, of the
statistics of batch norm and of figures. So a run draws the same numbers, takes the same batches and
has, up to rounding, the same results on any number of devices.

The layout is known to functions that are traced by a context variable, and compiled programs are
kept for each layout.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache, partial
from glob import escape
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.train.layout import ADVICE, EXAMPLES, Layout, automatic, state_shardings
from fnn.train.placement import join_rows, put
from fnn.types import TrainState
from fnn.xla import whole_batches

_current: ContextVar[Layout | None] = ContextVar("layout", default=None)


def current_layout() -> Layout | None:
    """Return the layout of the run that is being computed or traced, None for one device."""
    return _current.get()


def use_layout(layout: Layout | None) -> AbstractContextManager[None]:
    """Return a context that computes and traces with a layout; with None it is empty."""
    return trees.NO_CONTEXT if layout is None else _with_layout(layout)


@contextmanager
def _with_layout(layout: Layout) -> Iterator[None]:
    token = _current.set(layout)
    try:
        with whole_batches():
            yield
    finally:
        _current.reset(token)


def as_layout(where: str, mesh: Any) -> Layout | None:
    """Return the layout of an argument `mesh`; None if it is None.

    Args:
        where: Name of the argument in errors.
        mesh: A Mesh of one axis, a NamedSharding whose spec names the axis of the examples, or the
            value of `layout`.

    Raises:
        ConfigError: It is none of them, or it does not name one axis.
    """
    if mesh is None:
        return None
    if isinstance(mesh, Layout):
        if isinstance(mesh.mesh, AbstractMesh):
            raise ConfigError(where, "a mesh of devices", "an AbstractMesh", ADVICE)
        _expect_processes(where, mesh.mesh)
        return mesh
    if isinstance(mesh, NamedSharding | Mesh):
        _expect_processes(where, mesh if isinstance(mesh, Mesh) else mesh.mesh)
    if isinstance(mesh, NamedSharding):
        # A trailing None says that an axis of the array is not divided.
        named = [part for part in mesh.spec if part is not None]
        if len(named) != 1 or mesh.spec[0] is None or not isinstance(named[0], str):
            raise ConfigError(
                where,
                "a sharding of the first axis over one axis of the mesh",
                mesh.spec,
                'as in NamedSharding(mesh, PartitionSpec("data"))',
            )
        return Layout(automatic(mesh.mesh), named[0])
    if not isinstance(mesh, Mesh):
        raise ConfigError(where, "a jax.sharding.Mesh", checks.show(mesh), ADVICE)
    if len(mesh.axis_names) != 1:
        axes = ", ".join(f"{name} of {size}" for name, size in mesh.shape.items())
        raise ConfigError(
            where,
            "a mesh of one axis, or a sharding that names the axis of the examples",
            f"the axes {axes or 'of none'}",
            'give NamedSharding(mesh, PartitionSpec("data")) with the name of your axis',
        )
    return Layout(automatic(mesh), mesh.axis_names[0])


def _expect_processes(where: str, mesh: Any) -> None:
    """Raise ConfigError unless a mesh has devices of this process alone, or all of all processes.

    A process without a part of the mesh could neither compute nor read the results.
    """
    own = jax.process_index()
    owners = [device.process_index for device in mesh.devices.flat]
    if set(owners) == {own} or len(owners) == jax.device_count():
        return
    counts = [f"{owners.count(process)} of process {process}" for process in sorted(set(owners))]
    raise ConfigError(
        where,
        f"all {jax.device_count()} devices of the {jax.process_count()} processes, or those of "
        f"process {own} alone",
        f"{', '.join(counts)}",
        "make it of jax.devices(), or of jax.local_devices()",
    )


@cache
def are_several() -> bool:
    """Return whether there are several devices. Their number does not change in a process."""
    return jax.device_count() > 1


def layout_of_data(data: Any) -> Layout | None:
    """Return the layout of arrays whose examples are divided over an axis of a mesh already.

    Args:
        data: Arrays of NumPy or JAX. The first one decides.
    """
    sharding = _named_sharding(trees.first_leaf(data)) if are_several() else None
    if sharding is None or not sharding.spec or not isinstance(sharding.spec[0], str):
        return None
    layout = Layout(automatic(sharding.mesh), sharding.spec[0])
    return layout if layout.parts > 1 else None


def _named_sharding(leaf: Any) -> NamedSharding | None:
    """Return the sharding of an array on a mesh; None for others, and for traced ones."""
    if not isinstance(leaf, jax.Array) or not checks.is_concrete(leaf):
        return None
    return leaf.sharding if isinstance(leaf.sharding, NamedSharding) else None


def adopt(layout: Layout | None, tree: Any) -> Any:
    """Return arrays that are on a mesh as arrays on that of the layout, whose axes are Auto.

    With arrays on a mesh of explicit axes, a network could not even be traced.
    """
    if layout is None:
        return tree

    def move(leaf: Any) -> Any:
        if _named_sharding(leaf) is None:
            return leaf
        is_even = leaf.ndim > 0 and leaf.shape[0] % layout.parts == 0
        return put(leaf, layout.divided if is_even else layout.replicated)

    return jax.tree.map(move, tree)


def layout_of_state(train_state: TrainState) -> Layout | None:
    """Return the layout of a train state as `layout_of`; None at once where it is on one device."""
    # A pass over all params would take a part of the time of a small step.
    if not are_several() or _named_sharding(train_state.step) is None:
        return None
    return layout_of(train_state.params)


def layout_of(tree: Any) -> Layout | None:
    """Return the layout of a run by its params, None if they are not on a mesh.

    Args:
        tree: Arrays. If each is on all devices of one mesh, copied or divided, that is the layout.
            Of a mesh of several axes, examples are divided over that named "data", or the first.
    """
    # The first one decides for nearly all callers.
    first = _named_sharding(trees.first_leaf(tree)) if are_several() else None
    if first is None:
        return None
    leaves, structure = jax.tree.flatten(tree)
    shardings = tuple(map(_named_sharding, leaves))
    if any(one is None or one.mesh != first.mesh for one in shardings):
        return None
    ranks = tuple(leaf.ndim for leaf in leaves)
    found = _layout_of(structure, shardings, ranks)
    return found if found.parts > 1 or found.rules else None


@lru_cache(maxsize=64)
def _layout_of(
    structure: Any,
    shardings: tuple[NamedSharding, ...],
    ranks: tuple[int, ...],
) -> Layout:
    mesh = shardings[0].mesh
    axis = EXAMPLES if EXAMPLES in mesh.axis_names else mesh.axis_names[0]
    rules = []
    paths = trees.named_leaves(jax.tree.unflatten(structure, shardings))
    for path, sharding, rank in zip(paths, shardings, ranks, strict=True):
        if not sharding.is_fully_replicated:
            # JAX aligns specs at the first axis, rules are aligned at the last one.
            missing = (None,) * (rank - len(sharding.spec))
            rules.append((escape(path), P(*sharding.spec, *missing)))
    return Layout(automatic(mesh), axis, rules=tuple(rules))


def expect_divisible(
    where: str,
    layout: Layout | None,
    batch_size: int,
) -> None:
    """Raise ConfigError unless the devices have equal parts of a batch.

    Args:
        where: Name of the batch size in errors.
        layout: The layout; None for one device.
        batch_size: Examples per step.
    """
    if layout is None or batch_size % layout.parts == 0:
        return
    below = batch_size // layout.parts * layout.parts
    sizes = [str(size) for size in (below, below + layout.parts) if size]
    raise ConfigError(
        where,
        f"a multiple of the {layout.parts} devices of the mesh axis {layout.axis!r}",
        batch_size,
        f"use {' or '.join(sizes)}",
    )


# Placement, before a program is called.


@jax.tree_util.register_pytree_node_class
class Rows:
    """An array whose examples are divided among devices, padded to equal parts.

    Attributes:
        array: The array with zeros at its end, (parts x examples of a part, ...).
        count: Number of examples.
        layout: The division.
    """

    def __init__(
        self,
        array: Any,
        count: int,
        layout: Layout,
    ):
        self.array = array
        self.count = count
        self.layout = layout

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape without padding."""
        return (self.count, *self.array.shape[1:])

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        return self.array.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the examples on the host, without padding."""
        return np.asarray(self.array, dtype)[: self.count]

    def tree_flatten(self) -> tuple[tuple[Any], tuple[int, Layout]]:
        """Return the array, and what is static."""
        return (self.array,), (self.count, self.layout)

    @classmethod
    def tree_unflatten(cls, static: tuple[int, Layout], children: tuple[Any]) -> "Rows":
        """Return rows of another array."""
        return cls(children[0], *static)

    def take(self, indices: jax.Array) -> jax.Array:
        """Gather the examples of these indices (batch,), divided among the devices.

        Each device contributes those of its part, and each receives those of its part of the
        batch. No device ever has the data of another one.
        """
        parts = self.layout.parts
        axis = self.layout.axis
        size = self.array.shape[0] // parts
        batch = indices.shape[0]
        # Equal parts of the batch: the first example again, which is cut off below.
        padded = jnp.pad(indices, (0, -batch % parts))

        def take_own(rows: jax.Array, indices: jax.Array) -> jax.Array:
            begin = jax.lax.axis_index(axis) * size
            own = indices - begin
            is_own = (own >= 0) & (own < size)
            values = rows.at[own].get(mode="clip")
            is_own = is_own.reshape(-1, *(1,) * (rows.ndim - 1))
            # One device has the example, and the sum with the zeros of others is exact.
            values = jnp.where(is_own, values, jnp.zeros((), rows.dtype))
            return jax.lax.psum_scatter(values, axis, tiled=True)

        exchange = jax.shard_map(
            take_own,
            mesh=self.layout.mesh,
            in_specs=(P(axis), P()),
            out_specs=P(axis),
        )
        # Booleans have no sum.
        is_bool = self.dtype == jnp.bool
        rows = self.array.astype(jnp.uint8) if is_bool else self.array
        values = exchange(rows, padded)[:batch]
        return values.astype(jnp.bool) if is_bool else values


def is_rows(value: Any) -> bool:
    """Return whether a value is an array that is divided among devices."""
    return isinstance(value, Rows)


def whole_shapes(tree: Any) -> Any:
    """Return a tree for tracing: shapes in place of arrays that are divided among devices."""

    def as_shape(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_rows(leaf) else leaf

    return jax.tree.map(as_shape, tree, is_leaf=is_rows)


def place_data(layout: Layout | None, data: Any) -> Any:
    """Divide arrays among devices, each of which gets its part only.

    Args:
        layout: The layout; None to return the data as it is.
        data: Arrays whose first axis is the example, of NumPy or JAX, also traced.
    """
    if layout is None:
        return data
    return jax.tree.map(partial(_place_rows, layout), data)


def _place_rows(layout: Layout, leaf: Any) -> Rows:
    count = leaf.shape[0]
    missing = -count % layout.parts
    if isinstance(leaf, np.ndarray):
        narrow = jax.dtypes.canonicalize_dtype(leaf.dtype)
        shape = (count + missing, *leaf.shape[1:])

        def part(index: Any) -> np.ndarray:
            # A copy: on CPU, JAX would use the memory of the caller's array.
            rows = leaf[index].astype(narrow)
            begin, end, _ = index[0].indices(shape[0])
            # Of the padding the array has no rows.
            lacking = end - begin - len(rows)
            return np.pad(rows, ((0, lacking), *((0, 0),) * (leaf.ndim - 1)))

        return Rows(jax.make_array_from_callback(shape, layout.divided, part), count, layout)
    if missing:
        leaf = jnp.pad(leaf, ((0, missing), *((0, 0),) * (leaf.ndim - 1)))
    return Rows(put(leaf, layout.divided), count, layout)


def place_batch(
    layout: Layout | None,
    batch: Any,
    counts: list[int] | None = None,
) -> Any:
    """Place the arrays of a batch of a stream: divided where the parts are equal.

    Another batch, such as the last one of an epoch, is copied to all devices. Each computes its
    part all the same.

    Args:
        layout: The layout; None for one device.
        batch: Arrays whose first axis is the example. Where the devices belong to several
            processes, each gives its part of the batch.
        counts: Examples of the part of each process; None for equal parts.
    """
    if layout is None:
        return jax.tree.map(jnp.asarray, batch)
    if layout.mesh.is_multi_process:
        return jax.tree.map(partial(_join_parts, layout, counts), batch)

    def place(leaf: Any) -> jax.Array:
        is_even = leaf.shape[0] % layout.parts == 0
        return put(leaf, layout.divided if is_even else layout.replicated)

    return jax.tree.map(place, batch)


def _join_parts(layout: Layout, counts: list[int] | None, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return put(leaf, layout.divided)
    if counts is None:
        counts = [leaf.shape[0]] * jax.process_count()
        expect_divisible("batch of all processes", layout, sum(counts))
    return join_rows(leaf, counts, layout.divided)


def place_state(layout: Layout | None, tree: Any) -> Any:
    """Place arrays, such as a train state, on all devices; None leaves them where they are.

    Each device has all of them. Where the layout divides parameters, it has its part of those of a
    train state or weights, and of all that belongs to them.
    """
    if layout is None:
        return tree
    if not layout.divides_params:
        return put(tree, layout.replicated)

    def place(leaf: Any, sharding: NamedSharding) -> Any:
        # A step finds nearly all arrays in place: a call for each would take longer than a step.
        if _named_sharding(leaf) == sharding:
            return leaf
        # A lane of vmap has an axis less than the array that is placed; keys are copied.
        is_lane = not checks.is_concrete(leaf) and not sharding.is_fully_replicated
        move = jax.lax.with_sharding_constraint if is_lane else put
        return move(leaf, sharding)

    return jax.tree.map(place, tree, state_shardings(layout, tree))


# Constraints within a program.


def divide(batch: Any) -> Any:
    """Divide the work on a batch among the devices of the current layout.

    Parts may be unequal: XLA pads them, and leaves the padding out of every sum.
    """
    layout = current_layout()
    if layout is None:
        return batch

    def constrain(leaf: Any) -> jax.Array:
        return jax.lax.with_sharding_constraint(leaf, layout.divided)

    return jax.tree.map(constrain, batch)
