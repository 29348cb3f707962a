"""A batch from anybody's loader, as arrays of our own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import ConfigError, DTypeError
from fnn.types import Data


def own_batch(where: str, batch: Any) -> Data:
    """The batch (inputs, targets) as JAX arrays; what is NumPy's, torch's or a list of numbers is copied.

    For a loader may refill its buffers, and on CPU JAX takes those of NumPy for its own [jax issue 37830]. ConfigError
    for what is no pair, DTypeError for what are no numbers.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = f"a {type(batch).__name__}" + (f" with {', '.join(map(str, batch))}" if isinstance(batch, dict) else "")
        advice = 'make pairs of them, as in ((b["image"], b["label"]) for b in loader)'
        raise ConfigError(where, "a pair (inputs, targets)", got, advice)
    inputs, targets = (trees.map_named(_own_array, *named) for named in zip(("inputs", "targets"), batch, strict=True))
    return inputs, targets


def expect_numbers(name: str, value: Any) -> None:
    """The array holds numbers, and no text, dates or objects."""
    if value.dtype.kind in "OSUMm":
        raise DTypeError(name, "an array of numbers", f"dtype {value.dtype}", "convert it to numbers first")


def _own_array(name: str, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    expect_numbers(name, array)
    return jnp.array(array.astype(array.dtype.newbyteorder("=")), copy=True)
