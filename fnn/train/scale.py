"""The scale of inputs: bytes, or floats up to 1 or 255, and inputs that must have the same one."""

import warnings
import weakref
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError
from fnn.train.augmentation import augmented_inputs
from fnn.train.extremes import Extremes, has_known_extremes, is_on_host, read_extremes
from fnn.train.programs import cached
from fnn.train.recipe import Recipe

# Float images above this are taken for bytes that were converted without scaling. Standardized
# images may exceed 1, but they have negative values too.
MAX_IMAGE_LEVEL = 1.5
IMAGE_RANK = 4  # the batch axis is counted

# Float images below this are centered. Interpolation may leave values a little below 0.
MIN_IMAGE_LEVEL = -0.1

# Nonzero levels of bytes are nearly all above 1, nonzero counts are not.
BYTE_SHARE = 0.5
SAMPLED_ROWS = 1024  # by which this is decided

# Two sets of float images have different scales if the maximum of one is in the first interval, and
# that of the other in the second.
UNIT_SCALE = (0.5, 1.0)
BYTE_SCALE = (64.0, 255.0)


TRAINING = "the training inputs"

TRAINED_ON = "trained on"  # key of the descriptions of these, in the cache of a recipe
LAST_NOTED = "last noted"  # key of a reference to the last of these inputs
MAX_NOTED = 8
COMPARED = "compared scales"  # key of the number of comparisons
ALIKE = "prepares alike"  # key of the result of `_prepares_alike`


class Leaf(NamedTuple):
    """An array of the inputs, without its values.

    Attributes:
        kind: Its group of dtypes, see `_kind`.
        dtype: Its dtype.
        rank: Number of its axes.
        extremes: Its minimum and maximum, or None if they are not known.
        has_levels: Whether it may hold levels of images: it has the rank of images, or its numbers
            are distributed as those of bytes.
    """

    kind: str
    dtype: Any
    rank: int
    extremes: Extremes | None
    has_levels: bool


@cache
def _kind(dtype: Any) -> str:
    """Return the group of a dtype within which `prepare` treats all arrays alike."""
    if dtype == jnp.uint8:
        return "bytes"
    if jnp.issubdtype(dtype, jnp.floating):
        return "floats"
    if dtype == jnp.bool:
        return "bools"
    return "integers"


def describe_inputs(inputs: Any) -> dict[str, Leaf]:
    """Describe the arrays of the inputs by path."""
    # One array is the usual case. Small networks train in less time than trees are walked through.
    if isinstance(inputs, jax.Array | np.ndarray):
        return {"inputs": _describe(inputs)}
    named = trees.named_leaves({"inputs": inputs})
    return {path: _describe(array) for path, array in named.items()}


def _describe(array: Any) -> Leaf:
    kind = _kind(array.dtype)
    extremes = None
    # Only floats have a scale.
    if kind == "floats":
        # The arrays were checked, so that the extremes of floats are known already.
        extremes = read_extremes(array, wait=False)
    has_levels = array.ndim == IMAGE_RANK or _has_byte_levels(array, extremes)
    return Leaf(kind, array.dtype, array.ndim, extremes, has_levels)


def _has_byte_levels(array: Any, extremes: Extremes | None) -> bool:
    """Return whether floats, such as flattened images, are distributed as the levels of bytes."""
    if extremes is None or array.ndim < 2 or _scale(extremes) != BYTE_SCALE:
        return False
    if isinstance(array, np.ndarray):
        rows = array[:SAMPLED_ROWS]
    else:
        # An index would be copied to the device, a static slice is not.
        rows = trees.read(jax.lax.slice_in_dim(array, 0, min(SAMPLED_ROWS, len(array))))
    return bool((rows > 1).sum() > BYTE_SHARE * (rows > 0).sum())


