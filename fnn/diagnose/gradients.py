"""Check of gradients against finite differences of the function values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.errors import DTypeError
from fnn.types import RandomKey

STEP = 1e-2  # h, the largest step

# Central differences at steps h/4, h/2 and h: with these weights errors of order h², h⁴ cancel.
STEP_FRACTIONS = (0.25, 0.5, 1.0)
WEIGHTS = (64 / 45, -20 / 45, 1 / 45)

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
        return float(jnp.max(jnp.array(list(self.errors.values()))))

    @property
    def worst(self) -> str:
        """The path of the leaf with the largest error."""
        return max(self.errors, key=lambda path: jnp.nan_to_num(self.errors[path], nan=jnp.inf))


def check_gradients(key: RandomKey, function: Callable[..., Any], *args: Any) -> GradientCheck:
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

    def float_outputs(float_leaves: list[jax.Array]) -> list[jax.Array]:
        replaced = list(leaves)
        for index, leaf in zip(indices, float_leaves, strict=True):
            replaced[index] = leaf
        outputs = function(*jax.tree.unflatten(structure, replaced))
        return [y for y in jax.tree.leaves(outputs) if _is_float(y)]

    # All floating-point numbers of the arguments, (numbers,).
    flat, unravel = ravel_pytree([jnp.asarray(leaves[index]) for index in indices])

    def flat_outputs(x: jax.Array) -> jax.Array:
        return ravel_pytree(float_outputs(unravel(x)))[0]

    shapes = jax.eval_shape(flat_outputs, flat)
    # Drawn outside of the function, where it is compiled once.
    weights = jax.random.normal(key, shapes.shape, shapes.dtype)
    got, wanted = _gradient_and_difference(lambda x: jnp.vdot(weights, flat_outputs(x)), flat)
    # Rounding of the outputs is relative to the largest gradient, also in leaves with small ones.
    largest = jnp.abs(wanted).max(initial=0)
    min_scale = jnp.maximum(MIN_SCALE * largest, jnp.finfo(flat.dtype).tiny)
    errors = {}
    for index, g, w in zip(indices, unravel(got), unravel(wanted), strict=True):
        scale = jnp.maximum(jnp.abs(w).max(initial=0), min_scale)
        errors[paths[index]] = float(jnp.abs(g - w).max(initial=0) / scale)
    return GradientCheck(errors)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _expect_float64(args: Any) -> None:
    for path, leaf in trees.named_leaves(args).items():
        if jnp.result_type(leaf) in (jnp.float32, jnp.float16, jnp.bfloat16):
            raise DTypeError(
                f"check_gradients {path}",
                "float64",
                leaf.dtype,
                "run under jax.enable_x64(True)",
            )


def _gradient_and_difference(
    function: Callable[[jax.Array], jax.Array], x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the gradient of a function at x (numbers,), by JAX and by differences."""
    steps = STEP * jnp.array(STEP_FRACTIONS)

    def difference(index: jax.Array) -> jax.Array:
        """Return the derivative by the number at this index."""
        shifts = jnp.concatenate([steps, -steps])
        values = jax.vmap(lambda shift: function(x.at[index].add(shift)))(shifts)
        # (6,) -> (2, 3): forward and backward, one column per step.
        forward, backward = values.reshape(2, -1)
        return jnp.vdot(jnp.array(WEIGHTS), (forward - backward) / (2 * steps))

    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = min(VECTOR_WIDTH, max(x.size, 1))
        rows = -(-x.size // width)
        # The last row is padded with the last index, so that one program computes all rows.
        indices = jnp.minimum(jnp.arange(rows * width), x.size - 1)
        # (rows, width), one row at a time to bound memory
        differences = jax.lax.map(jax.vmap(difference), indices.reshape(-1, width))
        return jax.grad(function)(x), differences.reshape(-1)[: x.size]

    return both(x)
