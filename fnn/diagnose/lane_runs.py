"""Short runs as lanes of one compiled program: a loop over steps of Adam at constant rates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import objective, optim
from fnn.diagnose.activation_rules import without_noise
from fnn.train.figures import LOSS
from fnn.train.inputs import take_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.train.step import start_on_data, train_step
from fnn.types import Data, RandomKey, TrainState


def host_generator(key: RandomKey) -> np.random.Generator:
    """Return a generator of NumPy that follows from a key: it compiles nothing."""
    words = np.asarray(jax.random.key_data(key))
    return np.random.default_rng(words.ravel())


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


def short_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe without augmentation, regularizer, dropout and early stopping."""
    quiet: Any = without_noise(recipe)
    own: Recipe = quiet.replace(
        optimizer=optim.adam(1e-3),
        metrics={},
        measures={},
        augment=None,
        regularizer=None,
        micro_batch_size=None,
        on_nonfinite="ignore",
        early_stopping=None,
    )
    return own


def train_lanes(
    key: RandomKey,
    recipe: Recipe,
    data: Data,
    kind: str,
    lanes: Lanes,
    goal: float,
) -> Curves:
    """Train all lanes until one of them reaches the goal.

    Args:
        key: Of all runs; each lane folds in its seed.
        recipe: From `short_recipe`.
        data: Validated (inputs, targets).
        kind: How the error is measured: "labels", "signs" or "values"; "" for no error.
        lanes: The runs.
        goal: Error at which all of them end; below 0 for no end before the last step.
    """
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
        own_key = jax.random.fold_in(key, seed)
        return start_on_data(own, own_key, data)

    def step(train_state: TrainState, lane: Any) -> tuple[TrainState, jax.Array, jax.Array]:
        rate, share, examples, targets_of = lane
        # The rate is traced, so that all lanes are one program.
        own = made.replace(optimizer=optim.adam(rate), metrics=_metrics(kind))
        inputs = recipe.prepare(take_examples(data[0], examples))
        targets = take_examples(data[1], targets_of)
        # Zeroed after the preparation, which may map zeros to other numbers.
        scaled = jax.tree.map(lambda x: x * share.astype(x.dtype), inputs)
        after, figures = train_step(own, train_state, scaled, targets)
        error = figures.get("error", jnp.array(jnp.nan))
        return after, figures[LOSS].astype(jnp.float32), error.astype(jnp.float32)

    def body(carry: Any) -> Any:
        index, train_states, losses, errors = carry
        order = lanes.order[:, index]
        target_order = lanes.target_order[:, index]
        own = (lanes.rate, lanes.share, order, target_order)
        train_states, loss, error = jax.vmap(step)(train_states, own)
        losses = losses.at[index].set(loss)
        errors = errors.at[index].set(error)
        return index + 1, train_states, losses, errors

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
    if not kind:
        return {}
    metrics = {
        "labels": _wrong_labels,
        "signs": _wrong_signs,
        "values": _squared_share,
    }
    return {"error": metrics[kind]}


def _wrong_labels(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return 1 - objective.accuracy(outputs, labels)


def _wrong_signs(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    is_predicted = outputs > 0
    is_true = targets > 0.5
    # (n, ...) -> (n, numbers of an example)
    wrong = (is_predicted != is_true).reshape(len(outputs), -1)
    return wrong.mean(1)


def _squared_share(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return squared errors relative to the variance of the batch's targets."""
    variance = targets.var(0).mean()
    # (n, ...) -> (n, numbers of an example)
    squares = jnp.square(outputs - targets).reshape(len(outputs), -1)
    # Of targets that are all equal, any error is infinitely large.
    smallest = jnp.finfo(squares.dtype).tiny
    return squares.mean(1) / jnp.maximum(variance, smallest)
