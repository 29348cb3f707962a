"""The train states of the trials of halving, which wait on the host between rungs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from fnn.search.brackets import Stage
from fnn.search.description import state_shapes
from fnn.search.execution import seed_key, train_lanes
from fnn.search.lanes import Lanes, Task
from fnn.search.monitor import Monitor
from fnn.search.options import Settings
from fnn.train.recipe import Recipe
from fnn.train.step import steps_per_epoch
from fnn.types import RandomKey, TrainState


class Part(NamedTuple):
    """Trials that were trained together by some epochs.

    Attributes:
        indices: Of the trials, (k,).
        figures: By name, (k, seeds, epochs, ...).
        epochs: Number of epochs of the weights that each run would return, (k, seeds).
    """

    indices: np.ndarray
    figures: dict[str, np.ndarray]
    epochs: np.ndarray


class Pool:
    """The trials of one structure and their train states.

    The device holds one batch at a time. Any trials at the same epoch fill it, so its shape is
    constant. The host gathers them, since a compiled gather would depend on their number.

    Attributes:
        indices: The indices of the trials.
        keep: Number of the best trials of the search whose train states are kept.
    """

    def __init__(
        self,
        key: RandomKey,
        recipes: Sequence[Recipe],
        indices: np.ndarray,
        task: Task,
        settings: Settings,
        width: int | str,
        stages: Sequence[tuple[int, int]],
    ):
        self.indices = indices
        self.keep = settings.keep
        self._keys = [seed_key(key, seed) for seed in range(settings.seeds)]
        self._recipes = recipes
        # The first stage has all trials, and no later one has more.
        self._lanes = Lanes(
            recipes[0],
            task,
            len(indices),
            width,
            stages,
        )
        self._epoch_length = steps_per_epoch(task.data, task.batch_size)
        # Of each seed: the train states with arrays of NumPy, stacked.
        self._states: list[TrainState | None] = [None] * settings.seeds

    @property
    def width(self) -> int:
        """The number of trials that a device trains together."""
        return self._lanes.width

    def batches(self, is_alive: np.ndarray) -> Iterator[np.ndarray]:
        """Iterate over the batches of trials to train, as places in this pool.

        Args:
            is_alive: Whether each trial of the search is trained, (trials,).
        """
        alive = np.flatnonzero(is_alive[self.indices])
        size = self._lanes.size
        yield from (alive[begin : begin + size] for begin in range(0, len(alive), size))

    def train(
        self,
        places: np.ndarray,
        stage: Stage,
        monitor: Monitor | None,
    ) -> Part | None:
        """Train a batch to the end of a stage; None if the monitor has stopped the search.

        Args:
            places: Of the trials in this pool, all at the beginning of the stage.
            stage: The stage.
            monitor: The monitor, or None.
        """
        lanes = self._lanes
        count = len(places)
        # Repetitions of the last trial fill the last batch.
        padded = np.pad(places, (0, lanes.size - count), mode="edge")
        recipes = [self._recipes[place] for place in padded]
        # A stage that begins at epoch 0 is as long as its level.
        is_first = stage.epochs == stage.level
        # Of each seed.
        trained, rows, epochs = [], [], []
        for seed, key in enumerate(self._keys):
            states = lanes.start(key, recipes) if is_first else self._take(seed, padded)
            result = train_lanes(
                lanes,
                recipes,
                states,
                stage.epochs,
                monitor,
            )
            if result is None:
                return None
            states, figures = result
            # With early stopping, the steps of the weights that a trial would return.
            steps = np.asarray(lanes.finish(states).step)
            # All lanes have one step, unless early stopping has ended some of them.
            epochs.append(np.broadcast_to(steps // self._epoch_length, lanes.size)[:count])
            trained.append(states)
            rows.append({name: values[:count] for name, values in figures.items()})
        # Of all seeds together, so that a search that is stopped has all of them or none.
        for seed, states in enumerate(trained):
            self._put(seed, places, states)
        # seeds of (k, epochs, ...) -> (k, seeds, epochs, ...)
        joined = {name: np.stack([one[name] for one in rows], 1) for name in rows[0]}
        return Part(self.indices[places], joined, np.stack(epochs, 1))

    def states_of(self, index: int) -> tuple[TrainState, ...]:
        """Return the finished train states of a trial, one for each seed."""
        # A place in this pool is not the index in the search.
        place = int(np.flatnonzero(self.indices == index)[0])
        finished = []
        for seed in range(len(self._keys)):
            # Finished as a stack of one trial.
            states = self._lanes.finish(self._take(seed, np.array([place])))
            state = self._lanes.take(states, 0)
            # On the device, as the train states of other searches are.
            finished.append(jax.tree.map(jax.numpy.asarray, state))
        return tuple(finished)

    def rows(self, places: np.ndarray) -> list[TrainState]:
        """Return the stored train states of some trials for each seed, without key."""
        if not places.size:
            return []
        return [jax.tree.map(lambda leaf: leaf[places], states) for states in self._states]

    def empty_rows(self, count: int) -> list[TrainState]:
        """Return arrays of the shapes and dtypes of `rows` of a number of trials."""
        if not count:
            return []
        shapes = state_shapes(self._recipes[0], self._lanes.task)
        keyless = cast(Any, shapes)._replace(key=None)
        empty = jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype), keyless)
        return [empty] * len(self._keys)

    def put_rows(self, places: np.ndarray, rows: list[TrainState]) -> None:
        """Store the train states of some trials for each seed."""
        for seed, states in enumerate(rows):
            self._store(seed, places, states)

    def _take(
        self,
        seed: int,
        places: np.ndarray,
    ) -> TrainState:
        """Return the stacked train states of trials, with one step where all have the same."""
        stored = self._states[seed]
        assert stored is not None
        # The store has no key.
        taken = jax.tree.map(lambda leaf: leaf[places], stored)._replace(key=self._keys[seed])
        if self._lanes.axes.step is None:
            # Trials of a batch are at the same epoch, hence at the same step.
            return taken._replace(step=taken.step[0])
        return taken

    def _put(
        self,
        seed: int,
        places: np.ndarray,
        states: TrainState,
    ) -> None:
        """Store the train states of a batch; those beyond the number of places are padding."""
        # In the store each trial has its own step, since trials wait at different epochs.
        steps = np.broadcast_to(np.asarray(states.step), self._lanes.size)
        # The key is that of the seed.
        stepped = cast(Any, states)._replace(step=steps, key=None)
        self._store(seed, places, stepped)

    def _store(
        self,
        seed: int,
        places: np.ndarray,
        states: TrainState,
    ) -> None:
        stored = self._states[seed]
        if stored is None:
            count = len(self.indices)

            # Space for all trials of the pool, also for those of later batches.
            def allocate(leaf: Any) -> np.ndarray:
                return np.zeros((count, *leaf.shape[1:]), leaf.dtype)

            stored = jax.tree.map(allocate, states)
            self._states[seed] = stored

        # In place, so that the store is allocated once.
        def put(old: np.ndarray, leaf: Any) -> None:
            old[places] = np.asarray(leaf)[: len(places)]

        jax.tree.map(put, stored, states)
