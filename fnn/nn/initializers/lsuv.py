"""LSUV: kernels scaled so that every layer gives variance 1 on a batch."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn.core.composite import map_leaves
from fnn.nn.initializers.random import orthogonal
from fnn.types import KERNEL, Layer, Params, RandomKey, State

# Name of a new kernel in the state that the scaled network returns, before the kernel's path.
MARK = "lsuv of "
# A variance below this share of the mean square is rounding of a constant output.
NOISE = 1e-12


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
    """Layer-sequential unit-variance initialization [Mishkin & Matas 2016, arXiv:1511.06422].

    One forward pass: each layer with a kernel is scaled so that its output has variance 1, before
    the next layer gets that output. It applies to layers whose params are a kernel and an optional
    bias. The variance is over all numbers of the output together. Normalizations use the statistics
    of the batch, and dropout is off. A layer whose output is constant keeps its scale. A layer used
    several times is scaled for one of its uses.

    Args:
        key: Random key for the new kernels.
        network: The network.
        params: Its params, as returned by init.
        state: Its state, as returned by init.
        batch: A batch of inputs, prepared as in training.
        orthonormal: Whether to draw orthonormal kernels first; otherwise the given ones are scaled.

    Returns:
        The params with new kernels.

    Raises:
        ConfigError: No layer has a kernel to scale.
        DTypeError: `key` is not a random key.
    """
    checks.key("lsuv key", key)
    checks.flag("lsuv orthonormal", orthonormal)
    leaves = trees.named_leaves(params)
    scaled = map_leaves(lambda path, leaf: _scaled(path, leaf, leaves, orthonormal), network)
    # One pass: each layer is scaled before the next one gets its output.
    _, new_state = scaled.apply(params, state, batch, key=key, train=True)
    kernels: dict[str, jax.Array] = {}
    for state_path, kernel in trees.named_leaves(new_state).items():
        _, mark, path = state_path.partition(MARK)
        if mark:
            # A layer that is used several times gets the scale of one of its uses.
            kernels.setdefault(path, kernel)
    if not kernels:
        raise ConfigError(
            "lsuv network",
            "a layer with a kernel",
            list(leaves),
            "give what its init returned",
        )
    new_leaves = [kernels.get(path, leaf).astype(leaf.dtype) for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), new_leaves)


def _scaled(path: str, layer: Layer, params_paths: Collection[str], orthonormal: bool) -> Layer:
    """Make a layer scale its kernel by its x, and return the new kernel in its state."""
    kernel_path = f"{path}/{KERNEL}" if path else KERNEL

    def apply(params: Params, state: State, x: Any, *, key: jax.Array, train: bool):
        # Layers with statistics use those of the batch; layers that only draw, as dropout, are off.
        uses_statistics = bool(jax.tree.leaves(state))

        def output(params: Params) -> tuple[Any, State]:
            return layer.apply(params, state, x, key=key, train=uses_statistics)

        if kernel_path not in params_paths or not _is_affine(params):
            return output(params)
        old = params[KERNEL]
        kernel = old.astype(trees.wide(old))
        if orthonormal:
            own_key = jax.random.fold_in(key, 0)
            kernel = orthogonal()(own_key, old.shape).astype(kernel.dtype)
        bias_only, _ = output(params | {KERNEL: jnp.zeros_like(old)})
        full, _ = output(params | {KERNEL: kernel.astype(old.dtype)})
        kernel = kernel * _unit_variance_factor(bias_only, full).astype(kernel.dtype)
        y, new_state = output(params | {KERNEL: kernel.astype(old.dtype)})
        return y, {f"{MARK}{kernel_path}": kernel, "state": new_state}

    return Layer(layer.init, apply, layer.name)


def _is_affine(params: Params) -> bool:
    """Whether the params are a kernel and an optional bias."""
    return KERNEL in params and not params.keys() - {KERNEL, "bias"}


def _unit_variance_factor(bias_only: jax.Array, full: jax.Array) -> jax.Array:
    """Return the factor s > 0 of the kernel that gives y = b + s z variance 1.

    b is y at kernel 0 and z the rest: s² var z + 2 s cov(b, z) + var b = 1. If var b >= 1, s z has
    variance 1 instead; if var z = 0, s = 1.
    """
    b = bias_only.astype(trees.wide(bias_only))
    z = (full - bias_only).astype(trees.wide(full))
    z_centered = z - z.mean()
    b_centered = b - b.mean()
    varies = jnp.square(z_centered).mean() > NOISE * jnp.square(z).mean()
    z_variance = jnp.where(varies, jnp.square(z_centered).mean(), 1)
    # The variance that b leaves for s z. Without any, the equation becomes s² var z = 1.
    room = 1 - jnp.square(b_centered).mean()
    covariance = jnp.where(room > 0, (z_centered * b_centered).mean(), 0)
    # The positive root of the quadratic equation.
    root = jnp.sqrt(jnp.square(covariance) + z_variance * jnp.where(room > 0, room, 1))
    s = (root - covariance) / z_variance
    return jnp.where(varies, s, 1)
