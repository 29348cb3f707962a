"""Header of a run, and checks of its data, first loss and schedules before the first step."""

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

RANGE_EXAMPLES = 1024  # examples of which the range of the inputs is computed
LOSS_EXCESS = 0.5  # nats above log(classes) from which the first loss gets a warning
IMBALANCE = 10  # ratio of the largest class to the smallest from which labels get a warning
EXAMPLES_PER_CLASS = 20  # fewer are too few to judge the balance of labels
SCHEDULE_SAMPLES = 65  # steps at which a schedule is evaluated
NEGLIGIBLE = 1e-3  # rates below this share of the largest rate train nothing
LABEL_WIDTH = 11  # columns


def header(train_state: TrainState, data: Data, valid: Data | None, run: str) -> Iterator[str]:
    """Yield lines on the network, the optimizer, the data, the run and the device.

    Args:
        train_state: The train state before the first step.
        data: The training data, (inputs, targets).
        valid: The validation data, or None.
        run: Description of the run, such as its numbers of epochs and steps.
    """
    params = jax.tree.leaves(train_state.params)
    arrays = f"{_count_numbers(params):,} parameters in {len(params)} arrays"
    state = f"{_count_numbers(train_state.state):,} numbers of state"
    yield format_line("network", f"{arrays}, {state}")
    memory = f"{_count_numbers(train_state.opt_state):,} numbers of state"
    yield format_line("optimizer", memory)
    yield format_line("data", _describe_data(data, valid))
    yield format_line("run", f"{run}; {_describe_key(train_state.key)}")
    dtypes = sorted({str(leaf.dtype) for leaf in params})
    names = ", ".join(dtypes)
    yield format_line("on", f"{_describe_device()}, {names}; jax {jax.__version__}")


def preflight(
    recipe: Recipe,
    data: Data,
    out_shape: Shape,
    first_loss: float | None,
    total: int | None = None,
) -> Iterator[str]:
    """Yield one line per check, labeled "ok" or "!!" for a warning.

    The checks are of the first loss, the range of the inputs, the length of schedules and the
    balance of labels.

    Args:
        recipe: From `train.recipe`.
        data: The training data, (inputs, targets).
        out_shape: Shape of one output of the network.
        first_loss: Loss before training, or None where it is not known.
        total: Number of steps of the run, or None where it is not known.
    """
    inputs, targets = data
    is_array = trees.is_shape(out_shape) and len(out_shape) > 0
    classes = out_shape[-1] if is_array else None
    if first_loss is not None and classes and recipe.loss.probabilities:
        yield _check_loss(first_loss, classes)
    # Inputs and outputs may be pytrees: then there is no single range, and no number of classes.
    if hasattr(inputs, "dtype"):
        yield from _check_range(recipe.prepare(inputs[:RANGE_EXAMPLES]))
    if total is not None:
        yield from _check_schedules(recipe, total)
    if classes and _are_labels(recipe, targets) and len(targets) >= EXAMPLES_PER_CLASS * classes:
        labels = np.asarray(targets)
        counts = np.bincount(labels, minlength=classes)
        yield _check_balance(counts)


def format_line(label: str, text: str) -> str:
    """Format a line of the report: the label in a column of fixed width, then the text."""
    return label.ljust(LABEL_WIDTH) + text


def _are_labels(recipe: Recipe, targets: Any) -> bool:
    """Return whether the targets are one label for each example."""
    if not (recipe.loss.classes and hasattr(targets, "dtype")):
        return False
    # Labels of the positions of a text or an image are of other frequencies by nature: weights
    # would change the probabilities that a language model learns.
    if targets.ndim > 1:
        return False
    return bool(jnp.issubdtype(targets.dtype, jnp.integer))


def _check_loss(loss: float, classes: int) -> str:
    # A network without knowledge gives each class the same probability: its loss is log(classes).
    uniform_loss = math.log(classes)
    found = f"loss before training {loss:.2f} (log {classes} = {uniform_loss:.2f})"
    if loss <= uniform_loss + LOSS_EXCESS:
        return format_line("ok", found)
    return format_line(
        "!!",
        f"{found}: sure of wrong classes; begin with a smaller last layer, as by nn.lsuv",
    )


