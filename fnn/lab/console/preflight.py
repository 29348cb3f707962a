"""What a run tells before its first step: what is trained on what, and whether it begins as it should."""

import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey, Schedule, Shape, TrainState
from fnn.values import Made

LOOKED_AT = 1024  # examples, of which the inputs' range is taken
EXCESS = 0.5  # nats above log C, from which the first loss is too large
IMBALANCE = 10  # the largest class over the smallest
ENOUGH = 20  # examples for each class, from which their balance is judged
SAMPLED = 65  # steps of a schedule
SPENT = 1e-3  # of the largest rate: below, nothing is learned
LABEL = 11  # columns


def header(train_state: TrainState, data: Data, valid: Data | None, run: str) -> Iterator[str]:
    """What is trained, by what, on what, for how long and where."""
    params, state, memory = (jax.tree.leaves(tree) for tree in train_state[:3])
    yield told(
        "network",
        f"{_size(params):,} parameters in {len(params)} arrays, {_size(state):,} numbers of state",
    )
    yield told("optimizer", f"{_size(memory):,} numbers of memory")
    validated = "" if valid is None else f"; {jax.tree.leaves(valid)[0].shape[0]:,} to validate by"
    yield told("data", ", ".join(_described(leaf) for leaf in jax.tree.leaves(data[0])) + validated)
    yield told("run", f"{run}; {_seed(train_state.key)}")
    device = jax.devices()[0]
    cores = f" with {os.cpu_count()} cores" if device.platform == "cpu" else ""
    dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in params}))
    yield told("on", f"{device.device_kind}{cores}, {dtypes}; jax {jax.__version__}")


def preflight(
    recipe: Recipe, data: Data, out_shape: Shape, first_loss: float | None, total: int | None = None
) -> Iterator[str]:
    """One line a check, with a tick or a warning: first loss, range of inputs, balance of labels, length of schedules.

    total is the number of steps of the run, None where it is not known.
    """
    inputs, targets = data
    outputs = out_shape[-1] if trees.is_shape(out_shape) and out_shape else None
    if first_loss is not None and outputs and recipe.loss.probabilities:
        yield _loss_tick(first_loss, outputs)
    if hasattr(inputs, "dtype"):
        yield from _range_tick(recipe.prepare(inputs[:LOOKED_AT]))
    is_label = (
        recipe.loss.classes
        and hasattr(targets, "dtype")
        and jnp.issubdtype(targets.dtype, jnp.integer)
    )
    if total is not None:
        yield from _schedule_ticks(recipe, total)
    if outputs and is_label and targets.size >= ENOUGH * outputs:
        yield _balance_tick(np.bincount(np.asarray(targets).ravel(), minlength=outputs))


def _schedule_ticks(recipe: Recipe, total: int) -> Iterator[str]:
    """A warning for a schedule that is as good as 0 before the run ends, or does not come to its end."""
    for schedule in _schedules(recipe.optimizer):
        if schedule.steps is None or not checks.is_concrete(schedule.steps):
            continue
        end = int(schedule.steps)
        if end > total:
            found = f"the run ends at step {total:,} of a schedule of {end:,} steps"
            yield told("!!", f"{found}: give it steps={total}, or train longer")
        elif 0 < end < total - 1 and _is_spent(schedule, end):
            found = f"the schedule's rate is 0 from step {end:,} of {total:,} on"
            yield told("!!", f"{found}: give it steps={total}")


def _schedules(value: Any) -> Iterator[Schedule]:
    """The schedules that a made value was given, the outermost ones."""
    if isinstance(value, Schedule):
        yield value
    elif isinstance(value, Made):
        for child in value.children:
            yield from _schedules(child)


def _is_spent(schedule: Schedule, end: int) -> bool:
    """Whether the last rate is nothing beside the largest."""
    steps = jnp.linspace(0, end, SAMPLED).astype(jnp.int32)
    rates = jax.vmap(schedule)(steps)
    return bool(rates[-1] <= SPENT * rates.max())


def _loss_tick(loss: float, classes: int) -> str:
    found = f"loss before training {loss:.2f} (log {classes} = {math.log(classes):.2f})"
    if loss > math.log(classes) + EXCESS:
        return told(
            "!!", f"{found}: sure of wrong classes; begin with a smaller last layer, as by nn.lsuv"
        )
    return told("ok", found)


def _range_tick(inputs: jax.Array) -> Iterator[str]:
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        low, high, mean, spread = _statistics(inputs).tolist()
        found = f"inputs in [{low:.3g}, {high:.3g}], mean {mean:.2g}, deviation {spread:.2g}"
        is_small = max(abs(low), abs(high)) <= 1.5 or (abs(mean) <= 0.5 and 0.5 <= spread <= 2)
        yield (
            told("ok", found)
            if is_small
            else told("!!", f"{found}: scale them first, as by data.standardize")
        )


@jax.jit
def _statistics(inputs: jax.Array) -> jax.Array:
    """Least, largest, mean and standard deviation."""
    x = inputs.astype(jnp.float32)
    return jnp.stack([x.min(), x.max(), x.mean(), x.std()])


def _balance_tick(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    found = f"labels of {len(counts)} classes, {low:,} to {high:,} examples each"
    if high > IMBALANCE * low:
        return told(
            "!!", f"{found}: weigh them, as by objective.class_weighted; accuracy will flatter"
        )
    return told("ok", found)


def _described(leaf: Any) -> str:
    return f"{leaf.shape[0]:,} inputs {leaf.dtype}[{','.join(map(str, leaf.shape[1:]))}]"


def _size(leaves: list[Any]) -> int:
    return sum(leaf.size for leaf in leaves)


def _seed(key: RandomKey) -> str:
    """The number that jax.random.key was given, where that can be told."""
    *high, low = (int(word) for word in np.asarray(jax.random.key_data(key)).ravel())
    return f"seed {low}" if not any(high) else f"key {' '.join(map(str, [*high, low]))}"


def told(label: str, what: str) -> str:
    """A line of the report, with its label in a column of its own."""
    return label.ljust(LABEL) + what
