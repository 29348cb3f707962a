"""Check of the derivatives of a user's own layers and loss."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnn.diagnose.findings import ERROR, INFO, WARNING, Finding, Rule
from fnn.diagnose.gradients import check_gradients
from fnn.diagnose.heads import is_library, loss_name
from fnn.nn.core.composite import map_leaves
from fnn.train.recipe import Recipe
from fnn.types import Layer, RandomKey
from fnn.values import Made
from fnn.xla import subjaxprs

WRONG = 1e-2  # relative error of a gradient that is wrong
DOUBTFUL = 1e-4  # and of one that is doubtful
DRAWS = 3  # of inputs; a kink spoils the differences of some of them only
DIRECTIONS = 4  # in which each array of the arguments is shifted
SHIFT = 1e-3  # root mean square of a shift of 1, small next to the distance between kinks
EXAMPLES = 2

GRADIENT = Rule(
    "P12",
    "wrong_gradient",
    "CS231n, gradient checks",
    ("a custom derivative with a mistake", "an operation whose derivative JAX defines as 0"),
    ("correct the custom_vjp or custom_jvp",),
    "diagnose.check_gradients with 64-bit numbers",
)
STOPPED = "stop_gradient"  # the primitive that makes a gradient differ on purpose
STEPWISE = frozenset({"round", "sign", "floor", "ceil"})  # primitives without useful differences
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})


class Error(NamedTuple):
    """The error of a gradient.

    Attributes:
        value: Relative to the largest gradient; 0 if there was nothing to check.
        is_stopped: Whether the function stops a gradient, so that it may differ on purpose.
    """

    value: float
    is_stopped: bool


def derivative_findings(
    key: RandomKey,
    recipe: Recipe,
    inputs: Any,
    outputs: Any,
    targets: Any,
) -> Iterator[Finding]:
    """Find wrong gradients of the layers and the loss that are not of this library.

    Automatic derivatives are right, so that functions with custom ones alone are checked. The
    gradients are compared with differences by `check_gradients`, along some random directions of
    each array, in 64 bits.

    Args:
        key: Draws inputs and directions.
        recipe: From `train.recipe`.
        inputs: Some examples, as they are stored.
        outputs: Outputs of the untrained network.
        targets: Targets of these outputs.
    """
    for index, (path, layer, shape) in enumerate(_own_layers(recipe, inputs)):
        layer_key = jax.random.fold_in(key, index + 1)
        error = _layer_error(layer_key, layer, shape)
        yield from _error_findings(f"layer {path}", path, error)
    is_plain = not loss_name(recipe.loss) and recipe.loss.heads is None
    if is_plain and _is_float(outputs):
        loss_key = jax.random.fold_in(key, 0)
        error = _loss_error(loss_key, recipe, outputs, targets)
        yield from _error_findings("the loss", "loss", error)


def _error_findings(name: str, path: str, error: Error) -> Iterator[Finding]:
    # NaN is no error of the gradient: another rule finds it.
    if not error.value > DOUBTFUL:
        return
    severity = ERROR if error.value > WRONG else WARNING
    title = f"the gradient of {name} differs from differences by {error.value:.2g}"
    if error.is_stopped:
        severity = INFO
        title += ", perhaps by its stop_gradient"
    yield GRADIENT.finding(
        severity,
        title,
        {"error": error.value},
        f"relative error > {DOUBTFUL:g} for a warning, > {WRONG:g} for an error",
        layer=path,
    )


def _own_layers(recipe: Recipe, inputs: Any) -> list[tuple[str, Layer, Any]]:
    """Return path, layer and shape of the input of each leaf layer of the user."""
    found: list[tuple[str, Layer, Any]] = []

    def record(path: str, leaf: Layer) -> Layer:
        if _is_own(leaf):
            return _recording(path, leaf, found)
        return leaf

    network = map_leaves(record, recipe.network)

    def forward(key: RandomKey, inputs: Any) -> Any:
        x = recipe.prepare(inputs)
        shape = jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), x)
        params, state, _ = network.init(key, shape)
        y, _ = network.apply(params, state, x, key=key, train=False)
        return y

    # Shapes alone: nothing is computed.
    jax.eval_shape(forward, jax.random.key(0), inputs)
    return found


def _is_own(leaf: Layer) -> bool:
    """Return whether a layer, its maker or a function that it was given is the user's."""
    inner: Any = leaf
    functions: list[Any] = []
    while isinstance(inner, Made):
        given = inner.arguments.values()
        functions.append(inner.maker)
        functions.extend(filter(callable, given))
        inner = inner.built
    functions.append(inner.apply)
    return any(map(_is_function_of_user, functions))