def _check_range(inputs: jax.Array) -> Iterator[str]:
    """Yield a line on the range of prepared inputs, if they are floats."""
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        return
    # One transfer from the device for all four numbers.
    low, high, mean, deviation = _statistics(inputs).tolist()
    found = f"inputs in [{low:.3g}, {high:.3g}], mean {mean:.2g}, deviation {deviation:.2g}"
    is_small = max(abs(low), abs(high)) <= 1.5
    is_standardized = abs(mean) <= 0.5 and 0.5 <= deviation <= 2
    if is_small or is_standardized:
        yield format_line("ok", found)
    else:
        yield format_line("!!", f"{found}: scale them first, as by data.standardize")


@jax.jit
def _statistics(inputs: jax.Array) -> jax.Array:
    """Compute minimum, maximum, mean and standard deviation."""
    x = inputs.astype(jnp.float32)
    return jnp.stack([x.min(), x.max(), x.mean(), x.std()])


def _check_schedules(recipe: Recipe, total: int) -> Iterator[str]:
    """Warn of a schedule that is longer than the run, or nearly 0 before the run ends."""
    for schedule in _schedules(recipe.optimizer):
        # A schedule has no length where it never ends, and a traced one within jit.
        if schedule.steps is None or not checks.is_concrete(schedule.steps):
            continue
        end = int(schedule.steps)
        if end > total:
            found = f"the run ends at step {total:,} of a schedule of {end:,} steps"
            yield format_line("!!", f"{found}: give it steps={total}, or train longer")
        elif 0 < end < total - 1 and _ends_at_zero(schedule, end):
            found = f"the schedule's rate is 0 from step {end:,} of {total:,} on"
            yield format_line("!!", f"{found}: give it steps={total}")


def _schedules(value: Any) -> Iterator[Schedule]:
    """Yield the outermost schedules among the arguments of a made value."""
    if isinstance(value, Schedule):
        yield value
    elif isinstance(value, Made):
        for child in value.children:
            yield from _schedules(child)


def _ends_at_zero(schedule: Schedule, end: int) -> bool:
    """Return whether the last rate is negligible compared to the largest."""
    steps = jnp.linspace(0, end, SCHEDULE_SAMPLES).astype(jnp.int32)
    rates = jax.vmap(schedule)(steps)
    return bool(rates[-1] <= NEGLIGIBLE * rates.max())


def _check_balance(counts: np.ndarray) -> str:
    low = int(counts.min())
    high = int(counts.max())
    found = f"labels of {len(counts)} classes, {low:,} to {high:,} examples each"
    if high <= IMBALANCE * low:
        return format_line("ok", found)
    return format_line(
        "!!",
        f"{found}: weigh them, as by objective.class_weighted; accuracy will flatter",
    )


def _describe_data(data: Data, valid: Data | None) -> str:
    parts = []
    for leaf in jax.tree.leaves(data[0]):
        shape = ",".join(map(str, leaf.shape[1:]))
        parts.append(f"{leaf.shape[0]:,} inputs {leaf.dtype}[{shape}]")
    text = ", ".join(parts)
    if valid is None:
        return text
    valid_examples = jax.tree.leaves(valid)[0].shape[0]
    return f"{text}; {valid_examples:,} for validation"


def _describe_key(key: RandomKey) -> str:
    """Describe a key by the seed that `jax.random.key` was given, else by its words."""
    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    # `jax.random.key(seed)` of a 32-bit seed has the seed in its last word, and zeros before it.
    if not any(words[:-1]):
        return f"seed {words[-1]}"
    text = " ".join(map(str, words))
    return f"key {text}"


def _describe_device() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    return f"{device.device_kind} with {os.cpu_count()} cores"


def _count_numbers(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
