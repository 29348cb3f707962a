"""Independence of the examples of a batch in inference."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import nn
from fnn.diagnose.findings import WARNING, Finding, Rule
from fnn.nn.core.composite import layer_paths
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Layer, RandomKey, TrainState

PREPARE = "prepare"  # place of the preparation, before the first layer
MIXED = 1e-6  # relative change of the output of an example by the input of another

MIXING = Rule(
    "P08",
    "batch_mixing",
    "Karpathy 2019, A recipe for training neural networks",
    (
        "a reshape or transpose that moves the batch axis",
        "a statistic of the whole batch in inference",
    ),
    ("keep the batch axis first, and act along the other axes",),
    "change one example of a batch and compare the outputs of the others",
)


def _tapped(network: Layer, paths: Sequence[str]) -> Layer:
    """Return the network that returns inner outputs too, none if there are no paths."""
    if paths:
        return nn.tap(network, *paths)

    def apply(params: Any, state: Any, x: Any, **options: Any) -> Any:
        y, state = network.apply(params, state, x, **options)
        return (y, {}), state

    return Layer(network.init, apply)


@per_recipe(static=(4,))
def _mixing(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    key: RandomKey,
    paths: tuple[str, ...],
) -> tuple[dict[str, Any], Any]:
    """Return the relative change of the outputs of other examples, by path, and of the network.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the first step.
        inputs: Two batches that differ in their first example, arrays (2, n, ...).
        key: Of layers that sample in inference.
        paths: Paths of the inner layers.
    """
    network = _tapped(recipe.network, paths)
    examples = jax.tree.leaves(inputs)[0].shape[1]

    def forward(batch: Any) -> Any:
        x = recipe.prepare(batch)
        (y, inner), _ = network.apply(
            train_state.params,
            train_state.state,
            x,
            key=key,
            train=False,
        )
        return x, y, inner

    def change(tree: Any) -> jax.Array:
        """Return the largest relative change of the rows that do not belong to example 0."""
        changes = [jnp.zeros(())]
        for leaf in jax.tree.leaves(tree):
            rows = leaf.shape[1] if leaf.ndim > 1 else 0
            # A layer may merge the batch with another axis, but it comes first.
            if rows and rows % examples == 0:
                own = rows // examples
                wide = leaf.astype(jnp.float32)
                first, second = wide[:, own:]
                scale = jnp.maximum(jnp.abs(wide).max(), jnp.finfo(jnp.float32).tiny)
                changes.append(jnp.abs(second - first).max() / scale)
        return jnp.stack(changes).max()

    # One after the other by one program, so that equal rows have equal bits.
    x, y, inner = jax.lax.map(forward, inputs)
    found = {path: change(inner[path]) for path in paths if path in inner}
    found[PREPARE] = change(x)
    return found, change(y)


def mixing_findings(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    key: RandomKey,
) -> Iterator[Finding]:
    """Find outputs that depend on the other examples of the batch in inference.

    Args:
        recipe: From `train.recipe`.
        train_state: Before the first step.
        inputs: At least 3 examples, as they are stored; the last replaces the first.
        key: Of layers that sample in inference.
    """
    paths = tuple(layer_paths(recipe.network))

    def two_batches(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        # (n, ...) -> two of (n - 1, ...)
        first = array[:-1]
        second = np.concatenate([array[-1:], array[1:-1]])
        return np.stack([first, second])

    batches = jax.tree.map(two_batches, inputs)
    changes, total = jax.device_get(_mixing(recipe, train_state, batches, key, paths))
    if not total > MIXED:
        return
    # The layers inside of a layer come after it in the list, but are computed before.
    order = [PREPARE, *paths]
    mixed = [path for path in order if changes.get(path, 0) > MIXED]
    first = mixed[0] if mixed else None
    for path in mixed:
        if first is not None and path.startswith(f"{first}/"):
            first = path
    place = f", from {first} on" if first is not None else ""
    yield MIXING.finding(
        WARNING,
        f"in inference an example changes the outputs of others by {float(total):.2g}{place}",
        {"change": float(total)},
        f"relative change > {MIXED:g}",
        layer=first,
    )
