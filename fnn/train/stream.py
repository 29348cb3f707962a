"""Validation of the batches of a stream: each one, and all by the first."""

from collections.abc import Callable
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ProcessError, TreeMismatchError
from fnn.train.arrays import name_prefix
from fnn.train.devices import adopt, layout_of_data, place_batch
from fnn.train.inputs import validate_examples
from fnn.train.layout import Layout
from fnn.train.measure import count_examples
from fnn.train.processes import agreement, spans_processes
from fnn.train.recipe import Recipe
from fnn.train.run_facts import digest_examples
from fnn.train.scale import Leaf, describe_inputs, expect_alike, note_training
from fnn.types import Data


class StreamValidator:
    """Validation of the batches of a stream: each one, and all by the first.

    Batches are placed on the devices, unless these belong to several processes.

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
        if spans_processes(layout):
            # Placed when the sizes of the parts of all processes are known.
            return inputs, targets
        # In the thread that loads the batches.
        with trees.allow_transfers():
            return place_batch(layout, (inputs, targets))


class BatchParts:
    """Batches whose parts come from the streams of several processes.

    Args:
        layout: The devices of all processes, among which batches are divided.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._is_first = True

    def __call__(self, where: str, fetch: Callable[[], Data | None]) -> Data | None:
        """Return the next batch of all processes; None where all streams end.

        Args:
            where: Name of the batch in errors.
            fetch: () -> the part of this process, or None at the end of its stream.

        Raises:
            ProcessError: A stream has ended or failed before others, the arrays of parts differ, or
                all processes have the same part.
        """
        with agreement(where, self._layout) as agreed:
            part = fetch()
            agreed.facts["arrays"] = (
                "none, at the end of the data" if part is None else _kinds(part)
            )
            agreed.own["examples"] = 0 if part is None else count_examples(part)
            if self._is_first and part is not None and _is_own(part):
                agreed.own["digest"] = digest_examples(part)
        if part is None:
            return None
        digests = {own["digest"] for own in agreed.every if "digest" in own}
        if self._is_first and len(digests) == 1:
            raise ProcessError(
                where,
                "a part of the batch from each process",
                "the same examples from all of them",
                "let the loader of each give its own, as by "
                "batches[jax.process_index()::jax.process_count()]",
            )
        self._is_first = False
        counts = [own["examples"] for own in agreed.every]
        with trees.allow_transfers():
            return place_batch(self._layout, part, counts)


def _is_own(batch: Data) -> bool:
    """Return whether the arrays of a batch are of this process alone."""
    leaves = jax.tree.leaves(batch)
    return all(not isinstance(leaf, jax.Array) or leaf.is_fully_addressable for leaf in leaves)


def _kinds(batch: Data) -> str:
    """Return dtypes and shapes of the arrays of a batch, without the number of examples."""
    inputs, targets = batch
    kinds = []
    for path, leaf in trees.named_leaves({"inputs": inputs, "targets": targets}).items():
        kinds.append(f"{path} {leaf.dtype}[{','.join(map(str, leaf.shape[1:]))}]")
    return ", ".join(kinds)
