"""Validation and conversion of the inputs of a run on the host, before anything compiles."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.augment.policy import Policy, expect_levels
from fnn.data.sets.dataset import DataSet, Labeled
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.objective.loss import as_loss
from fnn.objective.targets import SUM_TOLERANCE
from fnn.optim.transforms.loss_scale import has_loss_scale
from fnn.optim.transforms.plateau import has_plateau
from fnn.train.measure import count_examples, measure_examples
from fnn.train.programs import cached
from fnn.train.recipe import Recipe
from fnn.types import Data, Loss, OptState, RandomKey, Shape, Step, TrainState

# Purposes of random numbers. The key of a run is folded with one of these, then with a count.
INIT, ORDER, AUGMENT, NOISE = range(4)

# Float images above this are taken for bytes that were converted without scaling. Standardized
# images may exceed 1, but they have negative values too.
MAX_IMAGE_LEVEL = 1.5


# Results of loaders that hold pairs, and how to get one of them.
CONTAINERS: dict[Any, str] = {
    DataSet: "one part, as data.digits().train",
    Labeled: "its examples, as data.csv(...).examples",
}


# Conversion of a batch from any loader.


def convert_batch(where: str, batch: Any) -> Data:
    """Convert a batch (inputs, targets) to JAX arrays.

    All arrays but those of JAX are copied, since a loader may refill its buffers, and on CPU JAX
    aliases the memory of NumPy arrays [jax issue 37830].

    Args:
        where: Name of the batch in errors.
        batch: A pair of pytrees of arrays of NumPy, JAX or torch, or lists of numbers.

    Raises:
        ConfigError: The batch is not a pair.
        DTypeError: An array does not hold numbers.
    """
    return _map_pair(_convert_array, where, batch)


def _map_pair(
    function: Callable[[str, Any], jax.Array],
    where: str,
    data: Any,
) -> Data:
    """Apply function(path, leaf) to all leaves of (inputs, targets); ConfigError unless a pair."""
    # These are pairs too, so that their arrays would be taken for inputs and targets.
    for container, parts in CONTAINERS.items():
        if isinstance(data, container):
            raise ConfigError(
                where,
                "a pair (inputs, targets)",
                f"a {container.__name__} of {' and '.join(container._fields)}",
                f"give {parts}",
            )
    if not isinstance(data, tuple | list) or len(data) != 2:
        got = type(data).__name__
        if isinstance(data, dict):
            got += f" with {', '.join(map(str, data))}"
        elif isinstance(data, tuple | list):
            got += f" of {len(data)}"
        raise ConfigError(
            where,
            "a pair (inputs, targets)",
            got,
            'give both, as in (images, labels) or (batch["image"], batch["label"])',
        )
    inputs = trees.map_named(function, "inputs", data[0])
    targets = trees.map_named(function, "targets", data[1])
    return inputs, targets


def _convert_array(name: str, leaf: Any) -> jax.Array:
    # Arrays of JAX are immutable, so they need no copy.
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    _expect_numbers(name, array)
    # JAX accepts native byte order only.
    native = array.astype(array.dtype.newbyteorder("="))
    return jnp.array(native, copy=True)


def _expect_numbers(name: str, value: Any) -> None:
    # The NumPy kinds of objects, bytes, text, timedelta and datetime.
    if value.dtype.kind in "OSUMm":
        raise DTypeError(
            name,
            "an array of numbers",
            f"dtype {value.dtype}",
            "convert it to numbers first",
        )


# Validation of the data of a run.


def validate_data(where: str, data: Data) -> Data:
    """Convert the data of a run to JAX arrays, and raise an error if no run can use it.

    Arrays of 64-bit numbers become 32-bit arrays, as always in JAX, if their values fit. NumPy
    arrays are copied, since the caller may modify them later.

    Args:
        where: Name of the data in errors.
        data: (inputs, targets), pytrees of arrays of NumPy or JAX.

    Raises:
        ConfigError: The data is not a pair.
        DTypeError: A leaf is not an array of numbers, or has numbers that do not fit 32 bits.
        ShapeError: There are no examples, or inputs and targets differ in length.
        NonFiniteError: An array holds NaN or infinity.
    """
    inputs, targets = _map_pair(_validate_array, where, data)
    leaves = trees.named_leaves({"inputs": inputs, "targets": targets})
    lengths = {name: leaf.shape[0] for name, leaf in leaves.items()}
    if len(set(lengths.values())) != 1:
        raise ShapeError(
            where,
            "inputs and targets of one length",
            lengths,
            "give one target for each input",
        )
    if 0 in lengths.values():
        raise ShapeError(
            where,
            "at least one example",
            "a batch axis with 0 examples",
            "check how the data was selected",
        )
    return inputs, targets


def _validate_array(name: str, value: Any) -> jax.Array:
    if not isinstance(value, np.ndarray | jax.Array):
        raise DTypeError(
            name,
            "an array",
            type(value).__name__,
            "convert it with numpy.asarray",
        )
    _expect_numbers(name, value)
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        raise DTypeError(
            name,
            "native byte order",
            f"dtype {value.dtype.str}",
            "use x.astype(x.dtype.newbyteorder('='))",
        )
    if value.ndim == 0:
        raise ShapeError(
            name,
            "a first axis of examples",
            "shape ()",
            "give an array with one row an example",
        )
    # A traced array has no values to check yet.
    if jnp.issubdtype(value.dtype, jnp.floating) and checks.is_concrete(value):
        host = np.asarray(value)
        advice = "drop or fill them first"
        _raise_at_first(NonFiniteError, name, "finite numbers", host, ~np.isfinite(host), advice)
    if isinstance(value, jax.Array):
        return value
    # jnp.array would wrap values that do not fit around, without an error.
    _expect_narrow(name, value)
    return jnp.array(value)


def _expect_narrow(name: str, value: np.ndarray) -> None:
    """Raise DTypeError if a value does not fit the 32-bit dtype that JAX converts 64 bits to."""
    # The same dtype under jax_enable_x64.
    narrow = jax.dtypes.canonicalize_dtype(value.dtype)
    if narrow == value.dtype:
        return
    limits = jnp.finfo(narrow) if jnp.issubdtype(narrow, jnp.floating) else jnp.iinfo(narrow)
    wrong = (value < limits.min) | (value > limits.max)
    advice = "rescale, or enable jax_enable_x64"
    _raise_at_first(DTypeError, name, f"numbers that fit {narrow}", value, wrong, advice)


# Validation of the data against the recipe.


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
        ConfigError: Float images are not in [0, 1], or an option needs validation data.
        LabelError: A target is not a class of the network, or not a distribution over its classes.
    """
    expect_image_range(recipe, data[0])
    out_shape, opt_state = _trace(recipe, data)
    _expect_options(recipe, opt_state, valid)
    for part in (data, valid):
        if part is not None:
            _expect_targets(recipe, part[1], out_shape)
    return out_shape


