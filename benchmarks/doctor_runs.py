"""Runs of the benchmark of the doctor: the keys of a cell are lanes of one compiled program."""

import hashlib
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from doctor_cases import NETWORKS, Setup

from fnn import train
from fnn.types import History, Result

LANES = 5
PARTS = 20  # of a run, each 5 % of the budget
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)  # of the budget, at which a run is examined


class Cell(NamedTuple):
    """The runs of a setup, one per key.

    Attributes:
        name: Such as "high_rate/mlp/digits".
        setup: The setup.
        recipe: Of all lanes.
        states: Train states by the share of the budget, with a lane axis; "0" is the start.
        history: Figures with a lane axis.
        parts: Number of parts in which the run was made.
        figures: Error and loss of each lane on the test set, (lanes, 2).
    """

    name: str
    setup: Setup
    recipe: train.Recipe
    states: dict[float, Any]
    history: History
    parts: int
    figures: np.ndarray

    def result(self, lane: int, share: float = 1.0) -> Result:
        """Return the result of a lane, as a run of this share of the budget has it.

        Args:
            lane: Number of the key.
            share: One of SHARES.
        """
        train_state = jax.tree.map(lambda leaf: leaf[lane], self.states[share])
        cut = {}
        for name, values in self.history.items():
            # Steps or epochs of this share: the arrays of both divide into the parts.
            count = len(values[lane]) * part_of(share, self.parts) // self.parts
            cut[name] = values[lane][:count]
        return Result(train_state, History(cut))


def part_of(share: float, parts: int) -> int:
    """The part of a run at whose end this share of the budget is spent."""
    return max(1, int(np.ceil(share * parts - 1e-9)))


def is_held_out(name: str) -> bool:
    """Return whether a cell is scored; the others are for calibration.

    Cells of the first data set of each network are for calibration, and of the others those whose
    name has a SHA-256 that begins with a byte below 64. Thresholds and rules were changed by these
    alone.

    Args:
        name: Such as "high_rate/mlp/digits".
    """
    _, network, data = name.split("/")
    if data == NETWORKS[network][0]:
        return False
    return hashlib.sha256(name.encode()).digest()[0] >= 64


@partial(jax.jit, static_argnames="shape")
def _begin(recipe: train.Recipe, keys: Any, shape: tuple[int, ...]) -> Any:
    return jax.vmap(lambda key: train.start(key, recipe, shape))(keys)


@partial(jax.jit, static_argnames=("batch_size", "epochs"))
def _advance(
    recipe: train.Recipe,
    states: Any,
    data: Any,
    valid: Any,
    batch_size: int,
    epochs: int,
) -> Result:
    def one(state: Any) -> Result:
        return train.run(
            state.key,
            recipe,
            data,
            epochs=epochs,
            batch_size=batch_size,
            valid=valid,
            resume=state,
        )

    return jax.vmap(one)(states)


@jax.jit
def _predict(recipe: train.Recipe, states: Any, inputs: Any) -> Any:
    return jax.vmap(lambda state: train.predict(recipe, state, inputs))(states)


def run_cell(name: str, setup: Setup, lanes: int = LANES, **options: Any) -> Cell:
    """Train a setup with several keys.

    Args:
        name: Name of the cell, from which the keys follow.
        setup: The setup.
        lanes: Number of keys.
        options: Further options of the recipe.
    """
    recipe = setup.recipe(**options)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[1:4], "big")
    keys = jax.random.split(jax.random.key(seed), lanes)
    train_set, valid, test = setup.split
    states = _begin(recipe, keys, train_set[0].shape[1:])
    kept = {0.0: states}
    parts = min(PARTS, setup.epochs)
    histories = []
    for part in range(1, parts + 1):
        states, history = _advance(
            recipe,
            states,
            train_set,
            valid,
            setup.batch_size,
            setup.epochs // parts,
        )
        histories.append(jax.device_get(history))
        for share in SHARES:
            if part == part_of(share, parts):
                kept[share] = states
    joined = History(jax.tree.map(lambda *each: np.concatenate(each, 1), *map(dict, histories)))
    outputs = np.asarray(_predict(recipe, states, test[0]))
    figures = np.array([setup.figures(each) for each in outputs])
    return Cell(name, setup, recipe, kept, joined, parts, figures)