def _is_function_of_user(function: Any) -> bool:
    # Made values, such as initializers, are of the library.
    if isinstance(function, Made) or is_library(function):
        return False
    module: str = getattr(function, "__module__", None) or ""
    return not module.startswith("jax")


def _recording(path: str, leaf: Layer, found: list[tuple[str, Layer, Any]]) -> Layer:
    def apply(params: Any, state: Any, x: Any, **options: Any) -> Any:
        # A layer of several inputs has no single input to draw, and one of tokens no derivative.
        known = [entry[0] for entry in found]
        if _is_float(x) and path not in known:
            entry = (path, leaf, x.shape[1:])
            found.append(entry)
        return leaf.apply(params, state, x, **options)

    return Layer(leaf.init, apply, leaf.name)


def _layer_error(key: RandomKey, layer: Layer, shape: Any) -> Error:
    """Return the least error over some draws."""
    errors = []
    for draw in range(DRAWS):
        with jax.enable_x64(True):
            error = _draw_error(jax.random.fold_in(key, draw), layer, shape)
        errors.append(error)
        if not error.value > DOUBTFUL:
            break
    return min(errors)


def _draw_error(key: RandomKey, layer: Layer, shape: Any) -> Error:
    """Return the error at a draw of inputs and params, in 64 bits."""
    x_key, init_key, check_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (EXAMPLES, *shape), jnp.float64)
    params, state, _ = layer.init(init_key, shape)
    wide = jax.tree.map(_widened, params)

    def apply(params: Any, x: Any) -> Any:
        y, _ = layer.apply(params, state, x, train=False)
        return y

    return _directional_error(check_key, apply, (wide, x))


def _loss_error(
    key: RandomKey,
    recipe: Recipe,
    outputs: Any,
    targets: Any,
) -> Error:
    with jax.enable_x64(True):
        z = _first_widened(outputs)
        few = jax.tree.map(_first_widened, targets)

        def values(z: Any) -> Any:
            return recipe.loss(z, few)

        return _directional_error(key, values, (z,))


def _primitives(jaxpr: Any) -> set[str]:
    """Return the names of all primitives of a program."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in subjaxprs(equation):
            # A closed jaxpr holds the program itself.
            program = getattr(inner, "jaxpr", inner)
            names |= _primitives(program)
    return names


def _directional_error(key: RandomKey, function: Callable[..., Any], args: Any) -> Error:
    """Return the error of the gradient along some directions of each array."""
    names = _primitives(jax.make_jaxpr(function)(*args).jaxpr)
    is_stopped = STOPPED in names
    # Automatic derivatives are right.
    if not names & CUSTOM or names & STEPWISE:
        return Error(0.0, is_stopped)
    leaves, structure = jax.tree.flatten(args)
    weight_key, direction_key = jax.random.split(key)
    directions = []
    for index, leaf in enumerate(leaves):
        leaf_key = jax.random.fold_in(direction_key, index)
        shape = (DIRECTIONS, *leaf.shape)
        normal = jax.random.normal(leaf_key, shape, leaf.dtype)
        directions.append(SHIFT * normal)

    def shifted(*shifts: jax.Array) -> Any:
        moved = []
        for leaf, direction, shift in zip(leaves, directions, shifts, strict=True):
            # (directions,) by (directions, ...)
            offset = jnp.tensordot(shift, direction, 1)
            moved.append(leaf + offset)
        shifted_args = jax.tree.unflatten(structure, moved)
        return function(*shifted_args)

    zeros = [jnp.zeros(DIRECTIONS, jnp.float64) for _ in leaves]
    check = check_gradients(weight_key, shifted, *zeros)
    return Error(check.error, is_stopped)


def _first_widened(leaf: Any) -> Any:
    """Return the first examples in 64 bits."""
    array = np.asarray(leaf)
    return _widened(array[: 2 * EXAMPLES])


def _widened(leaf: Any) -> Any:
    array = jnp.asarray(leaf)
    # Integers, such as labels, stay as they are.
    return array.astype(jnp.float64) if _is_float(array) else array


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))
