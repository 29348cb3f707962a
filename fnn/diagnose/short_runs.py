"""Short runs before training: overfitting of 16 examples, and baselines that ignore the inputs.

All runs are lanes of one compiled program: a loop over steps of Adam at constant rates, without
augmentation, regularizer and dropout.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import objective, optim
from fnn.diagnose.activation_rules import without_noise
from fnn.diagnose.findings import ERROR, WARNING, Finding, Rule
from fnn.diagnose.heads import BINARY, VALUES, Head, is_declared, loss_name
from fnn.nn.flops import count
from fnn.train.figures import LOSS
from fnn.train.inputs import take_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data, train_step
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


class Lanes(NamedTuple):
    """The runs of a call: arrays whose first axis is the lane.

    Attributes:
        seed: Of the initialization, (lanes,).
        rate: Of Adam, (lanes,).
        share: Factor of the prepared inputs, 0 or 1, (lanes,).
        order: Example of each position of each step, (lanes, steps, batch).
        target_order: The same for targets, (lanes, steps, batch).
    """

    seed: Any
    rate: Any
    share: Any
    order: Any
    target_order: Any


class Curves(NamedTuple):
    """The figures of short runs, (lanes, steps); NaN after the end.

    Attributes:
        loss: The mean loss of each step.
        error: Share of wrong labels, or of the variance of the targets.
    """

    loss: np.ndarray
    error: np.ndarray


class ShortRuns(NamedTuple):
    """The results of all short runs.

    Attributes:
        tiny: Of 16 examples, (rates * seeds, steps).
        rates: Rates of these lanes.
        baselines: Of real inputs, zeroed inputs and permuted targets, (3, seeds, steps) each; None
            if they were left out.
    """

    tiny: Curves
    rates: np.ndarray
    baselines: np.ndarray | None


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
    own = _short_recipe(recipe)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    tiny, rates = _overfit(key, own, data, kind, generator, steps, seeds)
    yield from verdict(tiny, rates, kind, is_declared(recipe.loss))
    if len(jax.tree.leaves(data[1])[0]) < 4 * TINY or kind == "":
        return
    best = float(rates[int(np.nanmin(tiny.loss, 1).argmin())])
    curves = _baselines(key, own, data, kind, generator, (steps, seeds, best))
    yield from baseline_findings(curves)


def error_kind(recipe: Recipe, head: Head) -> str:
    """Return how the error of outputs is measured: by labels, signs or values; "" if it is not."""
    name = loss_name(recipe.loss)
    if head.is_labeled:
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
    losses = _last(curves.loss)
    best = int(np.nan_to_num(losses, nan=np.inf).argmin())
    steps = curves.loss.shape[1]
    shown = ", ".join(f"{rate:g}" for rate in np.unique(rates))
    runs = f"after {steps} steps of Adam at each of the rates {shown}"
    measured = {"first_loss": first, "loss": float(losses[best]), "steps": steps}
    if kind:
        error = float(np.nan_to_num(curves.error, nan=np.inf).min())
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
    fall = first - float(losses[best])
    if is_known and first > 0 and fall < (1 - STALLED) * first:
        yield OVERFIT.finding(
            WARNING,
            f"the loss of 16 examples is {losses[best]:.3g} of first {first:.3g} {runs}",
            measured,
            f"> {STALLED} of the first loss",
        )


def _last(losses: np.ndarray) -> np.ndarray:
    """Return the last loss of each lane that is not NaN."""
    known = np.where(np.isnan(losses), np.inf, losses)
    return known[:, -5:].min(1) if np.isfinite(known[:, -5:]).any() else known.min(1)


def baseline_findings(curves: np.ndarray) -> Iterator[Finding]:
    """Judge runs with real inputs, zeroed inputs and permuted targets.

    Args:
        curves: Losses (3, seeds, steps), of batches that the three have in common.
    """
    tail = curves[:, :, -max(1, curves.shape[2] // 4) :]
    if not np.isfinite(tail).all():
        return
    real, zeroed, permuted = tail.mean((1, 2)).tolist()
    # Paired by step, since the runs have their batches in common.
    gain = tail[1:] - tail[0]
    means = gain.mean((1, 2))
    errors = gain.std((1, 2)) / np.sqrt(gain[0].size)
    is_useful = means > STANDARD_ERRORS * errors
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


def _short_recipe(recipe: Recipe) -> Recipe:
    quiet: Any = without_noise(recipe)
    own: Recipe = quiet.replace(
        optimizer=optim.adam(RATES[0]),
        metrics={},
        measures={},
        augment=None,
        regularizer=None,
        micro_batch_size=None,
        on_nonfinite="ignore",
        early_stopping=None,
    )
    return own


def _affordable(recipe: Recipe, train_state: TrainState, data: Data) -> tuple[int, int]:
    """Return the number of steps and seeds of the runs within the budget of operations."""
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((TINY, *leaf.shape[1:]), leaf.dtype), data
    )

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

    operations = count(jax.make_jaxpr(forward)(batch[0])).total()
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
    examples = len(jax.tree.leaves(data[1])[0])
    chosen = _distinct(data[0], generator.permutation(examples))
    lanes = len(RATES) * seeds
    order = np.broadcast_to(chosen, (lanes, steps, len(chosen))).astype(np.int32)
    rates = np.repeat(np.array(RATES, np.float32), seeds)
    runs = Lanes(
        np.tile(np.arange(seeds, dtype=np.int32), len(RATES)),
        rates,
        np.ones(lanes, np.float32),
        order,
        order,
    )
    return _train(key, recipe, data, kind, runs, FITTED), rates


def _distinct(inputs: Any, order: np.ndarray) -> np.ndarray:
    """Return the first 16 examples of an order with different inputs."""
    leaf = np.asarray(jax.tree.leaves(inputs)[0])
    found: dict[bytes, int] = {}
    for index in order.tolist():
        found.setdefault(leaf[index].tobytes(), index)
        if len(found) == TINY:
            break
    # Fewer are repeated, so that all batches have one size.
    indices = list(found.values())
    return np.resize(np.array(indices), TINY)


def _baselines(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    kind: str,
    generator: np.random.Generator,
    how: tuple[int, int, float],
) -> np.ndarray:
    steps, seeds, rate = how
    examples = len(jax.tree.leaves(data[1])[0])
    pool = generator.permutation(examples)[:POOL]
    # Every example once before any is used twice, so that nothing is learned by heart early.
    passes = -(-steps * TINY // len(pool))
    rows = np.concatenate([generator.permutation(pool) for _ in range(passes)])
    order = rows[: steps * TINY].reshape(steps, TINY).astype(np.int32)
    shuffled = np.empty(examples, np.int32)
    shuffled[pool] = generator.permutation(pool)
    # One lane for each variant and seed: real, zeroed, permuted.
    all_orders = np.broadcast_to(order, (3 * seeds, steps, TINY))
    permuted = shuffled[order]
    targets = np.stack([*[order] * (2 * seeds), *[permuted] * seeds])
    runs = Lanes(
        np.tile(np.arange(seeds, dtype=np.int32), 3),
        np.full(3 * seeds, rate, np.float32),
        np.repeat(np.array([1, 0, 1], np.float32), seeds),
        all_orders,
        targets,
    )
    # An error is never below this, so that no run ends early.
    curves = _train(key, recipe, data, kind, runs, -1.0)
    return curves.loss.reshape(3, seeds, steps)


def _train(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    kind: str,
    lanes: Lanes,
    goal: float,
) -> Curves:
    found = _run_lanes(recipe, key, data, lanes, np.float32(goal), kind)
    loss, error = jax.device_get(found)
    return Curves(loss.T, error.T)


@per_recipe(static=(5,))
def _run_lanes(
    recipe: Recipe,
    key: RandomKey,
    data: Data,
    lanes: Lanes,
    goal: Any,
    kind: str,
) -> tuple[jax.Array, jax.Array]:
    """Train all lanes until one of them has an error below the goal; return (steps, lanes) each."""
    steps = lanes.order.shape[1]

    made: Any = recipe

    def start(seed: jax.Array, rate: jax.Array) -> TrainState:
        own = made.replace(optimizer=optim.adam(rate))
        return start_on_data(own, jax.random.fold_in(key, seed), data)

    def step(train_state: TrainState, lane: Any) -> tuple[TrainState, jax.Array, jax.Array]:
        rate, share, examples, targets_of = lane
        own = made.replace(optimizer=optim.adam(rate), metrics=_metrics(kind))
        inputs = recipe.prepare(take_examples(data[0], examples))
        targets = take_examples(data[1], targets_of)
        scaled = jax.tree.map(lambda x: x * share.astype(x.dtype), inputs)
        after, figures = train_step(own, train_state, scaled, targets)
        error = figures.get("error", jnp.array(jnp.nan))
        return after, figures[LOSS].astype(jnp.float32), error.astype(jnp.float32)

    def body(carry: Any) -> Any:
        index, train_states, losses, errors = carry
        own = (lanes.rate, lanes.share, lanes.order[:, index], lanes.target_order[:, index])
        train_states, loss, error = jax.vmap(step)(train_states, own)
        return index + 1, train_states, losses.at[index].set(loss), errors.at[index].set(error)

    def is_running(carry: Any) -> jax.Array:
        index, _, _, errors = carry
        last = errors[jnp.maximum(index - 1, 0)]
        # A NaN is no success.
        return (index < steps) & ~(last <= goal).any()

    blank = jnp.full((steps, len(lanes.rate)), jnp.nan)
    first = jax.vmap(start)(lanes.seed, lanes.rate)
    begin = (jnp.int32(0), first, blank, blank)
    _, _, losses, errors = jax.lax.while_loop(is_running, body, begin)
    return losses, errors


def _metrics(kind: str) -> dict[str, Any]:
    metrics = {"labels": _wrong_labels, "signs": _wrong_signs, "values": _squared_share}
    return {"error": metrics[kind]} if kind else {}


def _wrong_labels(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return 1 - objective.accuracy(outputs, labels)


def _wrong_signs(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    wrong = (outputs > 0) != (targets > 0.5)
    return wrong.reshape(len(outputs), -1).mean(1)


def _squared_share(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return squared errors relative to the variance of the batch's targets."""
    variance = targets.var(0).mean()
    errors = jnp.square(outputs - targets).reshape(len(outputs), -1).mean(1)
    return errors / jnp.maximum(variance, jnp.finfo(errors.dtype).tiny)
