"""Header of a run, and checks of its data, first loss and schedules before the first step."""

import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, optim, trees
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


def header(
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    run: str,
) -> Iterator[str]:
    """Yield lines on the network, the optimizer, the data, the run and the device.

    Args:
        train_state: The train state before the first step.
        data: The training data, (inputs, targets).
        valid: The validation data, or None.
        run: Description of the run, such as its numbers of epochs and steps.
    """
    params = jax.tree.leaves(train_state.params)
    parameters = _count_numbers(params)
    numbers = _count_numbers(train_state.state)
    arrays = f"{parameters:,} parameters in {len(params)} arrays"
    state = f"{numbers:,} numbers of state"
    yield format_line("network", f"{arrays}, {state}")
    slots = _count_numbers(train_state.opt_state)
    memory = f"{slots:,} numbers of state"
    yield format_line("optimizer", memory)
    description = _describe_data(data, valid)
    yield format_line("data", description)
    # The key is shown, so that the run can be repeated from its output alone.
    key = _describe_key(train_state.key)
    yield format_line("run", f"{run}; {key}")
    dtypes = {str(leaf.dtype) for leaf in params}
    in_order = sorted(dtypes)
    names = ", ".join(in_order)
    device = _describe_device()
    version = f"jax {jax.__version__}"
    yield format_line("on", f"{device}, {names}; {version}")


def preflight(
    recipe: Recipe,
    data: Data,
    out_shape: Shape,
    first_loss: float | None,
    total: int | None = None,
) -> Iterator[str]:
    """Yield one line per check, labeled "ok" or "!!" for a warning.

    The checks are of the first loss, the range of the inputs, the length of schedules, the first
    snapshot of an average and the balance of labels.

    Args:
        recipe: From `train.recipe`.
        data: The training data, (inputs, targets).
        out_shape: Shape of one output of the network.
        first_loss: Loss before training, or None where it is not known.
        total: Number of steps of the run, or None where it is not known.
    """
    inputs, targets = data
    classes = None
    if trees.is_shape(out_shape) and len(out_shape) > 0:
        classes = out_shape[-1]
    if first_loss is not None and classes and recipe.loss.probabilities:
        yield _check_loss(first_loss, classes)
    # Inputs and outputs may be pytrees: then there is no single range, and no number of classes.
    if hasattr(inputs, "dtype"):
        examples = inputs[:RANGE_EXAMPLES]
        prepared = recipe.prepare(examples)
        yield from _check_range(prepared)
    if total is not None:
        yield from _check_schedules(recipe, total)
        yield from _check_snapshots(recipe.optimizer, total)
    if not classes or not _are_labels(recipe, targets):
        return
    # Few labels are unbalanced by chance.
    if len(targets) >= EXAMPLES_PER_CLASS * classes:
        labels = trees.read(targets)
        counts = np.bincount(labels, minlength=classes)
        yield _check_balance(counts)


def format_line(
    label: str,
    text: str,
) -> str:
    """Format a line of the report: the label in a column of fixed width, then the text."""
    column = label.ljust(LABEL_WIDTH)
    return column + text


def _warning(
    found: str,
    advice: str,
) -> str:
    """Format a warning: the facts, then one way out."""
    text = f"{found}: {advice}"
    return format_line("!!", text)


def _are_labels(
    recipe: Recipe,
    targets: Any,
) -> bool:
    """Return whether the targets are one label for each example."""
    is_array = hasattr(targets, "dtype")
    if not recipe.loss.classes or not is_array:
        return False
    # Labels of the positions of a text or an image are of other frequencies by nature: weights
    # would change the probabilities that a language model learns.
    if targets.ndim > 1:
        return False
    is_integer = jnp.issubdtype(targets.dtype, jnp.integer)
    return bool(is_integer)


def _check_loss(
    loss: float,
    classes: int,
) -> str:
    # A network without knowledge gives each class the same probability: its loss is log(classes).
    uniform_loss = math.log(classes)
    expected = f"log {classes} = {uniform_loss:.2f}"
    found = f"loss before training {loss:.2f} ({expected})"
    if loss <= uniform_loss + LOSS_EXCESS:
        return format_line("ok", found)
    advice = "sure of wrong classes; begin with a smaller last layer, as by nn.lsuv"
    return _warning(found, advice)


def _check_range(inputs: jax.Array) -> Iterator[str]:
    """Yield a line on the range of prepared inputs, if they are floats."""
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        return
    # One transfer from the device for all four numbers.
    statistics = _statistics(inputs)
    low, high, mean, deviation = statistics.tolist()
    interval = f"inputs in [{low:.3g}, {high:.3g}]"
    moments = f"mean {mean:.2g}, deviation {deviation:.2g}"
    found = f"{interval}, {moments}"
    sizes = [abs(low), abs(high)]
    largest = max(sizes)
    is_small = largest <= 1.5
    is_centered = abs(mean) <= 0.5
    has_unit_scale = 0.5 <= deviation <= 2
    is_standardized = is_centered and has_unit_scale
    if is_small or is_standardized:
        yield format_line("ok", found)
    else:
        advice = "scale them first, as by data.standardize"
        yield _warning(found, advice)


