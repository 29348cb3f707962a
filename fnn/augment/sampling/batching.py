"""Functions of a batch that any number of vmaps call once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from fnn.walls import walled


def one_of_many(many: Callable[..., Array]) -> Callable[..., Array]:
    """The function of one image and more arrays that `many` is for a batch of each, all with a leading batch axis.

    Under vmap, however deep, all images of bytes come to `many` as one batch, since a batch has cheaper ways than its
    images one by one have. Bytes have no derivative, so nothing is lost. Floats are mapped as ever and can be derived.
    """
    gathered = custom_vmap(many)

    @gathered.def_vmap
    def fold(size: int, batched: list[bool], *arrays: Array) -> tuple[Array, bool]:
        full = [
            array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, is_batched in zip(arrays, batched, strict=True)
        ]
        result = gathered(*(array.reshape(-1, *array.shape[2:]) for array in full))
        return result.reshape(size, -1, *result.shape[1:]), True

    def one(image: Array, *others: Array) -> Array:
        if jnp.issubdtype(image.dtype, jnp.floating):
            return many(image[None], *(other[None] for other in others))[0]
        return gathered(image[None], *(jax.lax.stop_gradient(other)[None] for other in others))[0]

    return one


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an image's arrays, the first of whole numbers, worked out by itself on CPU: see `fnn.walls`.

    Where the first array is of floats it is just the function, to be derived. What it needs must all be arguments.
    """
    # As a jit of its own it keeps its constants to itself: as operands of a choice they could not be mapped.
    function = jax.jit(function)

    @custom_vmap
    def alone(*arrays: Array) -> Any:
        return walled(function, *arrays)

    @alone.def_vmap
    def many(size: int, batched: Sequence[bool], *arrays: Array) -> tuple[Any, Any]:
        axes = [0 if is_batched else None for is_batched in batched]
        result = apart(jax.vmap(function, axes))(*arrays)
        return result, jax.tree.map(lambda _: True, result)

    def called(*arrays: Array) -> Any:
        if jnp.issubdtype(arrays[0].dtype, jnp.floating):
            return function(*arrays)
        return alone(arrays[0], *(jax.lax.stop_gradient(other) for other in arrays[1:]))

    return called


def held(tree: Any) -> Any:
    """The arrays as they are, on CPU worked out before what follows, not anew wherever that looks at them."""
    leaves, form = jax.tree.flatten(tree)
    return jax.tree.unflatten(form, _held(*leaves)) if leaves else tree


@custom_vmap
def _batch_held(*arrays: Array) -> tuple[Array, ...]:
    return walled(lambda *own: own, *arrays)


@_batch_held.def_vmap
def _many_held(size: int, batched: Sequence[bool], *arrays: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
    return _batch_held(*arrays), tuple(batched)


@jax.custom_jvp
def _held(*arrays: Array) -> tuple[Array, ...]:
    return _batch_held(*arrays)


@_held.defjvp
def _(arrays: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    return _held(*arrays), tangents
