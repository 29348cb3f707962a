"""What stands at places outside of an image: the modes of numpy.pad."""

import jax.numpy as jnp
from jax import Array

MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def inside(places: Array, length: int, mode: str) -> Array:
    """The place in [0, length) whose pixel stands at each whole place; with "constant" any, see `is_inside`."""
    last = length - 1
    if mode == "wrap":
        return places % length
    if mode == "symmetric":
        folded = places % (2 * length)
        return jnp.minimum(folded, 2 * length - 1 - folded)
    if mode == "reflect" and last:
        folded = places % (2 * last)
        return jnp.minimum(folded, 2 * last - folded)
    return jnp.clip(places, 0, last)


def is_inside(places: Array, length: int) -> Array:
    return (places >= 0) & (places < length)
