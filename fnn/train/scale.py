"""The scale of inputs: bytes, or floats up to 1 or 255, and inputs that must have the same one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn import trees
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError
from fnn.train.arrays import Extremes, read_extremes
from fnn.train.recipe import Recipe

# Float images above this are taken for bytes that were converted without scaling. Standardized
# images may exceed 1, but they have negative values too.
MAX_IMAGE_LEVEL = 1.5

# Float images below this are centered. Interpolation may leave values a little below 0.
MIN_IMAGE_LEVEL = -0.1

# Two sets of float images have different scales if the maximum of one is in the first interval, and
# that of the other in the second.
UNIT_SCALE, BYTE_SCALE = (0.5, 1.0), (64.0, 255.0)


class Leaf(NamedTuple):
    """An array of the inputs, without its values.

    Attributes:
        kind: Its group of dtypes, see `_kind`.
        dtype: Its dtype.
        rank: Number of its axes.
        extremes: Its minimum and maximum, or None if they are not known.
    """

    kind: str
    dtype: Any
    rank: int
    extremes: Extremes | None


def _kind(dtype: Any) -> str:
    """Return the group of a dtype within which `prepare` treats all arrays alike."""
    if dtype == jnp.uint8:
        return "bytes"
    if jnp.issubdtype(dtype, jnp.floating):
        return "floats"
    return "bools" if dtype == jnp.bool else "integers"


def describe_inputs(inputs: Any) -> dict[str, Leaf]:
    """Describe the arrays of the inputs by path."""
    leaves = {}
    for path, array in trees.named_leaves({"inputs": inputs}).items():
        is_float = jnp.issubdtype(array.dtype, jnp.floating)
        # The arrays were checked, so that the extremes of floats are known already.
        extremes = read_extremes(array, wait=False) if is_float else None
        leaves[path] = Leaf(_kind(array.dtype), array.dtype, array.ndim, extremes)
    return leaves


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
    other = "the first batch" if strict else "the training inputs"
    if leaves.keys() != first.keys():
        raise TreeMismatchError(
            f"{prefix}inputs",
            f"{', '.join(first)} as in {other}",
            ", ".join(leaves),
            "give all of them one structure",
        )
    for path, leaf in leaves.items():
        model = first[path]
        if leaf.rank != model.rank:
            raise ShapeError(
                f"{prefix}{path}",
                f"{model.rank} axes as in {other}",
                f"{leaf.rank} axes",
                "give all of them one layout",
            )
        _expect_one_scale(f"{prefix}{path}", recipe, other, model, leaf)
        is_other = leaf.dtype != model.dtype if strict else leaf.kind != model.kind
        # Bytes and floats of validation may have one scale, as the check above has found.
        if is_other and (strict or {leaf.kind, model.kind} != {"bytes", "floats"}):
            raise DTypeError(
                f"{prefix}{path}",
                f"{model.dtype} as in {other}",
                leaf.dtype,
                "convert all of them alike",
            )


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
        got = f"{leaf.dtype}" + (f" in [{low:g}, {high:g}]" if leaf is floats else "")
        raise ConfigError(name, expected, got, advice)
    # Only images have levels. The batch axis is counted.
    is_image = leaf.rank == model.rank == 4
    if not is_image or leaf.extremes is None or model.extremes is None:
        return
    scales = {_scale(leaf.extremes), _scale(model.extremes)}
    if scales == {UNIT_SCALE, BYTE_SCALE}:
        expected = f"the scale of {other}, at most {model.extremes.high:g}"
        raise ConfigError(name, expected, f"max {leaf.extremes.high:g}", advice)


def _scale(extremes: Extremes) -> tuple[float, float] | None:
    """Return the scale of the levels of float images, or None if it is not certain."""
    for scale in (UNIT_SCALE, BYTE_SCALE):
        if extremes.low >= 0 and scale[0] < extremes.high <= scale[1]:
            return scale
    return None


def _prepares_alike(recipe: Recipe) -> bool:
    """Return whether `prepare` maps bytes and floats of the same numbers to the same numbers.

    By default it does not: it divides bytes by 255. This is computed for one number, and only where
    bytes and floats meet.
    """
    try:
        with jax.ensure_compile_time_eval():
            of_bytes, of_floats = (
                np.asarray(recipe.prepare(jnp.full((1, 1, 1, 1), 128, dtype)))
                for dtype in (jnp.uint8, jnp.result_type(float))
            )
    except Exception:
        # It needs other arrays, such as several: then nothing is known about it.
        return False
    return bool(np.allclose(of_bytes, of_floats, rtol=1e-3))


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
    is_image = getattr(inputs, "ndim", 0) == 4 and jnp.issubdtype(inputs.dtype, jnp.floating)
    if recipe.augment is None or not is_image:
        return
    extremes = read_extremes(inputs, wait)
    if extremes is None:
        return
    low, high = extremes
    if low >= 0 and high > MAX_IMAGE_LEVEL:
        got, advice = f"max {high:g}", "keep them uint8, or divide by 255"
    elif needs_levels and low < MIN_IMAGE_LEVEL:
        got, advice = f"min {low:g}", "store them in [0, 1], and standardize them in prepare="
    else:
        return
    raise ConfigError(f"{prefix}images", "[0, 1]", got, advice)
