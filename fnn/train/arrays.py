"""Conversion of the arrays of users to JAX arrays, and the checks of one array.

Every function that takes data converts it here, so that a wrong array raises the same error in all
of them. A check of values costs one pass over the array for its minimum and one for its maximum.
"""

import warnings
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from fnn import checks, trees
from fnn.data.sets.dataset import DataSet, Labeled
from fnn.errors import ConfigError, DTypeError, NonFiniteError, ShapeError
from fnn.train.extremes import Extremes, is_small_and_finite, raise_at_first, read_extremes
from fnn.train.layout import Layout
from fnn.types import Data

# Results of loaders that hold pairs, and how to get one of them.
CONTAINERS: dict[Any, str] = {
    DataSet: "one part, as data.digits().train",
    Labeled: "its examples, as data.csv(...).examples",
}
ARRAYS = (np.ndarray, jax.Array)
# float32 keeps float64 numbers of a column apart to this share of their range. More is a mistake:
# 1e-5 are 100,000 levels, and random numbers about 0 lose 1e-8.
MAX_ROUNDING = 1e-5
ROUNDED_ROWS = 4096  # that are compared at a time
SAMPLED_ROWS = 16  # by which columns of wide ranges are recognized


@runtime_checkable
class HasArray(Protocol):
    """An array of any library that NumPy can read."""

    def __array__(self, dtype: Any = None) -> np.ndarray:
        """Return it as an array of NumPy."""


class Conversion(NamedTuple):
    """Options of a conversion of arrays.

    Attributes:
        copy: Whether to return copies. Otherwise arrays of NumPy stay as they are, for a single
            call of a compiled program.
        place: Whether copies are arrays of JAX. A compiled program takes those of NumPy faster.
        wait: Whether to read arrays on an accelerator, which waits for it.
        finite: Whether NaN and infinity are errors.
    """

    copy: bool = True
    place: bool = True
    wait: bool = True
    finite: bool = True


FULL = Conversion()
ONE_CALL = Conversion(copy=False)
# Arrays stay on the host, from which each device gets its part.
DIVIDED = Conversion(place=False)


def conversion_for(layout: Layout | None) -> Conversion:
    """Return the conversion of the data of a run: on one device, or for the devices of a layout."""
    return FULL if layout is None else DIVIDED


def validate_data(
    where: str,
    data: Any,
    how: Conversion = FULL,
) -> Data:
    """Convert (inputs, targets) to JAX arrays; raise an error if these are no examples.

    All arrays but those of JAX are copied, since their owner may modify them later, and on CPU JAX
    aliases the memory of NumPy arrays [jax issue 37830]. Arrays of 64-bit numbers become 32-bit
    arrays, as always in JAX, if their values fit.

    Args:
        where: Name of the data in errors.
        data: A pair of pytrees of arrays of NumPy, JAX or torch.
        how: The checks of values, and copies.

    Raises:
        ConfigError: The data is not a pair.
        DTypeError: An array does not hold real numbers, or has numbers that do not fit 32 bits.
        ShapeError: There are no examples, or arrays differ in length.
        NonFiniteError: An array holds NaN or infinity.
    """
    # These are pairs too, so that their parts would be taken for inputs and targets.
    for container, parts in () if type(data) is tuple else CONTAINERS.items():
        if isinstance(data, container):
            raise ConfigError(
                where,
                "a pair (inputs, targets)",
                f"a {container.__name__} of {' and '.join(container._fields)}",
                f"give {parts}",
            )
    if not isinstance(data, tuple | list) or len(data) != 2:
        got = type(data).__name__
        if isinstance(data, np.ndarray | jax.Array):
            got = f"{'ndarray' if isinstance(data, np.ndarray) else 'Array'} {checks.show(data)}"
        elif isinstance(data, dict):
            got = f"dict with {', '.join(map(str, data))}"
        elif isinstance(data, tuple | list):
            got = f"{type(data).__name__} of {len(data)}"
        raise ConfigError(
            where,
            "a pair (inputs, targets)",
            got,
            'give both, as in (images, labels) or (batch["image"], batch["label"])',
        )
    prefix = name_prefix(where)
    # The caller gave arrays to be copied to the device, so these are no implicit transfers.
    with trees.allow_transfers() if how.place else trees.NO_CONTEXT:
        inputs = _convert_tree(f"{prefix}inputs", data[0], how)
        targets = _convert_tree(f"{prefix}targets", data[1], how)
    _expect_one_length(where, {"inputs": inputs, "targets": targets})
    return inputs, targets


