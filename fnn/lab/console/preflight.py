"""Header of a run, and checks of its data, first loss and schedules before the first step."""

import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn.diagnose.data_rules import Check, check_inputs, count_range_examples, named_arrays
from fnn.diagnose.findings import INFO, Finding
from fnn.diagnose.heads import heads, last_size
from fnn.diagnose.label_rules import check_labels, target_findings
from fnn.diagnose.loss_rules import check_first_loss
from fnn.diagnose.schedule_rules import schedule_findings
from fnn.diagnose.structure_rules import dropout_findings, structure_findings
from fnn.train.devices import current_layout
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey, Shape, TrainState

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
    train_state: TrainState,
    data: Data,
    out_shape: Shape,
    first_loss: float | None,
    total: int | None = None,
) -> Iterator[str]:
    """Yield one line for each check that passed, labeled "ok", and for each warning, labeled "!!".

    These are the rules of `diagnose.preflight` that read the data and the recipe alone, and the
    loss before training, which validation computes in any case.

    Args:
        recipe: From `train.recipe`.
        train_state: The train state before the first step.
        data: The training data, (inputs, targets).
        out_shape: Shape of one output of the network.
        first_loss: Loss before training, or None where it is not known.
        total: Number of steps of the run, or None where it is not known.
    """
    inputs, targets = data
    all_heads = heads(recipe, out_shape, targets)
    classes = last_size(out_shape)
    if first_loss is not None and classes and recipe.loss.probabilities:
        check = check_first_loss(first_loss, classes)
        yield from _format_check(check)
    count = count_range_examples(inputs)
    examples = jax.tree.map(lambda leaf: leaf[:count], inputs)
    for path, array in named_arrays(recipe.prepare(examples)).items():
        yield from _format_check(check_inputs(path, array))
    for head in all_heads:
        yield from _format_check(check_labels(head))
    found = [finding for head in all_heads for finding in target_findings(head)]
    if total is not None:
        found += schedule_findings(recipe, total)
    found += structure_findings(recipe.network, train_state.params)
    found += dropout_findings(recipe.network)
    yield from map(_format_finding, found)


def _format_check(check: Check | None) -> Iterator[str]:
    """Yield the facts of a check if they are in order, else its findings."""
    if check is None:
        return
    serious = [one for one in check.findings if one.severity != INFO]
    if serious:
        yield from map(_format_finding, serious)
    else:
        yield format_line("ok", check.facts)


def _format_finding(finding: Finding) -> str:
    """Format the facts, one way out, and the rule."""
    advice = f": {finding.advice[0]}" if finding.advice else ""
    return format_line("!!", f"{finding.title}{advice} [{finding.id}]")


def format_line(
    label: str,
    text: str,
) -> str:
    """Format a line of the report: the label in a column of fixed width, then the text."""
    column = label.ljust(LABEL_WIDTH)
    return column + text


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
    words = np.asarray(stored).ravel().tolist()
    # `jax.random.key(seed)` of a 32-bit seed has the seed in its last word, and zeros before it.
    *high_words, seed = words
    if not any(high_words):
        return f"seed {seed}"
    text = " ".join(map(str, words))
    return f"key {text}"


def _describe_device() -> str:
    layout = current_layout()
    if layout is not None:
        devices = layout.mesh.devices
        kind = devices.flat[0].device_kind
        params = ", params divided" if layout.divides_params else ""
        return f"{devices.size} x {kind}, batches in {layout.parts} parts{params}"
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