def _expect_targets(recipe: Recipe, targets: Any, out_shape: Any) -> None:
    """Raise LabelError for targets that the loss of one of the heads cannot use."""
    for loss, head_targets, head_shape in _heads(recipe.loss, targets, out_shape):
        # A head whose outputs or targets are trees of arrays is checked by its loss alone.
        is_array = trees.is_shape(head_shape) and hasattr(head_targets, "dtype")
        if is_array and checks.is_concrete(head_targets):
            _expect_labels(loss, head_targets, head_shape)
            _expect_probabilities(loss, head_targets, head_shape)


def _heads(
    loss: Loss,
    targets: Any,
    out_shape: Any,
) -> Iterator[tuple[Loss, Any, Any]]:
    """Yield the loss, the targets and the output shape of each head of the network."""
    if loss.heads is None:
        yield loss, targets, out_shape
        return
    for head, function in loss.heads.items():
        yield as_loss(head, function), targets[head], out_shape[head]


def _trace(recipe: Recipe, data: Data) -> tuple[Any, OptState]:
    """Return the shape of one output and the shapes of the optimizer's first state.

    Raises an error if network, loss or metrics fail on the data. Tracing takes longer than a short
    run, so the recipe caches the answer for arrays of these shapes and dtypes.
    """
    leaves, structure = jax.tree.flatten(data)
    arrays = tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    def trace() -> tuple[Any, OptState]:
        out_shape, opt_state = _trace_init(recipe, data[0])
        _trace_loss(recipe, out_shape, data[1])
        return out_shape, opt_state

    # The default dtype is part of the key, since it changes under jax.enable_x64.
    return cached(recipe, ("traced", structure, arrays, jnp.result_type(float)), trace)


def _trace_init(recipe: Recipe, inputs: Any) -> tuple[Any, OptState]:
    """Return the shape of one output and the shapes of the optimizer's first state."""
    out_shapes: list[Any] = []
    shape = jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), inputs)

    def init(key: RandomKey) -> OptState:
        params, _, out_shape = recipe.network.init(key, shape)
        # Shapes are Python values: they leave the trace through the list.
        out_shapes.append(out_shape)
        assert recipe.optimizer is not None  # expect_recipe has checked this
        return recipe.optimizer.init(params)

    # Any key serves: no number is computed.
    opt_state = jax.eval_shape(init, jax.random.key(0))
    return out_shapes[0], opt_state


