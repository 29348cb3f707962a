"""Lanes: many runs of recipes that differ in numbers alone, as one compiled program.

The program trains a batch of trials by one epoch. Hence any number of trials, cut into batches of
one size, any number of epochs, and runs that continue where they stopped share one compilation. A
loop over epochs within the program took half as long again on CPU.

All trials of a search have the same key, so they begin at the same draws and see the same examples
in the same order. This removes a part of the noise from comparisons (common random numbers). It is
also faster: the order and the batches are computed once for all lanes. Members of an ensemble have
keys of their own.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fnn import checks
from fnn.search.lane_devices import count_devices, expect_mesh, place
from fnn.search.lane_map import (
    LaneProgram,
    batch_size_of,
    batches,
    best_width,
    signature,
    stack_leaves,
    take,
)
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

# (batch_size, recipe, train_state, data, valid) -> (train_state, figures of the epoch)
Epoch = Callable[[int, Recipe, TrainState, Data, Data | None], tuple[TrainState, Measures]]


class Task(NamedTuple):
    """The arguments of runs that all trials have in common.

    Attributes:
        data: Validated (inputs, targets).
        valid: Validated (inputs, targets), or None.
        epochs: Passes over the data of a whole run.
        batch_size: Examples per step.
        mesh: The devices over which trials are divided; None for the default device.
    """

    data: Data
    valid: Data | None
    epochs: int
    batch_size: int
    mesh: Mesh | None = None


def prepare_task(
    recipes: Sequence[Recipe],
    data: Data,
    valid: Data | None,
    *,
    epochs: int,
    batch_size: int,
    mesh: Any = None,
) -> Task:
    """Return the task of these arguments; raise an FnnError if they do not fit the recipes.

    Args:
        recipes: One recipe of each structure.
        data: (inputs, targets), arrays whose first axis is the example.
        valid: The same for validation, or None.
        epochs: Passes over the data, >= 1.
        batch_size: Examples per step.
        mesh: The devices over which trials are divided, or None.
    """
    checks.whole("epochs", epochs)
    mesh = expect_mesh("mesh", mesh)
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    # It raises if the data does not fill a batch.
    steps_per_epoch(data, batch_size)
    for recipe in recipes:
        expect_recipe("search", recipe)
        validate_fit(recipe, data, valid)
    return Task(data, valid, epochs, batch_size, mesh)


class Lanes:
    """The runs of recipes of one structure, some number of them at a time.

    Train states of n trials are stacked: their leaves have a first axis of size n, except for the
    key that all trials have in common, and for the step where all trials are at the same one.

    Attributes:
        recipe: One of the recipes.
        task: The data and the length of the runs.
        width: Number of trials that a device trains at a time, 1 for one after another.
        size: Number of trials of one call, on all devices.
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
            lanes: A number for each device; or "auto" for as many as fit into memory, or one after
                another where a measurement of one epoch says that this is faster.
            stages: (trials, epochs) of each part of the runs, where trials are stopped between
                parts; by default all trials are trained to the end.
            own_keys: Whether each trial has a key of its own.
            epoch: The function that trains an epoch; by default `train_epoch`.
        """
        self.recipe = recipe
        # All devices have the data, from here to the end.
        data, valid = place(task.mesh, None, (task.data, task.valid))
        self.task = task = task._replace(data=data, valid=valid)
        self._devices = count_devices(task.mesh)
        stages = stages or [(trials, 1)]
        # Of each device.
        self._stages = [(-(-count // self._devices), length) for count, length in stages]
        self._key_axis = 0 if own_keys else None
        # With early stopping some trials end before others.
        step_axis = 0 if recipe.early_stopping is not None else None
        # An axis for each field of a train state, as jax.vmap takes them.
        axes = cast(Any, TrainState)(0, 0, 0, step_axis, self._key_axis, 0)
        self.axes = axes
        train = epoch or train_epoch
        # All that decides which program it is, apart from the recipe and the shapes.
        name = (task.batch_size, own_keys, train)
        self._start = LaneProgram(
            ("start", name), start_on_data, recipe, self._key_axis, axes, task.mesh
        )

        def train_on(recipe: Recipe, train_state: TrainState, common: Any) -> Any:
            return train(task.batch_size, recipe, train_state, *common)

        self._epoch = LaneProgram(("epoch", name), train_on, recipe, axes, (axes, 0), task.mesh)
        if lanes == "auto":
            # Measured once: a later search of the same structure and shapes has the same lanes.
            common = task.mesh, signature((task.data, task.valid))
            key = ("width", name, tuple(self._stages), *common)
            width = shared(recipe, key, lambda: best_width(self._stages, self.measure, task.mesh))
        else:
            width = checks.whole("lanes", lanes)
        # A single lane is not mapped, so that a resumed search of this width has the same program.
        self.width = min(width, max(count for count, _ in self._stages))
        self.is_mapped = self.width > 1
        self.size = batch_size_of(self.width, self._stages) * self._devices

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
        for indices in batches(len(recipes), self.size):
            own_key = key if self._key_axis is None else key[indices]
            part = self._start.place(take(leaves, indices), own_key, self.task.data)
            program = self._start.compiled(*part, is_mapped=self.is_mapped)
            started.append(self._start.gather(program(*part)))
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
        common = self.task.data, self.task.valid
        for indices in batches(len(recipes), self.size):
            # If all trials are one batch, their train states are not copied.
            is_all = len(recipes) == self.size
            states = train_states if is_all else self.take(train_states, indices)
            batch, states, common = self._epoch.place(take(leaves, indices), states, common)
            program = self._epoch.compiled(batch, states, common, is_mapped=self.is_mapped)
            figures = []
            # A loop on the host, for the reason at the head of this file.
            for _ in range(epochs):
                states, epoch = program(batch, states, common)
                figures.append(epoch)
            parts.append(self._epoch.gather(states))
            # epochs of (lanes, ...) -> (lanes, epochs, ...)
            rows.append({name: np.stack([e[name] for e in figures], 1) for name in figures[0]})
        columns = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
        # Without the padding of the last batch.
        cut = {name: column[: len(recipes)] for name, column in columns.items()}
        # Figures of training come first, as in the history of a run.
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
        return self._map(partial(_take, indices=indices), train_states)

    def _join(
        self,
        batches: list[TrainState],
        count: int,
    ) -> TrainState:
        """Concatenate the train states of batches, and drop the padding."""
        if len(batches) == 1 and self.size == count:
            return batches[0]

        def join(*parts: Any) -> Any:
            return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *parts)

        return self._map(join, *batches)

    def _map(self, function: Callable[..., Any], *train_states: TrainState) -> TrainState:
        """Apply a function to the parts of train states that have an axis of trials."""

        def apply(axis: int | None, *parts: Any) -> Any:
            # Without an axis, all train states have the same part.
            return parts[0] if axis is None else function(*parts)

        return TrainState(*map(apply, self.axes, *train_states))

    def measure(self, width: int) -> tuple[float, float]:
        """Return the seconds of an epoch of one trial, and the bytes of memory of one.

        Args:
            width: Number of trials at a time.
        """
        size = batch_size_of(width, self._stages)
        count = size * self._devices
        leaves = stack_leaves([self.recipe] * count)
        # Time does not depend on the value of the key.
        key = jax.random.key(0)
        if self._key_axis is not None:
            key = jax.random.split(key, count)
        first = self._start.place(leaves, key, self.task.data)
        states = self._start.compiled(*first, is_mapped=width > 1)(*first)
        common = self.task.data, self.task.valid
        return self._epoch.measure(leaves, states, common, size=size, is_mapped=width > 1)


@jax.jit
def _take(tree: Any, indices: Any) -> Any:
    """Return the rows of these indices of each leaf; one call in place of one for each leaf."""
    return jax.tree.map(lambda leaf: leaf[indices], tree)


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
        # The arrays of instruments, NaN at most steps, are for single runs.
        names = [name for name in measured if name not in recipe.instrument_names]
        figures = {name: summarize_epoch(name, measured[name]) for name in names}
        # One step that is not finite marks the whole epoch.
        figures[FINITE] = measured[FINITE].all()
        return train_state, figures | validated

    return until_over(recipe.early_stopping, train)(train_state)