def expect_alike(
    prefix: str,
    recipe: Recipe,
    first: dict[str, Leaf],
    inputs: Any,
    *,
    strict: bool = False,
) -> None:
    """Raise an error unless inputs are like others: in structure, rank, dtype and scale.

    Args:
        prefix: The words before `inputs` in errors.
        recipe: Its `prepare` decides whether bytes and floats have the same scale.
        first: The other inputs.
        inputs: The inputs to check.
        strict: Whether dtypes must be equal, which spares another program.
    """
    leaves = describe_inputs(inputs)
    other = "the first batch" if strict else TRAINING
    if leaves.keys() != first.keys():
        raise TreeMismatchError(
            f"{prefix}inputs",
            f"{', '.join(first)} as in {other}",
            ", ".join(leaves),
            "give all of them one structure",
        )
    for path, leaf in leaves.items():
        model = first[path]
        name = f"{prefix}{path}"
        if leaf.rank != model.rank:
            raise ShapeError(
                name,
                f"{model.rank} axes as in {other}",
                f"{leaf.rank} axes",
                "give all of them one layout",
            )
        _expect_one_scale(name, recipe, other, model, leaf)
        # Equal kinds need one program for each dtype, and give the same numbers.
        is_other = leaf.dtype != model.dtype if strict else leaf.kind != model.kind
        # Bytes and floats of validation may have one scale, as the check above has found.
        kinds = {leaf.kind, model.kind}
        may_differ = not strict and kinds == {"bytes", "floats"}
        if is_other and not may_differ:
            raise DTypeError(
                name,
                f"{model.dtype} as in {other}",
                leaf.dtype,
                "convert all of them alike",
            )


def note_training(recipe: Recipe, inputs: Any) -> None:
    """Remember the kinds and scales of inputs that a recipe is trained on, in its cache.

    Args:
        recipe: From `train.recipe`.
        inputs: Validated arrays.
    """
    # Many runs on the same data, as in a loop over keys, note it once.
    last: list[Any] = cached(recipe, LAST_NOTED, list)
    if last and last[0]() is inputs:
        return
    is_one = isinstance(inputs, jax.Array | np.ndarray)
    # Traced arrays have no values.
    if not all(map(checks.is_concrete, [inputs] if is_one else jax.tree.leaves(inputs))):
        return
    if is_one:
        last[:] = [weakref.ref(inputs)]
    noted = _trained_on(recipe)
    leaves = describe_inputs(_sample(inputs) if is_one else jax.tree.map(_sample, inputs))
    # Runs on other data are few; of many, the first ones are no longer needed.
    if leaves not in noted:
        del noted[: max(0, len(noted) + 1 - MAX_NOTED)]
        noted.append(leaves)


def _trained_on(recipe: Recipe) -> list[dict[str, Leaf]]:
    return cached(recipe, TRAINED_ON, list)


def warn_of_scale(
    prefix: str,
    recipe: Recipe,
    inputs: Any,
) -> None:
    """Warn if inputs have another scale than those that a recipe was trained on in this process.

    This is no error, since the weights may be of another run.

    Args:
        prefix: The words before `inputs` in warnings.
        recipe: Its `prepare` decides whether bytes and floats have the same scale.
        inputs: Validated inputs of an inference.
    """
    trained_on = _trained_on(recipe)
    if not trained_on or (isinstance(inputs, np.ndarray) and _have_compared_some(recipe)):
        return
    if any(_has_no_scale(first, inputs) for first in trained_on):
        return
    if not all(map(checks.is_concrete, jax.tree.leaves(inputs))):
        return
    leaves = describe_inputs(jax.tree.map(_sample, inputs))
    message = ""
    for first in trained_on:
        # The network rejects another structure.
        if leaves.keys() != first.keys():
            return
        try:
            for path, leaf in leaves.items():
                # A dark image of levels up to 255 may have a maximum of 0.
                is_dark = leaf.kind == "floats" and _scale(leaf.extremes) is None
                # Floats without a scale are like all other floats.
                if is_dark and first[path].kind == "floats":
                    continue
                if not (is_dark and _prepares_alike(recipe)):
                    _expect_one_scale(f"{prefix}{path}", recipe, TRAINING, first[path], leaf)
        except ConfigError as error:
            message = str(error)
        else:
            return
    if message:
        warnings.warn(message, stacklevel=4)


def _have_compared_some(recipe: Recipe) -> bool:
    """Count the calls for a recipe; True if arrays of NumPy were compared several times.

    These are not remembered, and small networks predict in less time than a comparison takes. A
    wrong scale shows in the first calls.
    """
    calls = cached(recipe, COMPARED, lambda: [0])
    calls[0] += 1
    return bool(calls[0] > MAX_NOTED)


def _sample(array: Any) -> Any:
    """Return a few rows of an array on the host, which show its scale in little time."""
    if isinstance(array, jax.Array):
        is_readable = array.is_fully_replicated and is_on_host(array)
        if has_known_extremes(array) or not is_readable:
            return array
        array = np.asarray(array)
    return array[:SAMPLED_ROWS]


def _has_no_scale(first: dict[str, Leaf], inputs: Any) -> bool:
    """Return whether one array has the dtype of other inputs, which have no scale to compare.

    Small networks predict in less time than the whole comparison takes.
    """
    if not isinstance(inputs, jax.Array | np.ndarray):
        return False
    model = first.get("inputs")
    return model is not None and inputs.dtype == model.dtype and _scale(model.extremes) is None


