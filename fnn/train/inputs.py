"""Validation and conversion of what enters a run, on the host, before anything compiles."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError
from fnn.objective.loss import as_loss
from fnn.objective.targets import SUM_TOLERANCE
from fnn.optim.transforms.loss_scale import scales
from fnn.optim.transforms.plateau import observes
from fnn.train.measure import count_examples, measure_examples
from fnn.train.programs import cached
from fnn.train.recipe import Recipe
from fnn.types import Data, Loss, OptState, RandomKey, Shape, Step, TrainState

# The key of a run is folded with one of these by purpose.
INIT, ORDER, AUGMENT, NOISE = range(4)


def own_batch(where: str, batch: Any) -> Data:
    """The batch (inputs, targets) as JAX arrays; what is NumPy's, torch's or a list of numbers is copied.

    For a loader may refill its buffers, and on CPU JAX takes those of NumPy for its own [jax issue 37830]. ConfigError
    for what is no pair, DTypeError for what are no numbers.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = f"a {type(batch).__name__}" + (
            f" with {', '.join(map(str, batch))}" if isinstance(batch, dict) else ""
        )
        advice = 'make pairs of them, as in ((b["image"], b["label"]) for b in loader)'
        raise ConfigError(where, "a pair (inputs, targets)", got, advice)
    inputs, targets = (
        trees.map_named(_own_array, *named)
        for named in zip(("inputs", "targets"), batch, strict=True)
    )
    return inputs, targets


def expect_numbers(name: str, value: Any) -> None:
    """The array holds numbers, and no text, dates or objects."""
    if value.dtype.kind in "OSUMm":
        raise DTypeError(
            name, "an array of numbers", f"dtype {value.dtype}", "convert it to numbers first"
        )


def _own_array(name: str, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array):
        return leaf
    array = np.asarray(leaf)
    expect_numbers(name, array)
    return jnp.array(array.astype(array.dtype.newbyteorder("=")), copy=True)


def enter(where: str, data: Data) -> Data:
    """The data as JAX arrays of one length; an error of fnn for what no run can take in.

    64-bit numbers become 32-bit ones, as JAX has it, if they fit. A NumPy array is copied: its owner may refill it.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ConfigError(
            where,
            "a pair (inputs, targets)",
            type(data).__name__,
            "give both, as in data=(images, labels)",
        )
    inputs, targets = (
        trees.map_named(_enter_array, name, part)
        for name, part in zip(("inputs", "targets"), data, strict=True)
    )
    lengths = {
        name: leaf.shape[0]
        for name, leaf in trees.named_leaves({"inputs": inputs, "targets": targets}).items()
    }
    if len(set(lengths.values())) != 1:
        raise ShapeError(
            where, "inputs and targets of one length", lengths, "give one target for each input"
        )
    if 0 in lengths.values():
        raise ShapeError(
            where,
            "at least one example",
            "a batch axis with 0 examples",
            "check how the data was selected",
        )
    return inputs, targets


def expect_fitting(recipe: Recipe, data: Data, valid: Data | None) -> Shape:
    """The shape of one output; an error unless the data fits what the network puts out and the loss takes in."""
    _expect_images(recipe, data[0])
    out_shape, opt_state = _traced(recipe, data)
    _expect_told(recipe, opt_state, valid)
    for _, targets in filter(None, (data, valid)):
        for loss, own_targets, own_shape in _heads(recipe.loss, targets, out_shape):
            if (
                trees.is_shape(own_shape)
                and hasattr(own_targets, "dtype")
                and checks.is_concrete(own_targets)
            ):
                _expect_labels(loss, own_targets, own_shape)
                _expect_probabilities(loss, own_targets, own_shape)
    return out_shape


def _heads(loss: Loss, targets: Any, out_shape: Any) -> Iterator[tuple[Loss, Any, Any]]:
    """The loss, the targets and the shape of the outputs, for each head of a network that has several."""
    if loss.heads is None:
        yield loss, targets, out_shape
        return
    for head, own in loss.heads.items():
        yield as_loss(head, own), targets[head], out_shape[head]


def _traced(recipe: Recipe, data: Data) -> tuple[Any, OptState]:
    """The shape of one output and the optimizer's first state; an error if network, loss or metrics fail on the data.

    Tracing takes longer than a short run, so the recipe remembers the answer for arrays of these shapes and dtypes.
    """
    leaves, structure = jax.tree.flatten(data)
    arrays = tuple((leaf.shape, leaf.dtype) for leaf in leaves)

    def trace() -> tuple[Any, OptState]:
        out_shape, opt_state = _begun(recipe, data[0])
        _expect_loss(recipe, out_shape, data[1])
        return out_shape, opt_state

    return cached(recipe, ("traced", structure, arrays, jnp.result_type(float)), trace)


def _expect_loss(recipe: Recipe, out_shape: Any, targets: Any) -> None:
    """The loss and the metrics take in such outputs and targets; found by tracing them alone, which is quick."""
    examples, floats = count_examples(targets), jnp.result_type(float)
    outputs = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct((examples, *shape), floats),
        out_shape,
        is_leaf=trees.is_shape,
    )
    jax.eval_shape(partial(measure_examples, recipe), outputs, targets)


def _expect_labels(loss: Loss, targets: jax.Array, out_shape: Shape) -> None:
    """Integer targets, one a row of outputs, are class labels."""
    is_label = loss.classes and jnp.issubdtype(targets.dtype, jnp.integer)
    if is_label and out_shape and targets.shape[1:] == out_shape[:-1]:
        labels, classes = np.asarray(targets).astype(np.int64), out_shape[-1]
        wrong = ((labels < 0) | (labels >= classes)) & ~np.isin(labels, list(loss.ignored))
        advice = "give the network more outputs, or, where targets are no labels, floats"
        _raise_at(LabelError, "labels", f"0 <= label < {classes}", labels, wrong, advice)


def _expect_probabilities(loss: Loss, targets: jax.Array, out_shape: Shape) -> None:
    """Floating-point targets of a loss of probabilities, one a class, are distributions."""
    if (
        loss.probabilities
        and jnp.issubdtype(targets.dtype, jnp.floating)
        and targets.shape[1:] == out_shape
    ):
        sums = np.asarray(targets, np.float64).sum(-1)
        wrong = np.abs(sums - 1) > SUM_TOLERANCE
        _raise_at(
            LabelError,
            "targets",
            "rows that sum to 1",
            sums,
            wrong,
            "the one-hot row of a wrong label is all zeros",
        )


def _expect_images(recipe: Recipe, inputs: Any) -> None:
    """Float images that are to be augmented are on the scale [0, 1], or centered."""
    is_image = getattr(inputs, "ndim", 0) == 4 and jnp.issubdtype(inputs.dtype, jnp.floating)
    if recipe.augment is not None and is_image and checks.is_concrete(inputs):
        low, high = float(inputs.min()), float(inputs.max())
        if low >= 0 and high > 1.5:
            raise ConfigError(
                "images", "[0, 1]", f"max {high:g}", "keep them uint8, or divide by 255"
            )


def _begun(recipe: Recipe, inputs: Any) -> tuple[Any, OptState]:
    """The shape of one output, and the optimizer's first state without its numbers."""
    found: list[Any] = []
    shape = jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), inputs)

    def begin(key: RandomKey) -> OptState:
        params, _, out_shape = recipe.network.init(key, shape)
        found.append(out_shape)
        assert recipe.optimizer is not None  # as expect_recipe has found
        return recipe.optimizer.init(params)

    opt_state = jax.eval_shape(begin, jax.random.key(0))
    return found[0], opt_state


