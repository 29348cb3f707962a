"""Parameters within a program: their places on the devices, and the exchange of their parts.

Where they are divided over the devices of the examples, a layer gathers its parameters when it
computes. The backward pass sums their gradients over the devices and leaves each its part. Without
this, XLA may divide the computation of a layer in another way, and send examples between devices.
"""

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir, xla
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fnn import trees
from fnn.nn.core.composite import map_leaves, wrap_layer
from fnn.train.devices import current_layout
from fnn.train.layout import Layout, state_shardings
from fnn.train.param_specs import Specs, spec_of
from fnn.types import Layer, Params, State, Weights

if TYPE_CHECKING:
    from jax.extend.core import Primitive


def apply_network(
    network: Layer,
    params: Params,
    state: State,
    x: Any,
    *,
    key: jax.Array | None = None,
    train: bool,
) -> tuple[Any, State]:
    """Return network.apply(...), whose layers gather parameters that are divided over examples.

    Args:
        network: The network.
        params: Its parameters.
        state: Its state.
        x: Inputs (batch, ...).
        key: As of a layer.
        train: As of a layer.
    """
    layout = current_layout()
    # A layer need not take a key that it does not use.
    options = {"train": train} if key is None else {"train": train, "key": key}
    if layout is not None and layout.divides_params:
        specs = {}
        for path, entries in layout.specs(params).items():
            if any(layout.axis in names for names in entries):
                specs[path] = entries
        network, params = _with_exchange(layout, specs, network, params)
    return network.apply(params, state, x, **options)


def _with_exchange(
    layout: Layout,
    specs: Specs,
    network: Layer,
    params: Params,
) -> tuple[Layer, Params]:
    """Return a network whose layers gather their parameters, and the parameters of no layer."""
    paths: set[str] = set()

    def change(path: str, leaf: Layer) -> Layer:
        paths.add(path)
        return _exchanged(layout, specs, path, leaf)

    changed = map_leaves(change, network)

    def gather_others(path: str, array: jax.Array) -> jax.Array:
        own = path.removeprefix("params/")
        parents = {own.rsplit("/", count)[0] for count in range(1, own.count("/") + 1)}
        # The parameters of a transform around a layer, such as a spectral norm, have paths below
        # that of the layer; those of a layer that is not made of parts are at its path.
        is_of_layer = "" in paths or own in paths or parents & paths
        return array if is_of_layer else _gather(layout, specs.get(own), array)

    return changed, trees.map_named(gather_others, "params", params)


def _exchanged(
    layout: Layout,
    specs: Specs,
    path: str,
    layer: Layer,
) -> Layer:
    """Return a layer that gathers its parameters when it computes.

    Args:
        layout: The layout.
        specs: Of the parameters to gather.
        path: Path of the layer.
        layer: A layer that is not made of others.
    """
    prefix = f"{path}/" if path else ""

    def gather(name: str, array: jax.Array) -> jax.Array:
        # The params of a layer may be a single array.
        own = path if name == "params" else prefix + name.removeprefix("params/")
        return _gather(layout, specs.get(own), array)

    def apply(
        params: Params,
        state: State,
        x: Any,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        def compute(
            params: Params,
            state: State,
            x: Any,
            key: jax.Array | None,
        ) -> tuple[Any, State]:
            whole = trees.map_named(gather, "params", params)
            return layer.apply(whole, state, x, key=key, train=train)

        if train and layout.regather and jax.tree.leaves(params):
            # All intermediate values are kept for the backward pass, except what was gathered.
            compute = jax.checkpoint(compute, policy=_is_own)
        return compute(params, state, x, key)

    rewrap = partial(_exchanged, layout, specs, path)
    return wrap_layer(layer, Layer(layer.init, apply), rewrap)


def _is_own(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive is not exchange_primitive()


def _gather(
    layout: Layout,
    entries: Any,
    array: jax.Array,
) -> jax.Array:
    """Return the whole of a parameter on all devices of the examples.

    Args:
        layout: The layout.
        entries: The entries of its spec; None if it is not divided.
        array: The parameter, or that of one of several blocks, without the axis of blocks.
    """
    if entries is None or len(entries) < array.ndim:
        return array
    own = entries[len(entries) - array.ndim :]
    whole = tuple(tuple(name for name in names if name != layout.axis) for names in own)
    if whole == own:
        return array
    forward = tuple(spec_of(whole)), tuple(spec_of(own))
    return exchange_primitive().bind(array, mesh=layout.mesh, specs=forward)


@cache
def exchange_primitive() -> "Primitive":
    """Return the primitive that changes the division of an array; its transpose changes it back.

    A plain constraint would be transposed to itself: each device would have all of the gradient.
    """
    from jax.extend.core import Primitive

    primitive = Primitive("exchange_params")
    primitive.def_impl(partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(lambda x, **_: x)

    def constrain(x: jax.Array, *, mesh: Any, specs: Any) -> jax.Array:
        # From the one to the other: for a part of a gradient alone, XLA might gather a batch.
        for spec in reversed(specs):
            x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(*spec)))
        return x

    def transpose(cotangent: Any, x: Any, *, mesh: Any, specs: Any) -> list[Any]:
        if type(cotangent) is ad.Zero:
            return [ad.Zero(x.aval)]
        return [primitive.bind(cotangent, mesh=mesh, specs=specs[::-1])]

    def batch(args: Any, dims: Any, *, mesh: Any, specs: Any) -> tuple[jax.Array, int]:
        moved = jnp.moveaxis(args[0], dims[0], 0)
        # XLA may divide the axis of lanes as it wants.
        lanes = tuple((P.UNCONSTRAINED, *spec) for spec in specs)
        return primitive.bind(moved, mesh=mesh, specs=lanes), 0

    mlir.register_lowering(primitive, mlir.lower_fun(constrain, multiple_results=False))
    ad.deflinear2(primitive, transpose)
    batching.primitive_batchers[primitive] = batch
    return primitive


def constrain_state(tree: Any) -> Any:
    """Give the arrays of a train state their places on the devices of the current layout."""
    layout = current_layout()
    if layout is None:
        return tree
    if layout.divides_params:
        shardings = state_shardings(layout, tree)
    else:
        shardings = jax.tree.map(lambda _: layout.replicated, tree)

    def constrain(leaf: Any, sharding: NamedSharding) -> jax.Array:
        # A key passes through a step unchanged; the oldest JAX would count this as its use.
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.with_sharding_constraint(leaf, sharding)

    return jax.tree.map(constrain, tree, shardings)


def constrain_like_params(grads: Any, params: Any) -> Any:
    """Divide gradients as the current layout divides the parameters.

    Args:
        grads: A tree as that of the parameters.
        params: The parameters.
    """
    layout = current_layout()
    if layout is None or not layout.divides_params:
        return grads
    shardings = state_shardings(layout, Weights(params, ())).params
    return jax.tree.map(jax.lax.with_sharding_constraint, grads, shardings)
