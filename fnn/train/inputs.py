"""Validation of the data of a run against its recipe, before anything compiles.

Every function that takes a recipe and data calls `validate_examples`, `validate_inputs` or
`validate_fit`. They check shapes and dtypes by tracing, which is cached, and values on the host.
Traced values have no numbers to check yet.
"""

import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.optim.transforms.loss_scale import has_loss_scale
from fnn.optim.transforms.plateau import has_plateau
from fnn.train.arrays import (
    ONE_CALL,
    Conversion,
    convert_inputs,
    name_prefix,
    validate_data,
)
from fnn.train.augmentation import takes_levels, trace_augmentation
from fnn.train.devices import Rows, is_rows, whole_shapes
from fnn.train.measure import count_examples, measure_examples
from fnn.train.programs import cached, shared
from fnn.train.recipe import Recipe
from fnn.train.scale import (
    describe_inputs,
    expect_alike,
    expect_image_range,
    note_training,
    warn_of_scale,
)
from fnn.train.targets import expect_targets
from fnn.train.tasks import optimizer_of
from fnn.types import Data, OptState, RandomKey, Shape, Step, TrainState

# Purposes of random numbers. The key of a run is folded with one of these, then with a count.
INIT, ORDER, AUGMENT, NOISE, EVALUATION, BOOTSTRAP, AGGREGATION = range(7)

PASSED = "passed"  # key of the arrays that passed the checks, in the cache of a recipe
MAX_PASSED = 8


class NetworkFacts(NamedTuple):
    """Properties of the network and the optimizer that tracing finds.

    Attributes:
        out_shape: Shape of one output of the network, without the batch axis.
        has_plateau: Whether the optimizer monitors the loss of validation.
        has_loss_scale: Whether the optimizer scales the loss.
        needs_levels: Whether the augmentation takes values for levels in [0, 1].
    """

    out_shape: Any
    has_plateau: bool
    has_loss_scale: bool
    needs_levels: bool = False


# Validation at the entrances of training and inference.


def validate_examples(
    where: str,
    recipe: Recipe,
    data: Any,
    *,
    is_step: bool = False,
    trains: bool = False,
) -> Data:
    """Return (inputs, targets) as arrays, and raise an error unless the recipe can use them.

    A batch of a step is copied; other data is for a single call, and stays as it is.

    Args:
        where: Name of the data in errors.
        recipe: From `train.recipe`.
        data: A pair of pytrees of arrays of NumPy, JAX or torch.
        is_step: Whether it is the batch of a single step. Then values on an accelerator are not
            checked, since reading them would wait for the steps before; values that are not finite
            are left to the recipe's `on_nonfinite`, unless it raises; and the loss is traced once
            for all recipes that differ in numbers alone.
        trains: Whether several steps train on the data. Otherwise inputs that do not have the scale
            of those of training cause a warning.

    Raises:
        FnnError: As `validate_data` and `validate_fit`.
    """
    if not is_step and isinstance(data, tuple) and _have_passed(recipe, data):
        return data[0], data[1]
    how = ONE_CALL
    if is_step:
        # A step that is to be skipped may be one of NaN inputs.
        finite = recipe.on_nonfinite == "raise"
        how = Conversion(place=False, wait=False, finite=finite)
    inputs, targets = validate_data(where, data, how)
    _expect_fit(where, recipe, (inputs, targets), is_step)
    if not is_step:
        if trains:
            note_training(recipe, inputs)
        else:
            warn_of_scale(name_prefix(where), recipe, inputs)
        _note_passed(recipe, (inputs, targets))
    return inputs, targets


def validate_inputs(where: str, recipe: Recipe, inputs: Any) -> Any:
    """Check inputs without targets, and raise an error unless the network accepts them.

    Args:
        where: Name of the inputs in errors.
        recipe: From `train.recipe`.
        inputs: Pytree of arrays of NumPy, JAX or torch.

    Raises:
        FnnError: As `validate_data`, or the network does not accept arrays of these shapes.
    """
    if _have_passed(recipe, (inputs,)):
        return inputs
    converted = convert_inputs(where, inputs)
    _trace_network(recipe, converted)
    if recipe.augment is not None:
        # The scale of inputs is that of training.
        key = "levels", _signature(converted)
        needs_levels = cached(recipe, key, lambda: takes_levels(recipe, converted))
        expect_image_range("", recipe, converted, needs_levels, wait=True)
    warn_of_scale("", recipe, converted)
    _note_passed(recipe, (converted,))
    return converted