@jax.jit
def _statistics(inputs: jax.Array) -> jax.Array:
    """Compute minimum, maximum, mean and standard deviation."""
    # Half precision has too few digits for the sums.
    x = inputs.astype(jnp.float32)
    statistics = [
        x.min(),
        x.max(),
        x.mean(),
        x.std(),
    ]
    return jnp.stack(statistics)  # (4,)


def _check_schedules(
    recipe: Recipe,
    total: int,
) -> Iterator[str]:
    """Warn of a schedule that is longer than the run, or nearly 0 before the run ends."""
    for schedule in _schedules(recipe.optimizer):
        # A schedule has no length where it never ends, and a traced one within jit.
        if schedule.steps is None or not checks.is_concrete(schedule.steps):
            continue
        end = int(schedule.steps)
        if end > total:
            found = f"the run ends at step {total:,} of a schedule of {end:,} steps"
            advice = f"give it steps={total}, or train longer"
            yield _warning(found, advice)
            continue
        # The last step of a run may have a rate of 0.
        is_shorter = 0 < end < total - 1
        if is_shorter and _ends_at_zero(schedule, end):
            found = f"the schedule's rate is 0 from step {end:,} of {total:,} on"
            advice = f"give it steps={total}"
            yield _warning(found, advice)


def _check_snapshots(
    value: Any,
    total: int,
) -> Iterator[str]:
    """Warn of an average of snapshots whose first one is after the end of the run."""
    if not isinstance(value, Made):
        return
    if value.maker in (optim.swa, optim.lawa, optim.swag):
        numbers = value.arguments
        every = numbers.get("every", 1)
        start = numbers.get("start", 0)
        # Traced numbers are not known yet.
        if checks.is_concrete(start) and checks.is_concrete(every):
            first = math.ceil(start) or math.ceil(every)
            if first > total:
                found = (
                    f"the run ends at step {total:,} before the first snapshot at step {first:,}"
                )
                yield _warning(found, "lower start or every of the average, or train longer")
    for child in value.children:
        yield from _check_snapshots(child, total)


def _schedules(value: Any) -> Iterator[Schedule]:
    """Yield the outermost schedules among the arguments of a made value."""
    if isinstance(value, Schedule):
        yield value
    elif isinstance(value, Made):
        for child in value.children:
            yield from _schedules(child)


def _ends_at_zero(
    schedule: Schedule,
    end: int,
) -> bool:
    """Return whether the last rate is negligible compared to the largest."""
    samples = np.linspace(0, end, SCHEDULE_SAMPLES)
    steps = samples.astype(np.int32)
    # These numbers are copied to the device and back on purpose.
    with jax.transfer_guard("allow"):
        rates = np.asarray(jax.vmap(schedule)(jnp.asarray(steps)))
    last = rates[-1]
    largest = rates.max()
    # A rate may approach 0 without reaching it, as one that decays exponentially.
    is_negligible = last <= NEGLIGIBLE * largest
    return bool(is_negligible)


def _check_balance(counts: np.ndarray) -> str:
    low = int(counts.min())
    high = int(counts.max())
    classes = len(counts)
    interval = f"{low:,} to {high:,}"
    found = f"labels of {classes} classes, {interval} examples each"
    if high <= IMBALANCE * low:
        return format_line("ok", found)
    advice = "weigh them, as by objective.class_weighted; accuracy will flatter"
    return _warning(found, advice)


def _describe_data(
    data: Data,
    valid: Data | None,
) -> str:
    inputs, _ = data
    parts = []
    for leaf in jax.tree.leaves(inputs):
        # Without the axis of examples, whose length comes first.
        examples, *sizes = leaf.shape
        shape = ",".join(map(str, sizes))
        kind = f"{leaf.dtype}[{shape}]"
        parts.append(f"{examples:,} inputs {kind}")
    text = ", ".join(parts)
    if valid is None:
        return text
    valid_leaves = jax.tree.leaves(valid)
    valid_examples = valid_leaves[0].shape[0]
    return f"{text}; {valid_examples:,} for validation"


def _describe_key(key: RandomKey) -> str:
    """Describe a key by the seed that `jax.random.key` was given, else by its words."""
    stored = jax.random.key_data(key)
    words = trees.read(stored).ravel().tolist()
    # `jax.random.key(seed)` of a 32-bit seed has the seed in its last word, and zeros before it.
    *high_words, seed = words
    if not any(high_words):
        return f"seed {seed}"
    text = " ".join(map(str, words))
    return f"key {text}"


def _describe_device() -> str:
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform != "cpu":
        return str(kind)
    cores = os.cpu_count()
    return f"{kind} with {cores} cores"


def _count_numbers(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    sizes = [leaf.size for leaf in leaves]
    return sum(sizes)