def _expect_told(recipe: Recipe, opt_state: OptState, valid: Data | None) -> None:
    """The optimizer will be told what it goes by."""
    if observes(opt_state) and valid is None:
        raise ConfigError(
            "valid", "validation data, whose loss optim.plateau goes by", None, "give valid="
        )
    if recipe.early_stopping is not None and valid is None:
        expected = f"validation data, whose {recipe.early_stopping.by.removeprefix('valid_')} early_stopping goes by"
        raise ConfigError("valid", expected, None, "give valid=")
    if scales(opt_state) and recipe.on_nonfinite == "raise":
        advice = 'give on_nonfinite="skip"'
        raise ConfigError(
            "recipe on_nonfinite",
            "skip or ignore, since optim.loss_scale overflows at times",
            "raise",
            advice,
        )


def _enter_array(name: str, value: Any) -> jax.Array:
    if not isinstance(value, np.ndarray | jax.Array):
        raise DTypeError(name, "an array", type(value).__name__, "convert it with numpy.asarray")
    expect_numbers(name, value)
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        raise DTypeError(
            name,
            "native byte order",
            f"dtype {value.dtype.str}",
            "use x.astype(x.dtype.newbyteorder('='))",
        )
    if value.ndim == 0:
        raise ShapeError(
            name, "a first axis of examples", "shape ()", "give an array with one row an example"
        )
    if jnp.issubdtype(value.dtype, jnp.floating) and checks.is_concrete(value):
        host = np.asarray(value)
        _raise_at(
            NonFiniteError,
            name,
            "finite numbers",
            host,
            ~np.isfinite(host),
            "drop or fill them first",
        )
    if isinstance(value, jax.Array):
        return value
    _expect_narrow(name, value)
    return jnp.array(value)


def _expect_narrow(name: str, value: np.ndarray) -> None:
    """Without 64-bit numbers, values must fit the 32-bit dtype that JAX takes in their place."""
    narrow = jax.dtypes.canonicalize_dtype(value.dtype)
    if narrow != value.dtype:
        limits = jnp.finfo(narrow) if jnp.issubdtype(narrow, jnp.floating) else jnp.iinfo(narrow)
        wrong = (value < limits.min) | (value > limits.max)
        _raise_at(
            DTypeError,
            name,
            f"numbers that fit {narrow}",
            value,
            wrong,
            "rescale, or enable jax_enable_x64",
        )


def _raise_at(
    error: type, name: str, expected: str, values: np.ndarray, wrong: np.ndarray, advice: str
) -> None:
    """Raise, naming the first wrong value and its place, if any is wrong."""
    if wrong.any():
        place = np.argwhere(wrong)[0]
        shown = int(place[0]) if place.size == 1 else tuple(int(i) for i in place)
        count = f"{int(wrong.sum())} of {wrong.size}"
        raise error(name, expected, f"{values[tuple(place)]} at index {shown} ({count})", advice)


def take(data: Any, examples: jax.Array) -> Any:
    """The examples of these numbers, which are known to be there."""
    return jax.tree.map(
        lambda array: jnp.asarray(array).at[examples].get(mode="promise_in_bounds"), data
    )


def own_key(train_state: TrainState, purpose: int, number: Step) -> RandomKey:
    """The key for a purpose (INIT, ORDER, AUGMENT, NOISE) at a step or an epoch of a run."""
    return jax.random.fold_in(jax.random.fold_in(train_state.key, purpose), number)
