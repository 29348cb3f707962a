"""Short runs before training: overfitting of 16 examples, and baselines that ignore the inputs.

All runs are lanes of one compiled program: a loop over steps of Adam at constant rates, without
augmentation, regularizer and dropout.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.heads import BINARY, VALUES, Head, is_declared, loss_name
from fnn.diagnose.lane_runs import Curves, Lanes, host_generator, short_recipe, train_lanes
from fnn.nn.flops import count
from fnn.train.measure import count_examples
from fnn.train.recipe import Recipe
from fnn.types import Data, RandomKey, TrainState

TINY = 16  # examples to overfit, and of a batch
RATES = (3e-4, 3e-3, 3e-2)  # of Adam
SEEDS = 3
STEPS = 200
MIN_STEPS = 60  # fewer say nothing
MAX_FLOPS = 4e10  # of all short runs of a kind, some seconds on two cores
FITTED = 0.05  # error on the 16 examples, a share of wrong labels or of the variance
FAILED = 0.5  # error of a network that learns next to nothing
STALLED = 0.9  # of the first loss, where there is no other measure
STANDARD_ERRORS = 3  # of the difference between real and zeroed inputs
POOL = 1024  # examples of the baselines

OVERFIT = Rule(
    "P13",
    "cannot_overfit",
    "TheDeepChecker; CS231n; Karpathy 2019: overfit a single batch",
    (
        "a mistake in the network, the loss or the targets",
        "targets of another scale than the outputs",
    ),
    ("correct the network and the loss before training",),
    "overfit 2 examples",
)
IGNORED = Rule(
    "P14",
    "inputs_ignored",
    "Karpathy 2019, input-independent baseline; TheDeepChecker",
    (
        "targets are not in the order of the inputs",
        "the network loses the inputs",
        "the inputs have no relation to the targets",
    ),
    ("compare some inputs with their targets by eye", "shuffle inputs and targets together"),
    "train with the targets permuted: the loss should be higher",
)


def short_run_findings(
    key: RandomKey,
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    head: Head,
) -> Iterator[Finding]:
    """Find networks that cannot overfit 16 examples, or do not use their inputs.

    Args:
        key: Of initialization and order.
        recipe: From `train.recipe`.
        train_state: Before the first step.
        data: (inputs, targets), at least 16 examples.
        head: The single head, with untrained outputs.
    """
    kind = error_kind(recipe, head)
    steps, seeds = _affordable(recipe, train_state, data)
    if steps < MIN_STEPS:
        return
    own = short_recipe(recipe)
    generator = host_generator(key)
    tiny, rates = _overfit(key, own, data, kind, generator, steps, seeds)
    # The loss of a game need not fall.
    is_known = is_declared(recipe.loss) and loss_name(recipe.loss) != "adversarial"
    yield from verdict(tiny, rates, kind, is_known)
    if count_examples(data) < 4 * TINY or kind == "":
        return
    best = float(rates[_best_lane(tiny.loss)])
    curves = _baselines(key, own, data, kind, generator, (steps, seeds, best))
    yield from baseline_findings(curves)


def error_kind(recipe: Recipe, head: Head) -> str:
    """Return how the error of outputs is measured: by labels, signs or values; "" if it is not."""
    name = loss_name(recipe.loss)
    if head.is_labeled and not np.isin(head.targets, list(head.loss.ignored)).any():
        return "labels"
    if name in BINARY and hasattr(head.targets, "dtype"):
        return "signs"
    if name in VALUES and head.is_matched:
        return "values"
    return ""


def verdict(
    curves: Curves,
    rates: np.ndarray,
    kind: str,
    is_known: bool,
) -> Iterator[Finding]:
    """Judge runs on 16 examples.

    Args:
        curves: (lanes, steps).
        rates: Of the lanes.
        kind: How the error is measured.
        is_known: Whether the loss declares its properties.
    """
    first = float(np.nanmean(curves.loss[:, 0]))
    last = float(_lowest(curves.loss).min())
    steps = curves.loss.shape[1]
    shown = ", ".join(f"{rate:g}" for rate in np.unique(rates))
    runs = f"after {steps} steps of Adam at each of the rates {shown}"
    measured = {"first_loss": first, "loss": last, "steps": steps}
    if kind:
        error = float(_lowest(curves.error).min())
        if error <= FITTED:
            return
        measured["error"] = error
        unit = "of the variance" if kind == "values" else "of the labels"
        title = f"16 examples have an error of {error:.0%} {unit} {runs}"
        yield OVERFIT.finding(
            ERROR if error > FAILED else WARNING,
            title,
            measured,
            f"error > {FITTED:.0%}; > {FAILED:.0%} for an error",
        )
        return
    # Without another measure, a loss that does not fall at all is a fault of declared losses. The
    # lower bound of others, such as that of a game, is not known.
    if is_known and first > 0 and last > STALLED * first:
        yield OVERFIT.finding(
            WARNING,
            f"the loss of 16 examples is {last:.3g} of first {first:.3g} {runs}",
            measured,
            f"> {STALLED} of the first loss",
        )


def _lowest(values: np.ndarray) -> np.ndarray:
    """Return the lowest value of each lane (lanes,); inf for one that has none."""
    known = np.where(np.isnan(values), np.inf, values)
    return known.min(1)


def _best_lane(losses: np.ndarray) -> int:
    return int(_lowest(losses).argmin())


def baseline_findings(curves: np.ndarray) -> Iterator[Finding]:
    """Judge runs with real inputs, zeroed inputs and permuted targets.

    Args:
        curves: Losses (3, seeds, steps), of batches that the three have in common.
    """
    tail = curves[:, :, -max(1, curves.shape[2] // 4) :]
    if not np.isfinite(tail).all():
        return
    real, zeroed, permuted = tail.mean((1, 2)).tolist()
    # Paired by step, since the runs have their batches in common: (2, seeds, steps)
    gain = tail[1:] - tail[0]
    count = gain[0].size
    errors = gain.std((1, 2)) / np.sqrt(count)
    is_useful = gain.mean((1, 2)) > STANDARD_ERRORS * errors
    if is_useful.all():
        return
    measured = {"real": real, "zeroed": zeroed, "permuted": permuted}
    losses = f"loss {real:.3g} with real inputs, {zeroed:.3g} with zeroed ones"
    yield IGNORED.finding(
        WARNING,
        f"the inputs do not help: {losses}, {permuted:.3g} with permuted targets",
        measured,
        f"real below both by more than {STANDARD_ERRORS} standard errors",
    )


# The runs.


def _affordable(recipe: Recipe, train_state: TrainState, data: Data) -> tuple[int, int]:
    """Return the number of steps and seeds of the runs within the budget of operations."""

    def of_batch(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((TINY, *leaf.shape[1:]), leaf.dtype)

    def forward(inputs: Any) -> Any:
        x = recipe.prepare(inputs)
        y, _ = recipe.network.apply(
            train_state.params,
            train_state.state,
            x,
            key=train_state.key,
            train=True,
        )
        return y

    inputs = jax.tree.map(of_batch, data[0])
    # Tracing alone: nothing is computed.
    program = jax.make_jaxpr(forward)(inputs)
    operations = count(program).total()
    # A backward pass takes twice the operations of a forward pass.
    affordable = MAX_FLOPS / max(3 * operations * len(RATES), 1)
    seeds = SEEDS if affordable >= SEEDS * STEPS else 1
    return int(min(STEPS, affordable / seeds)), seeds


def _overfit(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    kind: str,
    generator: np.random.Generator,
    steps: int,
    seeds: int,
) -> tuple[Curves, np.ndarray]:
    order = generator.permutation(count_examples(data))
    chosen = _distinct(data[0], order)
    rates = np.repeat(np.array(RATES, np.float32), seeds)
    lanes = len(rates)
    # (16,) -> (lanes, steps, 16): the same batch in each step.
    batches = np.broadcast_to(chosen, (lanes, steps, TINY))
    runs = Lanes(
        seed=np.tile(np.arange(seeds, dtype=np.int32), len(RATES)),
        rate=rates,
        share=np.ones(lanes, np.float32),
        order=batches,
        target_order=batches,
    )
    return train_lanes(key, recipe, data, kind, runs, FITTED), rates


def _distinct(inputs: Any, order: np.ndarray) -> np.ndarray:
    """Return the first 16 examples of an order with different inputs."""
    leaf = np.asarray(jax.tree.leaves(inputs)[0])
    found: dict[bytes, int] = {}
    for index in order.tolist():
        found.setdefault(leaf[index].tobytes(), index)
        if len(found) == TINY:
            break
    indices = np.array(list(found.values()), np.int32)
    # Fewer are repeated, so that all batches have one size.
    return np.resize(indices, TINY)


def _baselines(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    kind: str,
    generator: np.random.Generator,
    how: tuple[int, int, float],
) -> np.ndarray:
    steps, seeds, rate = how
    examples = count_examples(data)
    pool = generator.permutation(examples)[:POOL]
    # Every example once before any is used twice, so that nothing is learned by heart early.
    passes = -(-steps * TINY // len(pool))
    rows = np.concatenate([generator.permutation(pool) for _ in range(passes)])
    # (positions,) -> (steps, batch)
    order = rows[: steps * TINY].reshape(steps, TINY).astype(np.int32)
    shuffled = np.empty(examples, np.int32)
    shuffled[pool] = generator.permutation(pool)
    # One lane for each variant and seed: real, zeroed, permuted.
    lanes = 3 * seeds
    permuted = shuffled[order]
    targets = np.repeat(np.stack([order, order, permuted]), seeds, 0)
    runs = Lanes(
        seed=np.tile(np.arange(seeds, dtype=np.int32), 3),
        rate=np.full(lanes, rate, np.float32),
        share=np.repeat(np.array([1, 0, 1], np.float32), seeds),
        order=np.broadcast_to(order, (lanes, steps, TINY)),
        target_order=targets,
    )
    # An error is never below this, so that no run ends early.
    curves = train_lanes(key, recipe, data, kind, runs, -1.0)
    return curves.loss.reshape(3, seeds, steps)
