"""Lanes: many runs of recipes that differ in numbers alone, as one compiled program.

The program trains a batch of trials by one epoch. Hence any number of trials, cut into batches of
one size, any number of epochs, and runs that continue where they stopped share one compilation. A
loop over epochs within the program took half as long again on CPU.

All trials of a search have the same key, so they begin at the same draws and see the same examples
in the same order. This removes a part of the noise from comparisons (common random numbers). It is
also faster: the order and the batches are computed once for all lanes. Members of an ensemble have
keys of their own.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
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
from fnn.types import Data, RandomKey, TrainState

MEMORY_SHARE = 0.5  # of the free memory that a program may use
MAX_LANES = 64  # on CPU; with more of them the time per trial hardly falls
MAX_LANES_ELSEWHERE = 1024
SEQUENCE = 8  # trials of one call, where they are trained one after another


# (batch_size, recipe, train_state, data, valid) -> (train_state, figures of the epoch)
Epoch = Callable[[int, Recipe, TrainState, Data, Data | None], tuple[TrainState, Measures]]


class Task(NamedTuple):
    """The arguments of runs that all trials have in common.

    Attributes:
        data: Validated (inputs, targets).
        valid: Validated (inputs, targets), or None.
        epochs: Passes over the data of a whole run.
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
    key that all trials have in common, and for the step where all trials are at the same one.

    Attributes:
        recipe: One of the recipes.
        task: The data and the length of the runs.
        size: Number of trials of one call.
        is_mapped: Whether the trials of a call are trained together, by jax.vmap, or one after
            another.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        trials: int,
        lanes: int | str = "auto",
        stages: Sequence[tuple[int, int]] = (),
        *,
        own_keys: bool = False,
        epoch: Epoch | None = None,
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
            own_keys: Whether each trial has a key of its own.
            epoch: The function that trains an epoch; by default `train_epoch`.
        """
        self.recipe = recipe
        self.task = task
        self._epoch = epoch or train_epoch
        self._key_axis = 0 if own_keys else None
        self._structure = jax.tree.structure(recipe)
        # With early stopping some trials end before others.
        step_axis = 0 if recipe.early_stopping is not None else None
        self.axes = TrainState(0, 0, 0, step_axis, self._key_axis, 0)  # type: ignore[arg-type]
        if lanes == "auto":
            # Measured once: a later search of the same structure and shapes has the same lanes.
            examples = jax.tree.map(_shape_of, (task.data, task.valid))
            shapes, structure = jax.tree.flatten(examples)
            options = (trials, tuple(stages), task.batch_size, own_keys, self._epoch)
            key = ("width", options, tuple(shapes), structure)
            width = shared(recipe, key, lambda: self._best_width(trials, stages or [(trials, 1)]))
        else:
            width = checks.whole("lanes", lanes)
        self.is_mapped = width > 1
        self.size = min(width if self.is_mapped else SEQUENCE, trials)

    def start(
        self,
        key: RandomKey,
        recipes: Sequence[Recipe],
    ) -> TrainState:
        """Return the train states of n recipes before the first step.

        Args:
            key: The key of all runs, from `jax.random.key`; or their keys (n,).
            recipes: Of the structure of `recipe`.
        """
        # (n, ...) each.
        leaves = stack_leaves(recipes)
        started = []
        for indices in self._batches(len(recipes)):
            own_key = key if self._key_axis is None else key[indices]
            program = self._start_program(own_key)
            started.append(program(_take(leaves, indices), own_key, self.task.data))
        return self._join(started, len(recipes))

    def advance(
        self, recipes: Sequence[Recipe], train_states: TrainState, epochs: int
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Train n trials by some number of epochs.

        Args:
            recipes: Of the structure of `recipe`.
            train_states: Of these recipes, stacked, from `start` or an earlier call.
            epochs: Number of further epochs, >= 1.

        Returns:
            The train states, and the figures by name, (n, epochs, ...), of the function that trains
            an epoch. Those of `train_epoch` are means over its steps, `finite` for all its steps,
            and those of validation.
        """
        leaves = stack_leaves(recipes)
        parts = []
        rows = []
        for indices in self._batches(len(recipes)):
            is_all = len(recipes) == self.size
            states = train_states if is_all else self.take(train_states, indices)
            program, (batch, _, *shared_data) = self._epoch_program(_take(leaves, indices), states)
            figures = []
            for _ in range(epochs):
                states, epoch = program(batch, states, *shared_data)
                figures.append(epoch)
            parts.append(states)
            rows.append({name: np.stack([e[name] for e in figures], 1) for name in figures[0]})
        columns = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
        # Without the padding of the last batch.
        cut = {name: column[: len(recipes)] for name, column in columns.items()}
        return self._join(parts, len(recipes)), self.recipe.in_order(cut) | cut

    def finish(self, train_states: TrainState) -> TrainState:
        """Return the train states that finished runs return: the last or the best ones."""
        if self.recipe.early_stopping is None:
            return train_states

        def finish(train_state: TrainState) -> TrainState:
            return finish_run(self.recipe, train_state)

        return jax.vmap(finish, (self.axes,), self.axes)(train_states)

    def take(
        self,
        train_states: TrainState,
        indices: Any,
    ) -> TrainState:
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

    def _join(
        self,
        batches: list[TrainState],
        count: int,
    ) -> TrainState:
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

    def _start_program(self, key: RandomKey) -> Any:
        function = self._per_trial(start_on_data, (self._key_axis, None), self.axes)
        return self._compiled("start", function, (self._example_leaves(), key, self.task.data))

    def _epoch_program(
        self, leaves: list[Any], train_states: TrainState
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return the program of one epoch, and its arguments."""
        task = self.task
        epoch = partial(self._epoch, task.batch_size)
        function = self._per_trial(epoch, (self.axes, None, None), (self.axes, 0))
        arguments = (leaves, train_states, task.data, task.valid)
        return self._compiled("epoch", function, arguments), arguments

    def _example_leaves(self) -> list[Any]:
        """Return the leaves of a batch of trials that are all equal."""
        return _take(stack_leaves([self.recipe]), np.zeros(self.size, int))

    def _per_trial(
        self, function: Callable[..., Any], in_axes: Any, out_axes: Any
    ) -> Callable[..., Any]:
        """Map function(recipe, *arguments) over the leaves of recipes and the stacked arguments."""

        def trial(leaves: list[Any], *arguments: Any) -> Any:
            recipe = jax.tree.unflatten(self._structure, leaves)
            # A part that is first built within a loop would hold tracers of that loop.
            _ = recipe.built
            return function(recipe, *arguments)

        mapped = jax.vmap if self.is_mapped else sequential_map
        return mapped(trial, (0, *in_axes), out_axes)

    def _compiled(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> Any:
        """Return the compiled function, shared with searches of recipes of the same structure."""
        leaves, structure = jax.tree.flatten(jax.tree.map(_shape_of, arguments))
        own_keys = self._key_axis is not None
        options = (self.size, self.is_mapped, self.task.batch_size, own_keys, self._epoch)
        key = ("lanes", name, options, tuple(leaves), structure)
        return shared(self.recipe, key, lambda: jax.jit(function).lower(*arguments).compile())

    # The number of lanes.

    def _best_width(
        self,
        trials: int,
        stages: Sequence[tuple[int, int]],
    ) -> int:
        """Return the number of trials to train together, which takes the least time per trial."""
        if trials == 1:
            return 1
        alone, memory = self._of_width(trials, 1).measure()
        fitting = max(1, int(free_memory() * MEMORY_SHARE / max(memory, 1)))
        limit = MAX_LANES if jax.default_backend() == "cpu" else MAX_LANES_ELSEWHERE
        width = best_lanes(stages, min(trials, fitting, limit))
        if width == 1:
            return 1
        # Measured, since lanes of large convolutions are slower than single runs.
        together, _ = self._of_width(trials, width).measure()
        # The last batch of a stage is padded.
        padded = sum(-(-count // width) * width * epochs for count, epochs in stages)
        exact = sum(count * epochs for count, epochs in stages)
        return width if padded * together < exact * alone else 1

    def _of_width(self, trials: int, width: int) -> "Lanes":
        own_keys = self._key_axis is not None
        return Lanes(self.recipe, self.task, trials, width, own_keys=own_keys, epoch=self._epoch)

    def measure(self) -> tuple[float, int]:
        """Return the seconds of an epoch of one trial, and the bytes of memory of one."""
        leaves = self._example_leaves()
        key = jax.random.key(0)
        if self._key_axis is not None:
            key = jax.random.split(key, self.size)
        states = self._start_program(key)(leaves, key, self.task.data)
        program, arguments = self._epoch_program(leaves, states)
        # The first call allocates memory.
        jax.block_until_ready(program(*arguments))
        seconds = seconds_of(lambda: program(*arguments))
        analysis = program.memory_analysis()
        # Trials one after another share the memory of temporary values.
        lanes = self.size if self.is_mapped else 1
        used = analysis.temp_size_in_bytes / lanes + 2 * analysis.output_size_in_bytes / self.size
        return seconds / self.size, int(used)


def train_epoch(
    batch_size: int,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
) -> tuple[TrainState, Measures]:
    """Train by one epoch; return the train state and the figures of the epoch."""

    def train(train_state: TrainState) -> tuple[TrainState, Measures]:
        train_state, measured = run_epoch(recipe, train_state, data, batch_size, None, None)
        validated = validate(recipe, train_state, valid, batch_size)
        train_state = update_on_validation(recipe, train_state, validated)
        figures = {name: summarize_epoch(name, values) for name, values in measured.items()}
        figures[FINITE] = measured[FINITE].all()
        return train_state, figures | validated

    return until_over(recipe.early_stopping, train)(train_state)


def sequential_map(
    function: Callable[..., Any],
    in_axes: Any,
    out_axes: Any,
) -> Any:
    """Return jax.vmap(function, in_axes, out_axes), computed for one index after another.

    Args:
        function: Of several arguments.
        in_axes: 0 or None for the parts of the arguments.
        out_axes: 0 or None for the parts of the results.
    """

    def split(axis: int | None, part: Any) -> Any:
        return part if axis == 0 else ()

    def call(*arguments: Any) -> Any:
        def one(mapped: Any) -> Any:
            # The parts without an axis are taken from outside of the loop.
            given = _map_axes(
                lambda axis, part, whole: part if axis == 0 else whole, in_axes, mapped, arguments
            )
            return function(*given)

        results = jax.lax.map(one, _map_axes(split, in_axes, arguments))
        # All trials have the same value of a part without an axis.
        return _map_axes(
            lambda axis, part: part if axis == 0 else jax.tree.map(lambda leaf: leaf[0], part),
            out_axes,
            results,
        )

    return call


def _map_axes(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """Apply function(axis, *parts) to the parts of trees that have the axes of jax.vmap."""
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)


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


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the seconds in which a call computes its arrays."""
    before = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - before


def free_memory() -> float:
    """Return the free memory of the device in bytes; infinity where it is not known."""
    device = jax.local_devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")
