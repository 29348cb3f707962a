"""Localization of the first non-finite number of a training step: layer and direction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import trees
from fnn.diagnose.layer_gradients import differentiate
from fnn.diagnose.observation import leaf_paths
from fnn.nn.transforms.tap import Tapped
from fnn.train.epoch import next_batch
from fnn.train.inputs import validate_examples
from fnn.train.programs import per_recipe
from fnn.train.recipe import Recipe, expect_recipe
from fnn.train.step import expect_train_state, steps_per_epoch, train_step
from fnn.types import Data, TrainState

FORWARD, BACKWARD = "forward", "backward"
# Places that are no layers.
INPUTS, PARAMETERS, LOSS_PLACE = "inputs", "parameters", "loss"
REGULARIZER, OPTIMIZER = "regularizer", "optimizer"


class Location(NamedTuple):
    """The place where the first non-finite number of a training step arose.

    Attributes:
        layer: Path of the layer; "inputs", "parameters", "loss", "regularizer" or "optimizer" if it
            is no layer; "network" for a network of a single layer.
        direction: "forward" or "backward".
        step: Index of the step.
        largest: Largest size of a number in the input of the layer, forward, or in the gradient by
            its output, backward; NaN where it is not known.
        copy: Index of the copy of a layer that `repeat` or `ensemble` stacks; None for others.
    """

    layer: str
    direction: str
    step: int
    largest: float
    copy: int | None = None


class _Flags(NamedTuple):
    """Whether the numbers of a step are finite, in the order of their computation.

    Attributes:
        inputs: Of the batch.
        parameters: Of all parameters and the state before the step, by path.
        outputs: Of the outputs of layers by path, one flag for each copy.
        sizes: Largest sizes of these outputs, for each copy.
        loss: Of the loss.
        penalty: Of the regularizer and its gradient.
        gradients: Of the gradients by the outputs of layers by path, one flag for each copy.
        gradient_sizes: Largest sizes of these gradients, for each copy.
        parameter_gradients: Of the gradients by parameters, by path.
        state: Of the state of the network after the step, by path.
        after: Of the parameters after the step.
    """

    inputs: Any
    parameters: dict[str, Any]
    outputs: dict[str, Any]
    sizes: dict[str, Any]
    loss: Any
    penalty: Any
    gradients: dict[str, Any]
    gradient_sizes: dict[str, Any]
    parameter_gradients: dict[str, Any]
    state: dict[str, Any]
    after: Any


def localize(
    recipe: Recipe,
    train_state: TrainState,
    data: Data,
    *,
    batch_size: int,
) -> Location | None:
    """Find the layer and the direction in which the next step is not finite.

    The step is computed once. Its numbers are checked in the order of computation: inputs,
    parameters, outputs of the layers, loss; then backward, from the gradient by the outputs of the
    last layer to that of the first. A layer is at fault if what it gets is finite, and what it
    gives is not.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        train_state: Before the step, as of a NonFiniteError, or as replayed by `train.run` up to
            the epoch before it.
        data: (inputs, targets), the training data of the run.
        batch_size: Examples per step.

    Returns:
        The place; None if all numbers of the step are finite.

    Raises:
        ConfigError: An argument is not of the type described here.
        FnnError: The data does not fit the recipe, as for `train.run`.
    """
    expect_recipe("localize", recipe)
    expect_train_state("localize", train_state)
    data = validate_examples("data", recipe, data)
    steps_per_epoch(data, batch_size)
    batch = next_batch(
        recipe,
        train_state,
        data,
        batch_size,
    )
    return localize_in_batch(recipe, train_state, batch)


def localize_in_batch(
    recipe: Recipe,
    train_state: TrainState,
    batch: Data,
) -> Location | None:
    """Find the layer and the direction in which a step on this batch is not finite.

    Args:
        recipe: From `train.recipe`, with an optimizer.
        train_state: Before the step.
        batch: (inputs, targets), augmented and prepared.
    """
    flags = jax.tree.map(np.asarray, _flags(recipe, train_state, *batch))
    paths = leaf_paths(recipe)
    step = int(train_state.step)
    place = _forward_place(flags, paths) or _backward_place(flags, paths)
    if place is None:
        return None
    layer, direction, largest, copy = place
    return Location(
        layer,
        direction,
        step,
        largest,
        copy,
    )


# (layer, direction, largest, copy)
_Place = tuple[str, str, float, int | None]


def _forward_place(
    flags: _Flags,
    paths: Sequence[str],
) -> _Place | None:
    if not flags.inputs:
        return INPUTS, FORWARD, np.nan, None
    for path, finite in flags.parameters.items():
        if not finite:
            return f"{PARAMETERS} {path}", FORWARD, np.nan, None
    found = _first(flags.outputs, paths)
    if found is not None:
        path, copy = found
        largest = _size_before(flags.sizes, paths, path)
        return path, FORWARD, largest, copy
    if not flags.loss:
        largest = float(max(flags.sizes[paths[-1]].max(), 0)) if paths else np.nan
        return (LOSS_PLACE if paths else "network"), FORWARD, largest, None
    if not flags.penalty:
        return REGULARIZER, FORWARD, np.nan, None
    return None


def _first(
    flags: Mapping[str, Any],
    paths: Sequence[str],
) -> tuple[str, int | None] | None:
    """Return the first layer, and its copy, whose flag is false.

    Copies of a repeated block are computed one after another: within consecutive layers of equal
    numbers of copies, the copy comes first.
    """
    known = [path for path in paths if path in flags]
    begin = 0
    while begin < len(known):
        copies = flags[known[begin]].size
        end = begin + 1
        while copies > 1 and end < len(known) and flags[known[end]].size == copies:
            end += 1
        # (layers, copies)
        block = np.stack([flags[path].reshape(-1) for path in known[begin:end]])
        if not block.all():
            copy, layer = np.argwhere(~block.T)[0]
            return known[begin + layer], int(copy) if copies > 1 else None
        begin = end
    return None


def _size_before(
    sizes: Mapping[str, Any],
    paths: Sequence[str],
    path: str,
) -> float:
    """Return the largest finite size of the output of the layer before one."""
    index = list(paths).index(path)
    if index == 0:
        return np.nan
    before = sizes.get(paths[index - 1], np.array(np.nan))
    finite = before[np.isfinite(before)]
    return float(finite.max()) if finite.size else np.nan


def _backward_place(
    flags: _Flags,
    paths: Sequence[str],
) -> _Place | None:
    known = [path for path in paths if path in flags.gradients]
    reverse = {path: flags.gradients[path].reshape(-1)[::-1] for path in known}
    found = _first(reverse, known[::-1])
    wrong = [path for path, finite in flags.parameter_gradients.items() if not finite]
    if found is None:
        # All gradients by outputs are finite, so a layer fails in the gradient by its parameters.
        if wrong:
            layer = _layer_of(wrong[-1], known)
            largest = _largest(flags.gradient_sizes, layer)
            return layer, BACKWARD, largest, None
        broken = [path for path, finite in flags.state.items() if not finite]
        if broken:
            # A statistic of a layer overflows, such as the variance of large outputs.
            layer = _layer_of(broken[0], known)
            return layer, FORWARD, _largest(flags.sizes, layer), None
        return None if flags.after else (OPTIMIZER, BACKWARD, np.nan, None)
    path, copy = found
    index = known.index(path)
    if copy is not None:
        copy = flags.gradients[path].size - 1 - copy
    if index == len(known) - 1:
        return LOSS_PLACE, BACKWARD, np.nan, None
    # The gradient by its output is wrong, so the layer that takes this output is at fault; or a
    # later one of which the gradient by parameters alone is wrong.
    later = [_layer_of(name, known) for name in wrong]
    candidates = [layer for layer in later if known.index(layer) > index]
    layer = known[index + 1]
    if candidates:
        layer = max([layer, *candidates], key=known.index)
    return layer, BACKWARD, _largest(flags.gradient_sizes, layer), copy


def _largest(
    sizes: Mapping[str, Any],
    layer: str,
) -> float:
    return float(sizes[layer].max()) if layer in sizes else np.nan


def _layer_of(
    parameter: str,
    layers: Sequence[str],
) -> str:
    """Return the layer that has a parameter: the longest path that its path begins with."""
    found = [layer for layer in layers if parameter.startswith(f"{layer}/")]
    return max(found, key=len) if found else layers[0] if layers else "network"


@per_recipe()
def _flags(
    recipe: Recipe,
    train_state: TrainState,
    inputs: Any,
    targets: Any,
) -> _Flags:
    paths = leaf_paths(recipe)
    found = differentiate(recipe, train_state, inputs, targets, paths)
    params = train_state.params
    penalty: Any = ()
    if recipe.regularizer is not None:
        penalty = jax.value_and_grad(recipe.regularizer)(params)
    after, _ = train_step(
        recipe,
        train_state,
        inputs,
        targets,
    )
    before = {"params": params, "state": train_state.state}
    return _Flags(
        inputs=trees.all_finite((inputs, targets)),
        parameters=trees.finite_leaves(before),
        outputs=_of_each(_finite, found.outputs),
        sizes=_of_each(_size, found.outputs),
        loss=jnp.isfinite(found.loss).all(),
        penalty=trees.all_finite(penalty),
        gradients=_of_each(_finite, found.by_outputs),
        gradient_sizes=_of_each(_size, found.by_outputs),
        parameter_gradients=trees.finite_leaves(found.grads),
        state=trees.finite_leaves(after.state),
        after=trees.all_finite(after.params),
    )


def _of_each(
    function: Callable[[Tapped], Array],
    outputs: Mapping[str, Tapped],
) -> dict[str, Array]:
    return {path: function(tapped) for path, tapped in outputs.items()}


def _finite(tapped: Tapped) -> Array:
    """Return whether an output is finite, one flag for each copy (copies,)."""
    flags = [jnp.isfinite(rows).all(1) for rows in _by_copy(tapped)]
    return jnp.stack(flags).all(0) if flags else jnp.ones(1, bool)


def _size(tapped: Tapped) -> Array:
    """Return the largest size of an output for each copy, (copies,)."""
    sizes = [jnp.abs(rows).max(1).astype(jnp.float32) for rows in _by_copy(tapped)]
    return jnp.stack(sizes).max(0) if sizes else jnp.zeros(1)


def _by_copy(tapped: Tapped) -> list[Array]:
    """Return the floating-point arrays of an output, (copies, numbers) each."""
    copies = tapped.stacked.size
    leaves = jax.tree.leaves(tapped.y)
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return [leaf.reshape(copies, -1) for leaf in floats]