def _expect_one_scale(
    name: str,
    recipe: Recipe,
    other: str,
    model: Leaf,
    leaf: Leaf,
) -> None:
    """Raise ConfigError if one array has levels up to 255 and the other up to 1."""
    advice = "give both as bytes, or both as floats in [0, 1]"
    if {leaf.kind, model.kind} == {"bytes", "floats"}:
        floats = leaf if leaf.kind == "floats" else model
        if floats.extremes is None:
            return
        low, high = floats.extremes
        if _prepares_alike(recipe):
            is_same = high > MAX_IMAGE_LEVEL
        else:
            is_same = low >= MIN_IMAGE_LEVEL and high <= MAX_IMAGE_LEVEL
        if is_same:
            return
        expected = f"the scale of {other}, {model.dtype}"
        if model is floats:
            expected += f" in [{low:g}, {high:g}]"
        got = f"{leaf.dtype}"
        if leaf is floats:
            got += f" in [{low:g}, {high:g}]"
        raise ConfigError(
            name,
            expected,
            got,
            advice,
        )
    if leaf.extremes is None or model.extremes is None:
        return
    scales = {_scale(leaf.extremes): leaf, _scale(model.extremes): model}
    if scales.keys() == {UNIT_SCALE, BYTE_SCALE} and scales[BYTE_SCALE].has_levels:
        expected = f"the scale of {other}, at most {model.extremes.high:g}"
        raise ConfigError(
            name,
            expected,
            f"max {leaf.extremes.high:g}",
            advice,
        )


def _scale(extremes: Extremes | None) -> tuple[float, float] | None:
    """Return the scale of the levels of float images, or None if it is not certain."""
    if extremes is None:
        return None
    for scale in (UNIT_SCALE, BYTE_SCALE):
        if extremes.low >= 0 and scale[0] < extremes.high <= scale[1]:
            return scale
    return None


def _prepares_alike(recipe: Recipe) -> bool:
    """Return whether `prepare` maps bytes and floats of the same numbers to the same numbers.

    By default it does not: it divides bytes by 255. This is computed for one number, and only where
    bytes and floats meet.
    """

    def prepared(dtype: Any) -> np.ndarray:
        pixel = jnp.full((1, 1, 1, 1), 128, dtype)
        return np.asarray(recipe.prepare(pixel))

    def compute() -> bool:
        try:
            # Not traced into a program that may be under construction. One pixel may be copied.
            with jax.ensure_compile_time_eval(), trees.allow_transfers():
                of_bytes = prepared(jnp.uint8)
                of_floats = prepared(jnp.result_type(float))
        except Exception:
            # It needs other arrays, such as several: then nothing is known about it.
            return False
        is_close = np.allclose(of_bytes, of_floats, rtol=1e-3)
        return bool(is_close)

    return cached(recipe, ALIKE, compute)


def expect_image_range(
    prefix: str,
    recipe: Recipe,
    inputs: Any,
    needs_levels: bool,
    wait: bool,
) -> None:
    """Raise ConfigError for float images whose levels the recipe's augmentation would misread.

    Args:
        prefix: The words before `images` in errors.
        recipe: From `train.recipe`.
        inputs: Arrays (n, ...).
        needs_levels: Whether the augmentation clips levels to [0, 1].
        wait: Whether to read arrays on an accelerator, which waits for it.
    """
    # Only an augmentation assumes levels in [0, 1].
    if recipe.augment is None:
        return
    for images in augmented_inputs(recipe, inputs):
        is_image = getattr(images, "ndim", 0) == IMAGE_RANK
        if is_image and jnp.issubdtype(images.dtype, jnp.floating):
            _expect_levels(prefix, images, needs_levels, wait)


def _expect_levels(
    prefix: str,
    images: Any,
    needs_levels: bool,
    wait: bool,
) -> None:
    extremes = read_extremes(images, wait)
    if extremes is None:
        return
    low, high = extremes
    if low >= 0 and high > MAX_IMAGE_LEVEL:
        got = f"max {high:g}"
        advice = "keep them uint8, or divide by 255"
    elif needs_levels and low < MIN_IMAGE_LEVEL:
        got = f"min {low:g}"
        advice = "store them in [0, 1], and standardize them in prepare="
    else:
        return
    raise ConfigError(
        f"{prefix}images",
        "[0, 1]",
        got,
        advice,
    )
