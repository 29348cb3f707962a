"""Statistics of a network at one train state: layers, gradients, the next updates, outputs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import trees
from fnn.diagnose.layer_gradients import differentiate
from fnn.diagnose.layer_statistics import BOUNDED
from fnn.diagnose.update_lines import follow_updates, next_batches
from fnn.nn.core.composite import map_leaves, name_of
from fnn.nn.transforms.tap import record, split
from fnn.optim import global_norm
from fnn.train.evaluate import forward_pass, map_batches, weights
from fnn.train.figures import LOSS
from fnn.train.inputs import take_examples
from fnn.train.measure import mean, measure_examples
from fnn.train.programs import cached, per_recipe
from fnn.train.recipe import Recipe
from fnn.types import Data, HeadLosses, Layer, Params, TrainState, Weighted

FORWARD_BATCH = 256  # examples that pass through the network at once
MOSTLY = 0.5  # share of the examples that saturate a unit
TINY = 1e-5  # size below which a weight counts as zero [Ben Braiek & Khomh 2023]
# Of the half width of tanh or sigmoid; beyond it the slope is below 6 % of the largest.
EDGE = 0.97
EXACT = ("relu", "relu6")  # rectifiers whose output is 0 for all inputs of a dead unit


class Observation(NamedTuple):
    """Statistics of a network at one train state.

    Attributes:
        outputs: Of the network in evaluation mode, for the sample of training examples (n, ...).
        valid_outputs: The same for the validation examples; () if there are none.
        losses: Loss of each example of the sample, (n,).
        valid_losses: Loss of each validation example, (v,); () if there are none.
        activation_mean: Mean output of each layer, (layers,).
        activation_std: Standard deviation of the outputs over examples and units, (layers,).
        variation: Standard deviation over examples of an output, mean over units, (layers,).
        dead_share: Share of units that no example of the sample activates, (layers,); NaN for
            layers that are no rectifiers.
        saturated_share: Share of units that most of the examples saturate, (layers,);
            NaN for layers that are no sigmoids.
        units: Number of units of each layer, entries of the last axis, (layers,).
        gradient_norm: Norm of the gradient of the loss by the outputs of a layer, (layers,).
        grad_rms: Root mean square of the gradient of the loss, (parameters,).
        penalty_rms: That of the gradient of the regularizer, (parameters,); 0 without one.
        weight_rms: Root mean square of the parameters, (parameters,).
        weight_std: Standard deviation of the parameters, (parameters,).
        tiny_share: Share of the parameters below 1e-5 in size, (parameters,).
        update_ratio: Root mean square of the next update over that of the parameter, (parameters,).
        line: Loss along the next updates, on their own batches, (lines, fractions).
        other_line: The same on the batch after, (lines, fractions).
        slope: Cosine of the angle between the gradient and the next update, < 0 for a descent.
        train_mode_loss: Loss of the next batch in training mode.
        eval_mode_loss: Loss of the next batch in evaluation mode.
        rate: Learning rate of the next update; NaN if the optimizer has none.
    """

    outputs: Any
    valid_outputs: Any
    losses: Any
    valid_losses: Any
    activation_mean: Any
    activation_std: Any
    variation: Any
    dead_share: Any
    saturated_share: Any
    units: Any
    gradient_norm: Any
    grad_rms: Any
    penalty_rms: Any
    weight_rms: Any
    weight_std: Any
    tiny_share: Any
    update_ratio: Any
    line: Any
    other_line: Any
    slope: Any
    train_mode_loss: Any
    eval_mode_loss: Any
    rate: Any


def layer_kinds(network: Layer) -> dict[str, str]:
    """Return the names of the leaf layers, such as "relu", by their paths, in order."""
    kinds: dict[str, str] = {}

    def note(
        path: str,
        leaf: Layer,
    ) -> Layer:
        kinds[path] = name_of(leaf)
        return leaf

    map_leaves(note, network)
    return kinds


def leaf_paths(recipe: Recipe) -> tuple[str, ...]:
    """Return the paths of the leaf layers of the network; none for a single layer."""
    return cached(recipe, "leaf paths", lambda: tuple(filter(None, layer_kinds(recipe.network))))


def observe(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    rows: np.ndarray,
    batch_size: int,
) -> Observation:
    """Measure a network at one train state, as one compiled program.

    Args:
        recipe: From `train.recipe`.
        train_state: At any step of a run of this recipe.
        data: Validated (inputs, targets) of training.
        valid: Validated (inputs, targets) of validation; None for none.
        rows: Indices of the sample of training examples, (n,).
        batch_size: Examples per step.

    Returns:
        The statistics, as arrays of NumPy.
    """
    observation = _observe(
        recipe,
        train_state,
        data,
        valid,
        rows,
        batch_size,
    )
    return jax.tree.map(np.asarray, observation)


@per_recipe(static=(5,))
def _observe(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    valid: Data | None,
    rows: Any,
    batch_size: int,
) -> Observation:
    given = weights(recipe, train_state)
    outputs, losses, statistics = _evaluate_sample(recipe, given, take_examples(data, rows))
    valid_outputs: Any = ()
    valid_losses: Any = ()
    if valid is not None:

        def evaluate(
            index: Array,
            inputs: Any,
            targets: Any,
        ) -> tuple[Any, Array]:
            batch_outputs = forward_pass(
                recipe,
                given,
                inputs,
                None,
                index,
            )
            return batch_outputs, example_losses(recipe, batch_outputs, targets)

        valid_outputs, valid_losses = map_batches(evaluate, valid, FORWARD_BATCH)
    batches = next_batches(
        recipe,
        train_state,
        data,
        batch_size,
    )
    inputs, targets = jax.tree.map(lambda array: array[0], batches)
    paths = leaf_paths(recipe)
    found = differentiate(recipe, train_state, inputs, targets, paths)
    nan = jnp.full((), jnp.nan, jnp.float32)
    norms = [
        global_norm(found.by_outputs[path].y) if path in found.by_outputs else nan for path in paths
    ]
    updates, line, other_line, rate = follow_updates(recipe, train_state, batches)
    params = train_state.params
    penalty_grads = jax.tree.map(jnp.zeros_like, params)
    if recipe.regularizer is not None:
        penalty_grads = jax.grad(recipe.regularizer)(params)
    weight_rms = _of_leaves(_rms, params)
    update_rms = _of_leaves(_rms, updates)
    eval_outputs, _ = recipe.network.apply(
        params,
        train_state.state,
        inputs,
        train=False,
    )
    return Observation(
        outputs=outputs,
        valid_outputs=valid_outputs,
        losses=losses,
        valid_losses=valid_losses,
        **statistics,
        gradient_norm=jnp.stack(norms) if norms else jnp.zeros(0),
        grad_rms=_of_leaves(_rms, found.grads),
        penalty_rms=_of_leaves(_rms, penalty_grads),
        weight_rms=weight_rms,
        weight_std=_of_leaves(jnp.std, params),
        tiny_share=_of_leaves(lambda leaf: (jnp.abs(leaf) < TINY).mean(), params),
        update_ratio=update_rms / jnp.maximum(weight_rms, 1e-12),
        line=line,
        other_line=other_line,
        slope=_cosine(found.grads, updates),
        train_mode_loss=line[0, 0],
        eval_mode_loss=mean(measure_examples(recipe, eval_outputs, targets)[LOSS]),
        rate=rate,
    )


def example_losses(
    recipe: Recipe,
    outputs: Any,
    targets: Any,
) -> Array:
    """Return the loss of each example (n,)."""
    values = measure_examples(recipe, outputs, targets)[LOSS]
    if isinstance(values, Weighted | HeadLosses):
        values = values.values * (values.weights > 0)
    # (n, ...) -> (n,)
    return values.reshape(values.shape[0], -1).astype(jnp.float32).mean(1)


# Layers, in evaluation mode.


def _evaluate_sample(
    recipe: Recipe,
    given: Any,
    sample: Data,
) -> tuple[Any, Array, dict[str, Any]]:
    """Return outputs and losses of a sample, and the statistics of all leaf layers."""
    paths = leaf_paths(recipe)
    network = record("observe", recipe.network, paths) if paths else recipe.network
    kinds = layer_kinds(recipe.network)

    def evaluate(
        index: Array,
        inputs: Any,
        targets: Any,
    ) -> tuple[Any, Array, Any]:
        prepared = recipe.prepare(inputs)
        outputs, marked = network.apply(
            given.params,
            given.state,
            prepared,
            train=False,
        )
        _, taps = split(marked)
        of_layers = {}
        for path in paths:
            if path in taps:
                y = _batch_first(taps[path])
                of_layers[path] = _of_examples(y, kinds[path])
        return outputs, example_losses(recipe, outputs, targets), of_layers

    outputs, losses, of_layers = map_batches(evaluate, sample, FORWARD_BATCH)
    rows = [_of_layer(of_layers.get(path)) for path in paths]
    moments = ("activation_mean", "activation_std", "variation")
    names = (*moments, "dead_share", "saturated_share", "units")
    columns = [jnp.stack(column) for column in zip(*rows, strict=True)] or [jnp.zeros(0)] * 6
    return outputs, losses, dict(zip(names, columns, strict=True))


def _batch_first(tapped: Any) -> list[Array]:
    """Return the floating-point outputs of a layer with the batch as the first axis."""
    leaves = [leaf for leaf in jax.tree.leaves(tapped.y) if _is_float(leaf)]
    return [jnp.moveaxis(leaf, tapped.stacked.ndim, 0) for leaf in leaves]


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _of_examples(
    arrays: list[Array],
    kind: str,
) -> Any:
    """Return statistics of each example: moments of units (n, units), and flags of units."""
    if not arrays:
        return None
    y = arrays[0].astype(jnp.float32)
    # (n, ..., units) -> (n, positions, units)
    units = y.shape[-1] if y.ndim > 1 else 1
    y = y.reshape(y.shape[0], -1, units)
    moments = {"mean": y.mean(1), "square": jnp.square(y).mean(1)}
    if kind in EXACT:
        moments["active"] = (y > 0).any(1)
    if kind in BOUNDED:
        center, half_width = BOUNDED[kind]
        moments["saturated"] = (jnp.abs(y - center) > EDGE * half_width).mean(1)
    return moments


def _of_layer(moments: Any) -> tuple[Array, ...]:
    """Reduce the statistics of examples (n, units) to those of a layer."""
    nan = jnp.full((), jnp.nan, jnp.float32)
    if moments is None:
        return (nan,) * 6
    center = moments["mean"].mean()
    deviation = jnp.sqrt(jnp.maximum(moments["square"].mean() - jnp.square(center), 0))
    variation = moments["mean"].std(0).mean()
    dead, saturated = nan, nan
    if "active" in moments:
        dead = 1 - moments["active"].any(0).mean(dtype=jnp.float32)
    if "saturated" in moments:
        saturated = (moments["saturated"].mean(0) > MOSTLY).mean(dtype=jnp.float32)
    units = jnp.asarray(moments["mean"].shape[1], jnp.float32)
    return center, deviation, variation, dead, saturated, units


def _of_leaves(
    function: Any,
    tree: Params,
) -> Array:
    values = [function(leaf.astype(trees.wide(leaf))) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(values) if values else jnp.zeros(0)


def _rms(leaf: Array) -> Array:
    return jnp.sqrt(jnp.square(leaf).mean())


def _cosine(
    first: Any,
    second: Any,
) -> Array:
    products = [
        (a.astype(jnp.float32) * b.astype(jnp.float32)).sum()
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    ]
    sizes = jnp.maximum(global_norm(first) * global_norm(second), jnp.finfo(jnp.float32).tiny)
    return sum(products, jnp.zeros(())) / sizes