def convert_inputs(where: str, inputs: Any) -> Any:
    """Check inputs without targets for a single call, as `validate_data` does."""
    converted = _convert_tree("inputs", inputs, ONE_CALL)
    _expect_one_length(where, {"inputs": converted})
    return converted


def name_prefix(where: str) -> str:
    """Return the words before `inputs` and `targets` in errors: none for the data itself."""
    return "" if where in ("data", "batch") else f"{where} "


def _convert_tree(
    name: str,
    tree: Any,
    how: Conversion,
) -> Any:
    # The common case of one array needs no path.
    if isinstance(tree, ARRAYS):
        return _convert_array(name, tree, how)

    def convert(path: str, leaf: Any) -> Any:
        return _convert_array(path, leaf, how)

    converted = trees.map_named(convert, name, tree, is_leaf=_is_leaf)
    if not jax.tree.leaves(converted):
        raise ShapeError(
            name,
            "at least one array",
            checks.show(tree),
            "give an array",
        )
    return converted


def _is_leaf(node: Any) -> bool:
    # A list of arrays is structure, a list of numbers is one array of another kind.
    return isinstance(node, list) and not any(
        isinstance(leaf, np.ndarray | jax.Array) for leaf in jax.tree.leaves(node)
    )


def _expect_one_length(where: str, data: Any) -> None:
    leaves = list(data.values())
    # Arrays are leaves, and a pass over a tree takes longer than to see that.
    if not all(isinstance(leaf, ARRAYS) for leaf in leaves):
        leaves = jax.tree.leaves(data)
    examples = leaves[0].shape[0]
    if any(leaf.shape[0] != examples for leaf in leaves):
        lengths = {name: leaf.shape[0] for name, leaf in trees.named_leaves(data).items()}
        raise ShapeError(
            where,
            "inputs and targets of one length" if "targets" in data else "inputs of one length",
            lengths,
            "give one target for each input",
        )
    if examples == 0:
        raise ShapeError(
            where,
            "at least one example",
            "a batch axis with 0 examples",
            "check how the data was selected",
        )


# One array.


def _convert_array(
    name: str,
    leaf: Any,
    how: Conversion,
) -> Any:
    is_jax = isinstance(leaf, jax.Array)
    array = leaf if is_jax else _as_numpy(name, leaf)
    dtype = array.dtype
    is_float, is_number = _kinds(dtype)
    if not is_number:
        _raise_no_number(name, dtype)
    if array.ndim == 0:
        raise ShapeError(
            name,
            "a first axis of examples",
            "shape ()",
            "give an array with one row an example",
        )
    # JAX narrows 64-bit numbers; integers of fewer bits fit as they are.
    narrow = dtype if is_jax else jax.dtypes.canonicalize_dtype(dtype)
    # The extremes find what else is wrong.
    is_fine = narrow == dtype and (not is_float or is_small_and_finite(array))
    if not is_fine:
        extremes = read_extremes(array, how.wait)
        if extremes is not None:
            _expect_values(name, array, extremes, narrow, how)
            if is_float and narrow != dtype:
                _warn_of_rounding(name, array, extremes, narrow)
    if is_jax or not how.copy:
        return array
    # JAX may use the memory of the copy, which has no other owner.
    copied = array.astype(narrow)
    return jnp.asarray(copied) if how.place else copied


@cache
def _kinds(dtype: Any) -> tuple[bool, bool]:
    """Return whether a dtype is of floats, and whether it is of real numbers or booleans."""
    is_float = jnp.issubdtype(dtype, jnp.floating)
    # A time span is an integer for NumPy.
    is_integer = jnp.issubdtype(dtype, jnp.integer) and dtype.kind != "m"
    return is_float, is_float or is_integer or dtype == jnp.bool