def validate_fit(recipe: Recipe, data: Data, valid: Data | None) -> Shape:
    """Raise an error unless the recipe can train on the data.

    Args:
        recipe: From `train.recipe`.
        data: Validated (inputs, targets).
        valid: Validated (inputs, targets) for validation.

    Returns:
        The shape of one output of the network, without the batch axis.

    Raises:
        FnnError: Network, loss or metrics fail on arrays of these shapes.
        ConfigError: Float images are not in [0, 1], an option needs validation data, or inputs of
            training and validation have different scales.
        LabelError: A target is not a class of the network, or not a distribution over its classes.
        TreeMismatchError: Inputs of training and validation have different structures.
    """
    facts = _expect_fit("data", recipe, data)
    _expect_options(recipe, facts, valid)
    if valid is not None:
        _expect_fit("valid", recipe, valid)
        expect_alike("valid ", recipe, describe_inputs(data[0]), valid[0])
        _expect_accepted(recipe, data[0], valid[0])
    note_training(recipe, data[0])
    return facts.out_shape


def _expect_fit(
    where: str,
    recipe: Recipe,
    data: Data,
    is_step: bool = False,
) -> NetworkFacts:
    """Raise an error unless network, loss, metrics and augmentation accept the examples."""
    inputs, targets = data
    signature = _signature(data)

    def trace() -> NetworkFacts:
        facts = _trace_network(recipe, inputs)
        _trace_loss(recipe, facts.out_shape, targets)
        return facts._replace(needs_levels=trace_augmentation(recipe, inputs, targets))

    # A loss checks its numbers when it is called, so that each recipe has to be traced. In a loop
    # of steps that makes its recipe in each step, the time for this would matter.
    remember: Callable[..., NetworkFacts] = shared if is_step else cached
    facts = remember(recipe, ("fit", signature), trace)
    prefix = name_prefix(where)
    expect_image_range(prefix, recipe, inputs, facts.needs_levels, wait=not is_step)
    expect_targets(prefix, recipe, targets, facts.out_shape, wait=not is_step)
    return facts


def _have_passed(recipe: Recipe, arrays: tuple[Any, ...]) -> bool:
    """Return whether these arrays of JAX, which are immutable, have passed the checks before."""
    references = _passed(recipe).get(_identity(arrays))
    # Another array may have the id of a deleted one.
    return references is not None and all(
        reference() is array for reference, array in zip(references, arrays, strict=True)
    )


def _note_passed(recipe: Recipe, arrays: tuple[Any, ...]) -> None:
    """Remember arrays that have passed the checks, if they are of JAX and not traced."""
    if not all(isinstance(array, jax.Array) and checks.is_concrete(array) for array in arrays):
        return
    passed = _passed(recipe)
    # A few sets are evaluated in turn.
    if len(passed) >= MAX_PASSED:
        passed.clear()
    passed[_identity(arrays)] = [weakref.ref(array) for array in arrays]


def _passed(recipe: Recipe) -> dict[Hashable, list[Any]]:
    """Return weak references to the arrays that passed, by `_identity`."""
    return cached(recipe, PASSED, dict)


def _identity(arrays: tuple[Any, ...]) -> Hashable:
    # The default dtype changes under jax.enable_x64.
    return jax.dtypes.canonicalize_dtype(float), *map(id, arrays)


# Shapes and dtypes, by tracing.


def _signature(tree: Any) -> Hashable:
    """Return everything that tracing depends on: structure, shapes of an example, and dtypes."""
    leaves, structure = jax.tree.flatten(tree)
    # Training and validation have one trace, although their numbers of examples differ.
    arrays = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    # The default dtype changes under jax.enable_x64.
    return structure, arrays, jax.dtypes.canonicalize_dtype(float)


def _trace_network(recipe: Recipe, inputs: Any) -> NetworkFacts:
    """Return facts about the network; raises the error of a network that rejects these inputs.

    Tracing takes longer than a short run, so it is done once for arrays of these shapes.
    """

    def trace() -> NetworkFacts:
        out_shape, opt_state = _trace_init(recipe, inputs)
        return NetworkFacts(out_shape, has_plateau(opt_state), has_loss_scale(opt_state))

    return shared(recipe, ("network", _signature(inputs)), trace)


