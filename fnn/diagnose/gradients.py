"""Whether gradients are right: those of JAX held against differences of the function's own values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fnn import checks, trees
from fnn.errors import DTypeError
from fnn.types import RandomKey

# Three central differences, at steps h/4, h/2 and h, so weighted that the errors of order h² and h⁴ cancel.
STEP = 1e-2
SHARES, WEIGHTS = (0.25, 0.5, 1.0), (64 / 45, -20 / 45, 1 / 45)
AT_ONCE = 64  # coordinates moved side by side
SMALL = 1e-3  # a leaf whose gradients are all smaller than so much of the largest is held to that


class GradientCheck(NamedTuple):
    """How far gradients are from differences, relative to the largest gradient of each leaf."""

    errors: dict[str, float]  # by the leaf's path, such as "0/kernel" in the first argument

    @property
    def error(self) -> float:
        """The largest error; NaN if any gradient is."""
        return float(jnp.max(jnp.array(list(self.errors.values()))))

    @property
    def worst(self) -> str:
        """The path of the leaf with the largest error."""
        return max(self.errors, key=lambda path: jnp.nan_to_num(self.errors[path], nan=jnp.inf))


def check_gradients(key: RandomKey, function: Callable[..., Any], *args: Any) -> GradientCheck:
    """Hold the gradient of every number in the arguments against differences of 6th order: 1e-12 is right, 1e-6 wrong.

    The gradient is that of Σ w y over the floating-point outputs y = function(*args), with weights w ~ N(0, 1) drawn
    from the key. D(h) = (f(x + h) - f(x - h)) / 2h, and the difference is (64 D(h/4) - 20 D(h/2) + D(h)) / 45 with
    h = 0.01, exact for polynomials of degree 6. Where the function has a kink within h of the arguments, as relu has at
    0, differences tell nothing; choose other arguments. DTypeError unless all floating-point numbers are float64, since
    others round too much: run under jax.enable_x64(True).
    """
    checks.key("check_gradients key", key)
    leaves, structure = jax.tree.flatten(args)
    moving = [
        index
        for index, leaf in enumerate(leaves)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]
    for path, leaf in trees.named_leaves(args).items():
        if jnp.result_type(leaf) in (jnp.float32, jnp.float16, jnp.bfloat16):
            raise DTypeError(
                f"check_gradients {path}", "float64", leaf.dtype, "run under jax.enable_x64(True)"
            )

    def floats(moved: list[jax.Array]) -> list[jax.Array]:
        own = dict(zip(moving, moved, strict=True))
        outputs = function(
            *jax.tree.unflatten(structure, [own.get(i, leaf) for i, leaf in enumerate(leaves)])
        )
        return [y for y in jax.tree.leaves(outputs) if jnp.issubdtype(y.dtype, jnp.floating)]

    flat, unravel = ravel_pytree([jnp.asarray(leaves[index]) for index in moving])
    shapes = jax.eval_shape(lambda x: ravel_pytree(floats(unravel(x)))[0], flat)
    weights = jax.random.normal(
        key, shapes.shape, shapes.dtype
    )  # drawn out here: it is slow to compile
    found, wanted = _both(lambda x: jnp.vdot(weights, ravel_pytree(floats(unravel(x)))[0]), flat)
    paths = list(trees.named_leaves(args))
    scale = jnp.maximum(SMALL * jnp.abs(wanted).max(initial=0), jnp.finfo(flat.dtype).tiny)
    errors = {
        paths[index]: float(
            jnp.abs(f - w).max(initial=0) / jnp.maximum(jnp.abs(w).max(initial=0), scale)
        )
        for index, f, w in zip(moving, unravel(found), unravel(wanted), strict=True)
    }
    return GradientCheck(errors)


def _both(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradient by JAX, and by differences."""
    steps = STEP * jnp.array(SHARES)

    def difference(place: jax.Array) -> jax.Array:
        ahead, behind = jax.vmap(lambda move: function(x.at[place].add(move)))(
            jnp.concatenate([steps, -steps])
        ).reshape(2, -1)
        return jnp.vdot(jnp.array(WEIGHTS), (ahead - behind) / (2 * steps))

    @jax.jit
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = min(AT_ONCE, max(x.size, 1))
        # The last row is filled up, so that one program serves all rows.
        places = jnp.minimum(jnp.arange(-(-x.size // width) * width), x.size - 1).reshape(-1, width)
        return jax.grad(function)(x), jax.lax.map(jax.vmap(difference), places).reshape(-1)[
            : x.size
        ]

    return both(x)
