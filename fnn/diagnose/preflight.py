"""Checks before training: data, structure, loss, initialization, gradients and short runs."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn import checks, trees
from fnn.augment import BatchPolicy
from fnn.diagnose.activation_rules import (
    observe,
    profile_findings,
    variance_findings,
    without_noise,
)
from fnn.diagnose.augmentation_rules import augmentation_findings
from fnn.diagnose.causes import rank
from fnn.diagnose.data_rules import (
    check_inputs,
    count_range_examples,
    named_arrays,
    numbers_of_example,
    shift_findings,
    spaced,
)
from fnn.diagnose.derivative_rules import derivative_findings
from fnn.diagnose.findings import ERROR, Finding, Findings
from fnn.diagnose.heads import heads
from fnn.diagnose.label_rules import check_labels, order_findings, target_findings
from fnn.diagnose.lane_runs import host_generator
from fnn.diagnose.leakage_rules import leakage_findings
from fnn.diagnose.localize import FORWARD, Location, localize_in_batch
from fnn.diagnose.loss_rules import function_findings, output_findings
from fnn.diagnose.mixing_rules import mixing_findings
from fnn.diagnose.nonfinite_rules import location_finding, nonfinite_findings
from fnn.diagnose.parameter_rules import (
    first_steps,
    gradient_findings,
    kernel_paths,
    symmetry_findings,
)
from fnn.diagnose.schedule_rules import schedule_findings
from fnn.diagnose.short_runs import TINY, short_run_findings
from fnn.diagnose.structure_rules import misplaced, sequences, structure_findings
from fnn.train.arrays import validate_data
from fnn.train.extremes import read_extremes
from fnn.train.inputs import validate_fit
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import prepare_batch, start_on_data, train_step_on_batch
from fnn.types import Data, RandomKey, TrainState

MAX_NUMBERS = 2**22  # of the inputs that pass through the network at once
MIXING_EXAMPLES = 5
STEPS = 4  # of which gradients are measured
BATCH = 32  # examples of each

# Purposes of the key.
OBSERVE, MIX, DERIVE, RUN = range(4)


def preflight(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    *,
    valid: Data | None = None,
    steps: int | None = None,
    examples: int = 512,
    short_runs: bool = True,
) -> Findings:
    """Check a recipe and its data before training, in some seconds.

        print(diagnose.preflight(key, recipe, digits.train, valid=digits.test))

    Rules of the data: numbers and their range, labels, leakage from training to validation. Rules
    of the network: its structure, untrained activations, gradients, independence of the examples,
    the derivatives of a user's own layers and loss. Rules of the whole: the loss before training,
    augmentation, and short runs that overfit 16 examples and compare real inputs with none. A rule
    that does not apply, as that of labels to a regression, finds nothing.

    Args:
        key: From `jax.random.key`, that of the run. It determines the initialization and the
            examples that are drawn.
        recipe: From `train.recipe`, with an optimizer.
        data: (inputs, targets), arrays whose first axis is the example.
        valid: (inputs, targets) of validation, which training must not contain; None for none.
        steps: Number of steps of the planned run, for the rules of schedules; None if not known.
        examples: Largest number of examples that pass through the network for its statistics.
        short_runs: Whether to train on 16 examples and with zeroed inputs, which takes most of the
            time. Large networks are left out in any case.

    Returns:
        The findings, the most severe first, and within a severity causes first. Findings that
        another one explains are information.

    Raises:
        FnnError: An argument is not valid, or the data does not fit the recipe, as for `train.run`.
    """
    checks.key("key", key)
    expect_recipe("preflight", recipe)
    trees.expect_known("preflight", (key, recipe, data, valid))
    checks.whole("preflight examples", examples)
    checks.flag("preflight short_runs", short_runs)
    if steps is not None:
        checks.whole("preflight steps", steps)
    data = validate_data("data", data)
    if valid is not None:
        valid = validate_data("valid", valid)
    out_shape = validate_fit(recipe, data, valid)
    train_state = start_on_data(recipe, key, data)
    # The cheap rules come first: among equal severities, a cause precedes its consequences.
    found = list(_data_findings(recipe, data, valid, out_shape))
    found += structure_findings(recipe.network, train_state.params)
    if steps is not None:
        found += schedule_findings(recipe, steps)
    # Of data that is not finite, all further figures are not finite either.
    if not any(one.name == "nonfinite_data" for one in found):
        found += _network_findings(key, recipe, train_state, data, examples)
    has_errors = any(one.id in ("P01", "T01") and one.severity == ERROR for one in found)
    if short_runs and not has_errors:
        found += _run_findings(key, recipe, train_state, data, out_shape)
    return rank(found)


def _data_findings(
    recipe: Recipe,
    data: Data,
    valid: Data | None,
    out_shape: Any,
) -> Iterator[Finding]:
    """Find faults of the data."""
    inputs, targets = data
    prepared = _prepare_sample(recipe, inputs)
    others = {} if valid is None else _prepare_sample(recipe, valid[0])
    for path, array in prepared.items():
        check = check_inputs(path, array)
        if check is None:
            continue
        yield from check.findings
        if path in others:
            yield from shift_findings(path, array, others[path])
    all_heads = heads(recipe, out_shape, targets)
    valid_heads: list[Any] = [None] * len(all_heads)
    if valid is not None:
        valid_heads = list(heads(recipe, out_shape, valid[1]))
    for head, other in zip(all_heads, valid_heads, strict=True):
        label_check = check_labels(head)
        if label_check is not None:
            yield from label_check.findings
        yield from order_findings(head, other)
        yield from target_findings(head)
    if valid is not None:
        yield from leakage_findings(inputs, valid[0])


def _prepare_sample(recipe: Recipe, inputs: Any) -> dict[str, Any]:
    """Return some examples as the network gets them, by the path of the array."""
    count = count_range_examples(inputs)
    sample = jax.tree.map(lambda leaf: spaced(np.asarray(leaf), count), inputs)
    return named_arrays(recipe.prepare(sample))


def _network_findings(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    examples: int,
) -> Iterator[Finding]:
    """Find faults of the untrained network, its loss, its gradients and its augmentation."""
    chosen = _choose(key, data, examples)
    inputs, targets = _take(data, chosen)
    # Every layer once, each sequence in order.
    leaves = [leaf for sequence in sequences(recipe.network) for leaf in sequence]
    own_key = jax.random.fold_in(key, OBSERVE)
    observed = observe(without_noise(recipe), train_state, inputs, own_key)
    outputs, facts = jax.device_get(observed)
    broken = list(nonfinite_findings(leaves, facts))
    yield from broken
    if broken:
        return
    kernels = kernel_paths(recipe.network, train_state.params)
    alike = list(symmetry_findings(train_state.params, kernels))
    yield from alike
    # Units that are all alike are all dead or saturated, for the same cause.
    if not alike:
        yield from profile_findings(leaves, facts)
    all_heads = heads(recipe, outputs, targets)
    yield from output_findings(recipe, all_heads)
    # A policy of whole batches may make the targets that the loss expects, as of two views.
    is_plain = not isinstance(recipe.augment, BatchPolicy)
    if is_plain:
        yield from function_findings(recipe, all_heads[0])
    if _has_misplaced(recipe):
        _, noisy = jax.device_get(observe(recipe, train_state, inputs, own_key))
        yield from variance_findings(recipe.network, facts, noisy)
    if len(chosen) >= MIXING_EXAMPLES:
        few = _first(inputs, MIXING_EXAMPLES)
        mix_key = jax.random.fold_in(key, MIX)
        yield from mixing_findings(recipe, train_state, few, mix_key)
    yield from _step_findings(recipe, train_state, data, chosen)
    derive_key = jax.random.fold_in(key, DERIVE)
    if is_plain:
        yield from derivative_findings(derive_key, recipe, inputs, outputs, targets)
    if recipe.augment is not None and hasattr(inputs, "dtype"):
        extremes = read_extremes(data[0])
        if extremes is not None:
            yield from augmentation_findings(recipe, train_state, inputs, targets, extremes)


def _has_misplaced(recipe: Recipe) -> bool:
    return any(list(misplaced(sequence)) for sequence in sequences(recipe.network))


def _step_findings(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    chosen: np.ndarray,
) -> Iterator[Finding]:
    """Find faults of gradients, by some steps without augmentation."""
    size = min(BATCH, len(chosen))
    # Small data is used several times.
    rows = np.resize(chosen, (STEPS, size))
    batches = _take(data, rows)
    made: Any = recipe
    may_skip = recipe.on_nonfinite == "skip"
    changes = {"micro_batch_size": None, "on_nonfinite": "skip" if may_skip else "ignore"}
    if not isinstance(recipe.augment, BatchPolicy):
        changes["augment"] = None
    plain = made.replace(**changes)
    facts = jax.device_get(first_steps(plain, train_state, batches))
    kernels = kernel_paths(recipe.network, train_state.params)
    yield from gradient_findings(train_state, facts, kernels)
    # With a loss scale, the first steps are skipped until it is small enough.
    is_skipped = may_skip and facts.finite.any()
    if not facts.finite.all() and not is_skipped:
        place = _localize_step(plain, train_state, batches, int(np.argmin(facts.finite)))
        yield location_finding(place, ERROR)


def _localize_step(
    recipe: Recipe,
    train_state: TrainState,
    batches: Data,
    step: int,
) -> Location:
    """Return where the first non-finite number of a step arises.

    Args:
        recipe: From `train.recipe`, without augmentation.
        train_state: Before the first of the steps.
        batches: (inputs, targets) of the steps, arrays (steps, batch, ...).
        step: Index of the step.
    """
    for index in range(step):
        train_state, _ = train_step_on_batch(recipe, train_state, *_take(batches, np.int32(index)))
    batch = prepare_batch(recipe, train_state, train_state.step, *_take(batches, np.int32(step)))
    place = localize_in_batch(recipe, train_state, batch)
    return place or Location("unknown", FORWARD, step, np.nan)


def _run_findings(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    out_shape: Any,
) -> Iterator[Finding]:
    """Find faults by short runs."""
    # Losses of several heads, and of pairs of examples, have no verdict on 16 examples.
    is_coupled = recipe.loss.couples_examples
    if is_coupled is None:
        is_coupled = isinstance(recipe.augment, BatchPolicy)
    if recipe.loss.heads is not None or is_coupled or count_examples(data) < TINY:
        return
    (head,) = heads(recipe, out_shape, data[1])
    run_key = jax.random.fold_in(key, RUN)
    yield from short_run_findings(run_key, recipe, train_state, data, head)


def _first(inputs: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf[:count]), inputs)


def _take(data: Any, indices: np.ndarray | np.integer) -> Any:
    """Gather examples on the host, which compiles nothing."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[indices], data)


def _choose(key: RandomKey, data: Data, examples: int) -> np.ndarray:
    """Return the indices of random examples, whose inputs fit into memory."""
    count = count_examples(data)
    affordable = max(MIXING_EXAMPLES, MAX_NUMBERS // numbers_of_example(data[0]))
    order = host_generator(key).permutation(count)
    return order[: min(examples, affordable, count)].astype(np.int32)