def _expect_accepted(recipe: Recipe, inputs: Any, valid_inputs: Any) -> None:
    """Raise ShapeError unless the network of the training inputs accepts those of validation."""
    leaves, valid_leaves = jax.tree.leaves(inputs), jax.tree.leaves(valid_inputs)
    if [leaf.shape[1:] for leaf in leaves] == [leaf.shape[1:] for leaf in valid_leaves]:
        return
    shape = example_shapes(recipe, inputs)

    def infer(key: RandomKey, x: Any) -> Any:
        params, state, _ = recipe.network.init(key, shape)
        return recipe.network.apply(params, state, recipe.prepare(x), train=False)[0]

    # A fully convolutional network accepts images of any size.
    try:
        jax.eval_shape(infer, jax.eval_shape(jax.random.key, 0), whole_shapes(valid_inputs))
    except (ShapeError, TreeMismatchError) as error:
        raise ShapeError(
            "valid inputs",
            f"examples of the shape of training, {checks.describe_tree(inputs)}",
            checks.describe_tree(valid_inputs),
            "give both one shape",
        ) from error


def _trace_init(recipe: Recipe, inputs: Any) -> tuple[Any, OptState]:
    """Return the shape of one output and the shapes of the optimizer's first state."""
    out_shapes: list[Any] = []
    shape = example_shapes(recipe, inputs)

    def init(key: RandomKey) -> OptState:
        params, _, out_shape = recipe.network.init(key, shape)
        # Shapes are Python values: they leave the trace through the list.
        out_shapes.append(out_shape)
        # A recipe for inference has no optimizer.
        return None if recipe.optimizer is None else optimizer_of(recipe).init(params)

    is_shape = partial(jax.tree.leaves, is_leaf=trees.is_shape)
    with checks.reject_channels_first(is_shape(shape)):
        # No number is computed, nor a key made.
        opt_state = jax.eval_shape(init, jax.eval_shape(jax.random.key, 0))
    return out_shapes[0], opt_state


def example_shapes(recipe: Recipe, inputs: Any) -> Any:
    """Return the shapes of one example as the network gets it, prepared and without batch axis."""
    prepared = jax.eval_shape(recipe.prepare, whole_shapes(inputs))
    return jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), prepared)


def _trace_loss(recipe: Recipe, out_shape: Any, targets: Any) -> None:
    """Raise an error of the loss or of a metric for outputs of these shapes.

    Only these functions are traced, without the network, which is fast.
    """
    examples, dtype = count_examples(targets), jnp.result_type(float)

    def output(shape: Shape) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((examples, *shape), dtype)

    outputs = jax.tree.map(output, out_shape, is_leaf=trees.is_shape)
    jax.eval_shape(partial(measure_examples, recipe), outputs, targets)


# Options.


def _expect_options(
    recipe: Recipe,
    facts: NetworkFacts,
    valid: Data | None,
) -> None:
    """Raise ConfigError if plateau or early stopping lack validation, or loss_scale may raise."""
    if facts.has_plateau and valid is None:
        raise ConfigError(
            "valid",
            "validation data, whose loss optim.plateau monitors",
            None,
            "give valid=",
        )
    if recipe.early_stopping is not None and valid is None:
        figure = recipe.early_stopping.by.removeprefix("valid_")
        raise ConfigError(
            "valid",
            f"validation data, whose {figure} early_stopping monitors",
            None,
            "give valid=",
        )
    # loss_scale finds the largest usable scale by overflows, which must not end the run.
    if facts.has_loss_scale and recipe.on_nonfinite == "raise":
        raise ConfigError(
            "recipe on_nonfinite",
            "skip or ignore, since optim.loss_scale overflows at times",
            "raise",
            'give on_nonfinite="skip"',
        )


# Access to examples and keys within a run.


def take_examples(data: Any, indices: jax.Array) -> Any:
    """Gather the examples of these indices (batch,), which must be in range."""

    def take(array: Any) -> jax.Array:
        if isinstance(array, Rows):
            return array.take(indices)
        # The promise saves a check of every index.
        return jnp.asarray(array).at[indices].get(mode="promise_in_bounds")

    return jax.tree.map(take, data, is_leaf=is_rows)


def derive_key(train_state: TrainState, purpose: int, count: Step | int) -> RandomKey:
    """Derive the key for a purpose, such as ORDER or NOISE, at a step or epoch of a run."""
    purpose_key = jax.random.fold_in(train_state.key, purpose)
    return jax.random.fold_in(purpose_key, count)
