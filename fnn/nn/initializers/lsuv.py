"""Kernels scaled by what comes out of them on real data."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import map_leaves
from fnn.nn.initializers.random import orthogonal
from fnn.types import KERNEL, Layer, Params, RandomKey, State

FOUND = "lsuv of "  # before the path of a layer: where its new kernel stands in the state that the pass gives back
NOISE = 1e-12  # a variance below so much of the mean square is what rounding leaves of a constant


def lsuv(
    key: RandomKey,
    network: Layer,
    params: Params,
    state: State,
    batch: Any,
    /,
    *,
    orthonormal: bool = True,
) -> Params:
    """The params with kernels drawn anew, orthonormal, and scaled so that every layer gives variance 1 on the batch.

    One pass, each layer being scaled before the next sees what it gives. The layers concerned hold a kernel, with or
    without a bias, and no more; the variance is that of all their output together. Norms use the batch's statistics,
    and noise is off. orthonormal=False scales the kernels as they are. A layer whose output does not vary keeps its
    scale; one used in several places has that of one of them. ConfigError where no layer has a kernel to scale
    [Mishkin & Matas 2016, arXiv:1511.06422].
    """
    checks.key("lsuv key", key)
    checks.flag("lsuv orthonormal", orthonormal)
    paths = trees.named_leaves(params)
    scaled = map_leaves(lambda path, leaf: _scaling(path, leaf, paths, orthonormal), network)
    _, passed = scaled.apply(params, state, batch, key=key, train=True)
    kernels: dict[str, jax.Array] = {}
    for place, kernel in trees.named_leaves(passed).items():
        _, found, path = place.partition(FOUND)
        if found:
            kernels.setdefault(path, kernel)
    if not kernels:
        raise ConfigError(
            "lsuv network", "a layer with a kernel", list(paths), "give what its init returned"
        )
    changed = [kernels.get(path, leaf).astype(leaf.dtype) for path, leaf in paths.items()]
    return jax.tree.unflatten(jax.tree.structure(params), changed)


def _scaling(path: str, layer: Layer, paths: Collection[str], orthonormal: bool) -> Layer:
    """The layer, scaling its kernel as x comes by, and giving it back in the state."""
    place = f"{path}/{KERNEL}" if path else KERNEL

    def apply(params: Params, state: State, x: Any, *, key: jax.Array, train: bool):
        training = bool(
            jax.tree.leaves(state)
        )  # what keeps statistics takes the batch's; what only draws is off

        def given(params: Params) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=training)

        if place not in paths or KERNEL not in params or params.keys() - {KERNEL, "bias"}:
            return given(params)
        old = params[KERNEL]
        kernel = old.astype(trees.wide(old))
        if orthonormal:
            kernel = orthogonal()(jax.random.fold_in(key, 0), old.shape).astype(kernel.dtype)
        without, _ = given(params | {KERNEL: jnp.zeros_like(old)})
        whole, _ = given(params | {KERNEL: kernel.astype(old.dtype)})
        kernel = kernel * _to_unit_variance(without, whole).astype(kernel.dtype)
        y, new_state = given(params | {KERNEL: kernel.astype(old.dtype)})
        return y, {f"{FOUND}{place}": kernel, "state": new_state}

    return Layer(layer.init, apply, layer.name)


def _to_unit_variance(without: jax.Array, whole: jax.Array) -> jax.Array:
    """The s > 0 that gives y = b + s z the variance 1: s² var z + 2 s cov(b, z) + var b = 1, b being y at kernel 0.

    Where the variance of b is 1 or more, s z has variance 1; where that of z is 0, s = 1.
    """
    b, z = without.astype(trees.wide(without)), (whole - without).astype(trees.wide(whole))
    moving, still = z - z.mean(), b - b.mean()
    alive = jnp.square(moving).mean() > NOISE * jnp.square(z).mean()
    var = jnp.where(alive, jnp.square(moving).mean(), 1)
    room = 1 - jnp.square(still).mean()
    covariance = jnp.where(room > 0, (moving * still).mean(), 0)
    s = (jnp.sqrt(jnp.square(covariance) + var * jnp.where(room > 0, room, 1)) - covariance) / var
    return jnp.where(alive, s, 1)
