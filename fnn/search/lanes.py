"""Lanes: many runs of recipes that differ in numbers alone, as one compiled program.

The program trains a batch of trials by some number of epochs, which is an argument. Hence any
number of trials, cut into batches of one size, any number of epochs, and runs that continue where
they stopped share one compilation.

All trials have the same key, so they begin at the same draws and see the same examples in the same
order. This removes a part of the noise from comparisons (common random numbers). It is also faster:
the order and the batches are computed once for all lanes.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks
from fnn.search.brackets import best_lanes
from fnn.train.arrays import validate_data
from fnn.train.early_stopping import until_over
from fnn.train.epoch import Measures, run_epoch
from fnn.train.evaluate import update_on_validation, validate
from fnn.train.figures import FINITE, summarize_epoch
from fnn.train.inputs import validate_fit
from fnn.train.programs import shared
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.run import finish_run
from fnn.train.step import start_on_data, steps_per_epoch
from fnn.types import Data, RandomKey, Step, TrainState

MEMORY_SHARE = 0.5  # of the free memory that a program may use
MAX_LANES = 64  # on CPU; with more of them the time per trial hardly falls
MAX_LANES_ELSEWHERE = 1024


class Task(NamedTuple):
    """The arguments of runs that all trials have in common.

    Attributes:
        data: Validated (inputs, targets).
        valid: Validated (inputs, targets), or None.
        epochs: Largest number of epochs that are trained by one call.
        batch_size: Examples per step.
    """

    data: Data
    valid: Data | None
    epochs: int
    batch_size: int


def prepare_task(
    recipes: Sequence[Recipe],
    data: Data,
    valid: Data | None,
    *,
    epochs: int,
    batch_size: int,
) -> Task:
    """Return the task of these arguments; raise an FnnError if they do not fit the recipes.

    Args:
        recipes: One recipe of each structure.
        data: (inputs, targets), arrays whose first axis is the example.
        valid: The same for validation, or None.
        epochs: Passes over the data, >= 1.
        batch_size: Examples per step.
    """
    checks.whole("epochs", epochs)
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    steps_per_epoch(data, batch_size)
    for recipe in recipes:
        expect_recipe("search", recipe)
        validate_fit(recipe, data, valid)
    return Task(data, valid, epochs, batch_size)


class Lanes:
    """The runs of recipes of one structure, some number of them at a time.

    Train states of n trials are stacked: their leaves have a first axis of size n, except for the
    key, and for the step where all trials are at the same one.

    Attributes:
        recipe: One of the recipes.
        task: The data and the length of the runs.
        size: Number of trials at a time; 1 if they are trained one after another.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        trials: int,
        lanes: int | str = "auto",
        stages: Sequence[tuple[int, int]] = (),
    ):
        """Choose the number of lanes.

        Args:
            recipe: One of the recipes.
            task: The data and the length of the runs.
            trials: Number of recipes to train.
            lanes: A number; or "auto" for as many as fit into memory, or one after another where
                a measurement of one epoch says that this is faster.
            stages: (trials, epochs) of each part of the runs, where trials are stopped between
                parts; by default all trials are trained to the end.
        """
        self.recipe = recipe
        self.task = task
        self._structure = jax.tree.structure(recipe)
        # With early stopping some trials end before others.
        step_axis = 0 if recipe.early_stopping is not None else None
        self.axes = TrainState(0, 0, 0, step_axis, None, 0)  # type: ignore[arg-type]
        if lanes == "auto":
            self.size = self._best_size(trials, stages or [(trials, 1)])
        else:
            self.size = min(checks.whole("lanes", lanes), trials)

    def start(self, key: RandomKey, recipes: Sequence[Recipe]) -> TrainState:
        """Return the train states of n recipes before the first step.

        Args:
            key: The key of all runs, from `jax.random.key`.
            recipes: Of the structure of `recipe`.
        """
        leaves = stack_leaves(recipes)
        started = []
        for indices in self._batches(len(recipes)):
            program = self._start_program(key)
            started.append(program(_take(leaves, indices), key, self.task.data))
        return self._join(started, len(recipes))

    def advance(
        self, recipes: Sequence[Recipe], train_states: TrainState, epochs: int
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Train n trials by some number of epochs.

        Args:
            recipes: Of the structure of `recipe`.
            train_states: Of these recipes, stacked, from `start` or an earlier call.
            epochs: Number of further epochs, at most `task.epochs`.

        Returns:
            The train states, and the figures by name, (n, epochs): means over the steps of an
            epoch, `finite` for all its steps, and those of validation.
        """
        leaves = stack_leaves(recipes)
        results = []
        for indices in self._batches(len(recipes)):
            states = self.take(train_states, indices)
            results.append(self._advance(_take(leaves, indices), states, epochs))
        states = self._join([states for states, _ in results], len(recipes))
        figures = {}
        for name in results[0][1]:
            rows = np.concatenate([np.asarray(batch[name]) for _, batch in results])
            # Without the padding of the last batch, and the epochs that were not trained.
            figures[name] = rows[: len(recipes), :epochs]
        return states, self.recipe.in_order(figures) | figures

    def finish(self, train_states: TrainState) -> TrainState:
        """Return the train states that finished runs return: the last or the best ones."""
        if self.recipe.early_stopping is None:
            return train_states

        def finish(train_state: TrainState) -> TrainState:
            return finish_run(self.recipe, train_state)

        return jax.vmap(finish, (self.axes,), self.axes)(train_states)

    def take(self, train_states: TrainState, indices: Any) -> TrainState:
        """Return the train states of some trials.

        Args:
            train_states: Stacked.
            indices: Indices (k,) of trials for k stacked ones; or one index for a train state of
                one trial.
        """
        return self._map(lambda leaf: leaf[indices], train_states)

    # Batches.

    def _batches(self, count: int) -> list[np.ndarray]:
        """Return the indices of the trials of each batch; the last one is padded by its last."""
        size = self.size
        return [
            np.minimum(np.arange(first, first + size), count - 1) for first in range(0, count, size)
        ]

    def _join(self, batches: list[TrainState], count: int) -> TrainState:
        """Concatenate the train states of batches, and drop the padding."""
        if len(batches) == 1 and self.size == count:
            return batches[0]
        return self._map(lambda *leaves: jnp.concatenate(leaves)[:count], *batches)

    def _map(self, function: Callable[..., Any], *train_states: TrainState) -> TrainState:
        """Apply a function to the leaves that have an axis of trials."""

        def apply(axis: int | None, *parts: Any) -> Any:
            return parts[0] if axis is None else jax.tree.map(function, *parts)

        return TrainState(*map(apply, self.axes, *train_states))

    # Programs.

    def _advance(
        self, leaves: list[Any], train_states: TrainState, epochs: int, size: int | None = None
    ) -> tuple[TrainState, Measures]:
        task = self.task
        program = self._advance_program(leaves, train_states, size or self.size)
        return program(leaves, train_states, task.data, task.valid, np.int32(epochs))

    def _start_program(self, key: RandomKey, size: int | None = None) -> Any:
        size = size or self.size
        leaves = _take(stack_leaves([self.recipe]), np.zeros(size, int))
        function = self._per_lane(start_on_data, size, (None, None), self.axes)
        return self._compiled("start", size, function, (leaves, key, self.task.data))

    def _advance_program(self, leaves: list[Any], train_states: TrainState, size: int) -> Any:
        task = self.task

        def advance(recipe: Recipe, *arguments: Any) -> Any:
            return _advance_epochs(recipe, *arguments, task.epochs, task.batch_size)

        function = self._per_lane(advance, size, (self.axes, None, None, None), (self.axes, 0))
        arguments = (leaves, train_states, task.data, task.valid, np.int32(0))
        return self._compiled("advance", size, function, arguments)

    def _per_lane(
        self, function: Callable[..., Any], size: int, in_axes: Any, out_axes: Any
    ) -> Callable[..., Any]:
        """Map function(recipe, *arguments) over the leaves of recipes and the stacked arguments."""

        def lane(leaves: list[Any], *arguments: Any) -> Any:
            recipe = jax.tree.unflatten(self._structure, leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = recipe.built
            return function(recipe, *arguments)

        if size == 1:
            return _of_single_lane(lane, (0, *in_axes), out_axes)
        return jax.vmap(lane, (0, *in_axes), out_axes)

    def _compiled(
        self, name: str, size: int, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        """Return the compiled function, shared with searches of recipes of the same structure."""
        task = self.task
        signature = jax.tree.map(_shape_of, arguments)
        leaves, structure = jax.tree.flatten(signature)
        key = ("lanes", name, size, task.epochs, task.batch_size, tuple(leaves), structure)
        return shared(self.recipe, key, lambda: jax.jit(function).lower(*arguments).compile())

    # The number of lanes.

    def _best_size(self, trials: int, stages: Sequence[tuple[int, int]]) -> int:
        """Return the number of lanes that takes the least time for all stages."""
        if trials == 1:
            return 1
        seconds, memory = self._probe(1)
        fitting = max(1, int(free_memory() * MEMORY_SHARE / max(memory, 1)))
        limit = MAX_LANES if jax.default_backend() == "cpu" else MAX_LANES_ELSEWHERE
        size = best_lanes(stages, min(trials, fitting, limit))
        if size == 1:
            return 1
        together, _ = self._probe(size)
        batches = sum(-(-count // size) * epochs for count, epochs in stages)
        singles = sum(count * epochs for count, epochs in stages)
        return size if batches * together < singles * seconds else 1

    def _probe(self, size: int) -> tuple[float, int]:
        """Return the seconds of one epoch of this number of lanes, and the bytes of each."""
        key = jax.random.key(0)
        leaves = _take(stack_leaves([self.recipe]), np.zeros(size, int))
        states = self._start_program(key, size)(leaves, key, self.task.data)
        # No epoch: memory is allocated before the time is measured.
        jax.block_until_ready(self._advance(leaves, states, 0, size))
        before = time.perf_counter()
        jax.block_until_ready(self._advance(leaves, states, 1, size))
        seconds = time.perf_counter() - before
        analysis = self._advance_program(leaves, states, size).memory_analysis()
        used = analysis.temp_size_in_bytes + 2 * analysis.output_size_in_bytes
        return seconds, used // size


def _advance_epochs(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    epochs: Step,
    capacity: int,
    batch_size: int,
) -> tuple[TrainState, Measures]:
    """Train by some number of epochs, which is an argument of the compiled program.

    Returns:
        The train state, and figures (capacity,) by name, of which the first `epochs` are set.
    """

    def epoch(train_state: TrainState) -> tuple[TrainState, Measures]:
        train_state, measured = run_epoch(recipe, train_state, data, batch_size)
        validated = validate(recipe, train_state, valid, batch_size)
        train_state = update_on_validation(recipe, train_state, validated)
        figures = {name: summarize_epoch(name, values) for name, values in measured.items()}
        figures[FINITE] = measured[FINITE].all()
        return train_state, figures | validated

    epoch = until_over(recipe.early_stopping, epoch)

    def body(index: Step, carry: tuple[TrainState, Measures]) -> tuple[TrainState, Measures]:
        train_state, records = carry
        train_state, figures = epoch(train_state)
        written = {name: record.at[index].set(figures[name]) for name, record in records.items()}
        return train_state, written

    shapes = jax.eval_shape(epoch, train_state)[1]
    records = jax.tree.map(lambda one: jnp.zeros((capacity, *one.shape), one.dtype), shapes)
    return jax.lax.fori_loop(0, epochs, body, (train_state, records))


def _of_single_lane(function: Callable[..., Any], in_axes: Any, out_axes: Any) -> Any:
    """Return jax.vmap(function, in_axes, out_axes) for one lane, computed without a map."""

    def first(axis: int | None, tree: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda leaf: leaf[0], tree)

    def expand(axis: int | None, tree: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda leaf: leaf[None], tree)

    def call(*arguments: Any) -> Any:
        results = function(*map_axes(first, in_axes, arguments))
        return map_axes(expand, out_axes, results)

    return call


def map_axes(function: Callable[..., Any], axes: Any, tree: Any) -> Any:
    """Apply function(axis, part) to the parts of a tree, for axes as those of jax.vmap."""
    return jax.tree.map(function, axes, tree, is_leaf=lambda axis: axis is None)


def stack_leaves(recipes: Sequence[Recipe]) -> list[Any]:
    """Return the leaves of recipes of one structure, each with a first axis of recipes."""
    dtype = jnp.result_type(float)

    def array(leaf: Any) -> Any:
        return np.asarray(leaf, dtype) if isinstance(leaf, float) else np.asarray(leaf)

    flat = [list(map(array, jax.tree.leaves(recipe))) for recipe in recipes]
    return [np.stack(leaves) for leaves in zip(*flat, strict=True)]


def _take(leaves: list[Any], indices: np.ndarray) -> list[Any]:
    return [leaf[indices] for leaf in leaves]


def _shape_of(leaf: Any) -> Any:
    return (np.shape(leaf), jnp.result_type(leaf).name)


def free_memory() -> float:
    """Return the free memory of the device in bytes; infinity where it is not known."""
    device = jax.local_devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")
