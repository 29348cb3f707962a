"""Check of gradients against finite differences of the function values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.errors import DTypeError
from fnn.types import RandomKey

# A function of all numbers of the arguments, (numbers,) -> ()
ScalarFunction = Callable[[Array], Array]

STEP = 1e-2  # h, the largest step

# Central differences at steps h/4, h/2 and h: with these weights errors of order h², h⁴ cancel.
STEP_FRACTIONS = (
    0.25,
    0.5,
    1.0,
)
WEIGHTS = (
    64 / 45,
    -20 / 45,
    1 / 45,
)

VECTOR_WIDTH = 64  # coordinates that are shifted in one vectorized call
MIN_SCALE = 1e-3  # least scale of a leaf's errors, relative to the largest gradient of all leaves


class GradientCheck(NamedTuple):
    """Errors of gradients, relative to the largest gradient of each leaf.

    Attributes:
        errors: By the path of the leaf, such as "0/kernel" in the first argument.
    """

    errors: dict[str, float]

    @property
    def error(self) -> float:
        """The largest error; NaN if any gradient is NaN."""
        errors = list(self.errors.values())
        # max of Python would skip a NaN, or keep it, by its place.
        largest = jnp.max(jnp.array(errors))
        return float(largest)

    @property
    def worst(self) -> str:
        """The path of the leaf with the largest error."""

        def rank(path: str) -> Array:
            # NaN is the worst of all.
            error = self.errors[path]
            return jnp.nan_to_num(error, nan=jnp.inf)

        return max(self.errors, key=rank)


def check_gradients(
    key: RandomKey,
    function: Callable[..., Any],
    *args: Any,
) -> GradientCheck:
    """Compare the gradient by every number in the arguments with finite differences of 6th order.

    Checked is the gradient of Σ w y over the floating-point outputs y = function(*args), with
    weights w ~ N(0, 1). The difference is (64 D(h/4) - 20 D(h/2) + D(h)) / 45 with
    D(h) = (f(x + h) - f(x - h)) / 2h and h = 0.01. It is exact for polynomials of degree 6. For a
    correct gradient of a smooth function the error is about 1e-12; an error of 1e-6 means that it
    is wrong.

    Differences are not valid where the function has a kink within h of the arguments, as relu has
    at 0: choose other arguments.

    Args:
        key: Draws the weights.
        function: The function to check, of arrays and pytrees of arrays.
        *args: Its arguments. The floating-point leaves are shifted, one number at a time.

    Returns:
        The error of each floating-point leaf.

    Raises:
        DTypeError: A floating-point number is not float64. Others round too much: run under
            jax.enable_x64(True).
    """
    checks.key("check_gradients key", key)
    _expect_float64(args)
    leaves, structure = jax.tree.flatten(args)
    paths = list(trees.named_leaves(args))
    # Indices of the leaves that are shifted.
    indices = [index for index, leaf in enumerate(leaves) if _is_float(leaf)]

    def float_outputs(float_leaves: list[Array]) -> list[Array]:
        replaced = list(leaves)
        for index, leaf in zip(indices, float_leaves, strict=True):
            replaced[index] = leaf
        shifted_args = jax.tree.unflatten(structure, replaced)
        outputs = function(*shifted_args)
        return [y for y in jax.tree.leaves(outputs) if _is_float(y)]

    # All floating-point numbers of the arguments, (numbers,).
    float_arrays = [jnp.asarray(leaves[index]) for index in indices]
    flat, unravel = ravel_pytree(float_arrays)

    def flat_outputs(x: Array) -> Array:
        outputs = float_outputs(unravel(x))
        flat_y, _ = ravel_pytree(outputs)
        return flat_y

    shapes = jax.eval_shape(flat_outputs, flat)
    # Drawn outside of the function, where it is compiled once.
    weights = jax.random.normal(key, shapes.shape, shapes.dtype)

    def weighted_sum(x: Array) -> Array:
        y = flat_outputs(x)
        return jnp.vdot(weights, y)

    got, wanted = _gradient_and_difference(weighted_sum, flat)
    # Rounding of the outputs is relative to the largest gradient, also in leaves with small ones.
    largest = jnp.abs(wanted).max(initial=0)
    tiny = jnp.finfo(flat.dtype).tiny
    min_scale = jnp.maximum(MIN_SCALE * largest, tiny)
    got_leaves = unravel(got)
    wanted_leaves = unravel(wanted)
    errors = {}
    for index, g, w in zip(indices, got_leaves, wanted_leaves, strict=True):
        largest_of_leaf = jnp.abs(w).max(initial=0)
        scale = jnp.maximum(largest_of_leaf, min_scale)
        difference = jnp.abs(g - w).max(initial=0)
        path = paths[index]
        errors[path] = float(difference / scale)
    return GradientCheck(errors)


def _is_float(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.floating)


def _expect_float64(args: Any) -> None:
    narrow = (
        jnp.float32,
        jnp.float16,
        jnp.bfloat16,
    )
    for path, leaf in trees.named_leaves(args).items():
        dtype = jnp.result_type(leaf)
        # Leaves without a derivative, such as integers, may have any dtype.
        if dtype in narrow:
            raise DTypeError(
                f"check_gradients {path}",
                "float64",
                leaf.dtype,
                "run under jax.enable_x64(True)",
            )


def _gradient_and_difference(
    function: ScalarFunction,
    x: Array,
) -> tuple[Array, Array]:
    """Return the gradient of a function at x (numbers,), by JAX and by differences."""
    fractions = jnp.array(STEP_FRACTIONS)
    steps = STEP * fractions

    def difference(index: Array) -> Array:
        """Return the derivative by the number at this index."""

        def shifted_value(shift: Array) -> Array:
            shifted = x.at[index].add(shift)
            return function(shifted)

        shifts = jnp.concatenate([steps, -steps])
        values = jax.vmap(shifted_value)(shifts)
        # (6,) -> (2, 3): forward and backward, one column per step.
        forward, backward = values.reshape(2, -1)
        weights = jnp.array(WEIGHTS)
        slopes = (forward - backward) / (2 * steps)
        return jnp.vdot(weights, slopes)

    @jax.jit
    def both(x: Array) -> tuple[Array, Array]:
        count = x.size
        # Without numbers there is one row still, of width 1.
        width = min(VECTOR_WIDTH, max(count, 1))
        rows = -(-count // width)
        # The last row is padded with the last index, so that one program computes all rows.
        padded = jnp.arange(rows * width)
        indices = jnp.minimum(padded, count - 1)
        # (rows, width), one row at a time to bound memory
        by_rows = indices.reshape(-1, width)
        row_difference = jax.vmap(difference)
        differences = jax.lax.map(row_difference, by_rows)
        # (rows, width) -> (numbers,), without the padding
        flat = differences.reshape(-1)
        gradient = jax.grad(function)(x)
        return gradient, flat[:count]

    return both(x)
