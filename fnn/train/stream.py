"""Validation of the batches of a stream: each one, and all by the first."""

from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import TreeMismatchError
from fnn.train.arrays import name_prefix
from fnn.train.inputs import validate_examples
from fnn.train.layout import Layout, adopt, layout_of_data, place_batch
from fnn.train.recipe import Recipe
from fnn.train.scale import Leaf, describe_inputs, expect_alike, note_training
from fnn.types import Data


class StreamValidator:
    """Validation of the batches of a stream: each one, and all by the first.

    Args:
        recipe: From `train.recipe`.
        layout: The devices among which batches are divided; None for one device.
    """

    def __init__(self, recipe: Recipe, layout: Layout | None = None):
        self._recipe = recipe
        self._layout = layout
        self._first: tuple[dict[str, Leaf], Any] | None = None

    def __call__(self, where: str, batch: Any) -> Data:
        """Return the batch as JAX arrays, or raise an error if it is wrong or unlike the first.

        Args:
            where: Name of the batch in errors.
            batch: (inputs, targets) as a loader gives them.
        """
        layout = self._layout or layout_of_data(batch)
        own = adopt(layout, batch)
        inputs, targets = validate_examples(where, self._recipe, own, is_step=True)
        prefix = name_prefix(where)
        if self._first is None:
            self._first = describe_inputs(inputs), jax.tree.structure(targets)
            note_training(self._recipe, inputs)
        leaves, target_structure = self._first
        expect_alike(prefix, self._recipe, leaves, inputs, strict=True)
        if jax.tree.structure(targets) != target_structure:
            raise TreeMismatchError(
                f"{prefix}targets",
                "the structure of the first batch",
                checks.show(targets),
                "give all batches one structure",
            )
        # In the thread that loads the batches.
        with trees.allow_transfers():
            return place_batch(layout, (inputs, targets))