def _as_numpy(name: str, leaf: Any) -> np.ndarray:
    """Return the leaf as a NumPy array; DTypeError if this fails or would drop a mask."""
    if isinstance(leaf, np.ma.MaskedArray):
        return checks.unmasked(name, leaf)
    array = leaf
    if not isinstance(leaf, np.ndarray):
        # Arrays of other libraries have this method.
        if isinstance(leaf, type) or not isinstance(leaf, HasArray):
            advice = "convert it with numpy.asarray"
            raise DTypeError(
                name,
                "an array",
                type(leaf).__name__,
                advice,
            )
        array = checks.as_array(name, leaf)
    return checks.native(name, array)


def _raise_no_number(name: str, dtype: Any) -> None:
    expected = "an array of numbers"
    advice = "convert it to numbers first"
    if jnp.issubdtype(dtype, jnp.complexfloating):
        expected = "an array of real numbers"
        advice = "give both parts as channels"
    raise DTypeError(
        name,
        expected,
        f"dtype {dtype}",
        advice,
    )


def _expect_values(
    name: str,
    array: Any,
    extremes: Extremes,
    narrow: Any,
    how: Conversion,
) -> None:
    """Raise NonFiniteError for NaN and infinity, DTypeError for numbers beyond the dtype."""
    low, high = extremes
    is_float = jnp.issubdtype(narrow, jnp.floating)
    # Both comparisons are False for NaN.
    is_finite = low > -np.inf and high < np.inf
    if is_float and how.finite and not is_finite:
        host = trees.read(array)
        wrong = ~np.isfinite(host)
        expected = "finite numbers"
        raise_at_first(NonFiniteError, name, expected, host, wrong, "drop or fill them first")
    if narrow == array.dtype:
        return
    limits = jnp.finfo(narrow) if is_float else jnp.iinfo(narrow)
    smallest = np.asarray(limits.min).item()
    largest = np.asarray(limits.max).item()
    # The comparisons are False for NaN too, next to which other numbers may be too large.
    if not (low >= smallest and high <= largest):
        is_outside = (array < smallest) | (array > largest)
        # Infinity stays infinity.
        wrong = is_outside & np.isfinite(array)
        expected = f"numbers that fit {narrow}"
        advice = "rescale, or enable jax_enable_x64"
        raise_at_first(DTypeError, name, expected, array, wrong, advice)


def _warn_of_rounding(
    name: str,
    array: np.ndarray,
    extremes: Extremes,
    narrow: Any,
) -> None:
    """Warn if narrowing blurs a column, as one of times in seconds since 1970.

    Columns are compared, since the range of all of them may be far larger than that of one.
    """
    # NaN and infinity have no range; they are errors, or belong to steps that are skipped.
    if not max(abs(extremes.low), abs(extremes.high)) < np.inf:
        return
    columns = array if array.ndim > 1 else array[:, None]
    for index in _narrow_columns(columns, float(jnp.finfo(narrow).eps)):
        column = columns[..., index]
        span = column.max() - column.min()
        error = 0.0
        for start in range(0, len(column), ROUNDED_ROWS):
            part = column[start : start + ROUNDED_ROWS]
            error = max(error, float(abs(part.astype(narrow) - part).max()))
        # A constant column has nothing to keep apart.
        if error > MAX_ROUNDING * span > 0:
            where = f"{name} column {index}" if array.ndim > 1 else name
            message = (
                f"{where}: {narrow} rounds numbers in [{column.min():.10g}, {column.max():.10g}] "
                f"by up to {error:.2g}; subtract their mean in float64 first, as by "
                "x = data.standardize(x)(x)"
            )
            # One column stands for all.
            warnings.warn(message, stacklevel=2)
            return


def _narrow_columns(columns: np.ndarray, eps: float) -> list[int]:
    """Return the columns (..., columns) whose range may be too small next to their numbers.

    A few examples show this of nearly all others, which takes less time than a pass over all.
    """
    places = np.linspace(0, len(columns) - 1, SAMPLED_ROWS).astype(int)
    # (examples, columns)
    sample = columns[places].reshape(-1, columns.shape[-1])
    span = sample.max(0) - sample.min(0)
    largest = abs(sample).max(0)
    # Rounding is by eps / 2 of a number at most; the largest of all may exceed that of the sample
    # by their span, which is far smaller.
    is_narrow = (largest > 0) & (span * MAX_ROUNDING <= largest * eps)
    return np.flatnonzero(is_narrow).tolist()
