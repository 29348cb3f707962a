"""Facts of a call, by which the processes of a run recognize the same code, data and arguments."""

import hashlib
import math
import re
from typing import Any

import jax
import numpy as np

from fnn import trees
from fnn.data.digest import digest
from fnn.train.devices import Rows, is_rows
from fnn.train.programs import lower
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data, train_step_on_batch
from fnn.types import Data, RandomKey, TrainState

DIGEST_BYTES = 2**24  # of each array, which take some 10 ms
STATE_BYTES = 2**18  # of each array of a train state, which has many


def run_facts(
    recipe: Recipe,
    key: RandomKey,
    data: Data,
    valid: Data | None,
    **options: Any,
) -> dict[str, Any]:
    """Return the facts by which the processes of a run recognize the same run.

    Args:
        recipe: From `train.recipe`.
        key: Key of the run.
        data: (inputs, targets) of the training.
        valid: (inputs, targets) of validation, or None.
        **options: Further values that must be equal.
    """
    return {
        **options,
        "jax": jax.__version__,
        "key": trees.read(jax.random.key_data(key)).tolist(),
        "recipe": describe(recipe),
        "code of a step": _digest_step(recipe, key, data),
        "data": describe_data(data),
        "valid": describe_data(valid),
    }


def call_facts(recipe: Recipe, data: Any, batch_size: int) -> dict[str, Any]:
    """Return the facts that must be equal on all processes in a single pass over data.

    Args:
        recipe: From `train.recipe`.
        data: Validated arrays.
        batch_size: Examples at once.
    """
    return {
        "batch_size": batch_size,
        "recipe": describe(recipe),
        "data": describe_data(data),
    }


def describe(recipe: Recipe) -> str:
    """Return the text of a recipe, without the addresses of functions."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(recipe))


def describe_data(data: Any) -> str:
    """Return shapes, dtypes and a digest of arrays that each process has as a whole."""
    leaves = jax.tree.leaves(data, is_leaf=is_rows)
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    own = [leaf for leaf in leaves if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable]
    # Of an array that is divided among processes, none has it all.
    return f"{shapes} with digest {digest_examples(own)[:16]}" if own else shapes


def _digest_step(recipe: Recipe, key: RandomKey, data: Data) -> str:
    """Return a digest of the program of a step, which shows other code of functions."""

    def as_shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    batch = jax.tree.map(as_shape, data)
    state = jax.eval_shape(lambda key: start_on_data(recipe, key, batch), key)
    step: Any = train_step_on_batch
    text = lower(step.__wrapped__, (), recipe, state, *batch).as_text()
    return f"digest {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def digest_examples(data: Any, most: int = DIGEST_BYTES) -> str:
    """Return a digest of arrays: of evenly spaced examples.

    Args:
        data: Arrays whose first axis is the example. Those that are divided among processes are
            read by all of them together.
        most: Bytes of each array.
    """

    def sample(leaf: Any) -> np.ndarray:
        is_divided = isinstance(leaf, Rows) and leaf.layout.mesh.is_multi_process
        array = leaf if is_divided else trees.read(leaf)
        example_bytes = math.prod(array.shape[1:]) * array.dtype.itemsize
        count = min(array.shape[0], max(1, most // max(1, example_bytes)))
        rows = np.linspace(0, array.shape[0] - 1, count).astype(int)
        if not is_divided:
            return array[rows]
        take = jax.jit(Rows.take, out_shardings=leaf.layout.replicated)
        return trees.read(take(leaf, rows.astype(np.int32)))

    return digest(jax.tree.map(sample, data, is_leaf=is_rows))


def describe_state(train_state: TrainState) -> str:
    """Return a digest of the arrays of a train state that are of this process alone."""
    arrays = []
    for leaf in jax.tree.leaves(train_state):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        # An array of all processes is the same by its nature.
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            arrays.append(trees.read(leaf).reshape(-1))
    return f"digest {digest_examples(arrays, STATE_BYTES)[:16]}"