def _trace_loss(recipe: Recipe, out_shape: Any, targets: Any) -> None:
    """Raise an error of the loss or of a metric for outputs of these shapes.

    Only these functions are traced, without the network, which is fast.
    """
    examples, dtype = count_examples(targets), jnp.result_type(float)

    def output(shape: Shape) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((examples, *shape), dtype)

    outputs = jax.tree.map(output, out_shape, is_leaf=trees.is_shape)
    jax.eval_shape(partial(measure_examples, recipe), outputs, targets)


def _expect_labels(loss: Loss, targets: jax.Array, out_shape: Shape) -> None:
    """Raise LabelError for integer targets that are not classes of the outputs."""
    is_label = loss.classes and jnp.issubdtype(targets.dtype, jnp.integer)
    # Outputs are (batch, ..., classes), labels (batch, ...).
    if not is_label or not out_shape or targets.shape[1:] != out_shape[:-1]:
        return
    classes = out_shape[-1]
    labels = np.asarray(targets).astype(np.int64)
    is_ignored = np.isin(labels, list(loss.ignored))
    wrong = ((labels < 0) | (labels >= classes)) & ~is_ignored
    if (labels[wrong] < 0).any():
        advice = "drop these examples, or wrap the loss in objective.ignoring"
    else:
        advice = "give the network more outputs, or, where targets are not labels, floats"
    _raise_at_first(LabelError, "labels", f"0 <= label < {classes}", labels, wrong, advice)


def _expect_probabilities(loss: Loss, targets: jax.Array, out_shape: Shape) -> None:
    """Raise LabelError for targets of a loss of probabilities that are no distributions."""
    is_float = jnp.issubdtype(targets.dtype, jnp.floating)
    # Outputs and targets are (batch, ..., classes).
    if not (loss.probabilities and is_float) or targets.shape[1:] != out_shape:
        return
    # In float64, so that rounding does not grow with the number of classes.
    rows = np.asarray(targets, np.float64)
    sums = rows.sum(-1)
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    advice = "the one-hot row of a wrong label is all zeros"
    _raise_at_first(LabelError, "targets", "rows that sum to 1", sums, wrong, advice)
    advice = "give probabilities, not logits or scores"
    _raise_at_first(LabelError, "targets", "probabilities >= 0", rows, rows < 0, advice)


def expect_image_range(recipe: Recipe, inputs: Any) -> None:
    """Raise ConfigError for float images to be augmented whose levels are not in [0, 1]."""
    is_image = getattr(inputs, "ndim", 0) == 4 and jnp.issubdtype(inputs.dtype, jnp.floating)
    if recipe.augment is None or not is_image or not checks.is_concrete(inputs):
        return
    low, high = float(inputs.min()), float(inputs.max())
    if low >= 0 and high > MAX_IMAGE_LEVEL:
        raise ConfigError(
            "images",
            "[0, 1]",
            f"max {high:g}",
            "keep them uint8, or divide by 255",
        )
    if isinstance(recipe.augment, Policy):
        expect_levels("images", recipe.augment, inputs)


def _expect_options(
    recipe: Recipe,
    opt_state: OptState,
    valid: Data | None,
) -> None:
    """Raise ConfigError if plateau or early stopping lack validation, or loss_scale may raise."""
    if has_plateau(opt_state) and valid is None:
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
    if has_loss_scale(opt_state) and recipe.on_nonfinite == "raise":
        raise ConfigError(
            "recipe on_nonfinite",
            "skip or ignore, since optim.loss_scale overflows at times",
            "raise",
            'give on_nonfinite="skip"',
        )


def _raise_at_first(
    error: type,
    name: str,
    expected: str,
    values: np.ndarray,
    wrong: np.ndarray,
    advice: str,
) -> None:
    """Raise the error, naming the first wrong value and its index, if any value is wrong."""
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    # A one-dimensional index reads better as a number.
    shown_index = index[0] if len(index) == 1 else index
    count = f"{int(wrong.sum())} of {wrong.size}"
    raise error(
        name,
        expected,
        f"{values[index]} at index {shown_index} ({count})",
        advice,
    )


# Access to examples and keys within a run.


def take_examples(data: Any, indices: jax.Array) -> Any:
    """Gather the examples of these indices (batch,), which must be in range."""

    def take(array: Any) -> jax.Array:
        # The promise saves a check of every index.
        return jnp.asarray(array).at[indices].get(mode="promise_in_bounds")

    return jax.tree.map(take, data)


def derive_key(train_state: TrainState, purpose: int, count: Step | int) -> RandomKey:
    """Derive the key for a purpose (INIT, ORDER, AUGMENT or NOISE) at a step or epoch of a run."""
    purpose_key = jax.random.fold_in(train_state.key, purpose)
    return jax.random.fold_in(purpose_key, count)
