"""The head of a network, the layers before it, and errors of paths and weights."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import jax

from fnn import checks, trees
from fnn.errors import ConfigError, FnnError, ShapeError
from fnn.nn import replace, unfreeze
from fnn.nn.core.composite import expect_layer, layer_paths, parts
from fnn.train.evaluate import weights
from fnn.train.inputs import example_shapes
from fnn.train.programs import shared
from fnn.train.recipe import Recipe, expect_recipe, recipe
from fnn.types import KERNEL, Layer, Params, Result, Shape, State, TrainState, Weights

# The placeholder of part i ends in the shape (FIRST + i,), which no real layer has.
FIRST = 1_000_003
MAX_LISTED = 8  # paths in the message of an error


def as_recipe(where: str, value: Any) -> Recipe:
    """Return a recipe, or that of a network alone; ConfigError for anything else."""
    if isinstance(value, Layer):
        # With the defaults, such as `data.to_float` for the inputs.
        return recipe(value)
    return expect_recipe(where, value, trains=False)


def fitting_weights(
    where: str,
    made: Recipe,
    train_state: TrainState | Weights,
    inputs: Any,
) -> Weights:
    """Return the weights of a recipe; TreeMismatchError if they are those of another network.

    Args:
        where: Name of the function in errors.
        made: The recipe.
        train_state: A train state, or weights.
        inputs: Validated inputs.
    """
    if not isinstance(train_state, TrainState | Weights):
        advice = "give result.train_state, or fnn.types.Weights(params, state)"
        got = f"a {type(train_state).__name__}"
        raise ConfigError(
            f"{where} train_state",
            "a TrainState, or Weights",
            got,
            advice,
        )
    given = weights(made, train_state)
    shape = example_shapes(made, inputs)

    def init() -> tuple[Params, State]:
        # Abstractly: shapes are compared, and nothing is drawn.
        return jax.eval_shape(lambda key: made.network.init(key, shape)[:2], jax.random.key(0))

    leaves, structure = jax.tree.flatten(shape, is_leaf=trees.is_shape)
    # The shapes of the params follow from those of the inputs, and their dtype from jax_enable_x64.
    key = ("weights", tuple(leaves), structure, jax.dtypes.canonicalize_dtype(float))
    params, state = shared(made, key, init)
    trees.expect_like(f"{where} params", given.params, params)
    trees.expect_like(f"{where} state", given.state, state)
    return given


def expect_plain(where: str, network: Any, given: Any) -> Weights:
    """Return weights without frozen params; ConfigError unless these are a network and weights."""
    expect_layer(f"{where} network", network)
    if isinstance(given, TrainState):
        advice = "give train.weights(recipe, train_state)"
        raise ConfigError(
            f"{where} weights",
            "Weights",
            "a TrainState",
            advice,
        )
    if not isinstance(given, Weights):
        got, advice = type(given).__name__, "as in fnn.types.Weights(params, state)"
        if isinstance(given, Result):
            got, advice = "a Result", "give train.weights(recipe, result.train_state)"
        raise ConfigError(
            f"{where} weights",
            "Weights",
            got,
            advice,
        )
    trees.expect_not_donated(f"{where} weights", given)
    return Weights(*unfreeze(given.params, given.state))


def last_part(layer: Layer) -> str | None:
    """Return the name of the part whose output is that of the layer, or None if no part is.

    The layer is initialized with a placeholder for each part, which ends in a shape of its own. The
    output shape of a chain is that of its last part; that of a residual connection is of no part.
    """
    if not layer.parts:
        return None
    shapes = {name: (FIRST + index,) for index, name in enumerate(layer.parts)}
    assert layer.with_parts is not None  # a layer with parts always has it
    placed = layer.with_parts({name: _placeholder(shape) for name, shape in shapes.items()})
    try:
        # The shape of the input is that of no placeholder either.
        _, _, out_shape = placed.init(jax.random.key(0), (FIRST - 1,))
    except ShapeError:
        # Branches of different shapes cannot be added, and a repeat ends as it begins.
        return None
    # The input passed on unchanged, as by an empty chain, is of no part.
    found = [name for name, shape in shapes.items() if shape == out_shape]
    return found[0] if found else None


def _placeholder(out_shape: Shape) -> Layer:
    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, out_shape

    def apply(params: Params, state: State, x: Any, **_: Any) -> tuple[Any, State]:
        return x, state

    return Layer(init, apply)


def find_head(
    where: str,
    network: Layer,
    given: Weights,
) -> str | None:
    """Return the path of the dense layer whose output is that of the network, or None.

    Args:
        where: Name of the function in errors.
        network: The network.
        given: Its weights.

    Raises:
        ConfigError: The last layer cannot be found, since a layer around it needs its params.
    """
    path, layer = "", network
    try:
        # From the outside inwards, to a layer without parts.
        while layer.parts:
            name = last_part(layer)
            if name is None:
                return None
            path = f"{path}/{name}" if path else name
            layer = parts(layer)[name]
    except FnnError as error:
        raise ConfigError(
            f"{where} network",
            "one whose last layer can be found",
            f"{type(error).__name__} at {path or 'its top'}",
            "give the path of the layer",
        ) from error
    kernel = kernels(given).get(path)
    # A dense kernel is (width, outputs); that of a convolution has more axes.
    return path if kernel is not None and kernel.ndim == 2 else None


def kernels(given: Weights) -> dict[str, Any]:
    """Return the kernels of all layers by the path of the layer, also frozen ones."""
    params, _ = unfreeze(given.params, given.state)
    # With the slash, the name of the leaf has to be exactly this one.
    end = f"/{KERNEL}"
    leaves = trees.named_leaves(params).items()
    return {path.removesuffix(end): leaf for path, leaf in leaves if path.endswith(end)}


def expect_head(
    where: str,
    network: Layer,
    given: Weights,
    head: str | None,
) -> str:
    """Return the path of the head, the given one or that of the last dense layer.

    Raises:
        ConfigError: There is no layer at the path, or the network ends in no dense layer.
    """
    if head is not None:
        return expect_path(f"{where} head", network, head)
    found = find_head(where, network, given)
    if found is None and not network.parts:
        # A single dense layer, for example, has no path by which it could be replaced.
        got = "a single layer" if network.name is None else f"a single layer, {network.name}"
        advice = "make it a part, as in nn.chain(layer), with weights under its name there"
        raise ConfigError(f"{where} network", "a network with parts", got, advice)
    if found is None:
        raise ConfigError(
            f"{where} network",
            "one that ends in a dense layer",
            "another one",
            'name the layer to train, as in head="head"',
        )
    return found


def expect_path(where: str, network: Layer, path: Any) -> str:
    """Return the path if there is a layer at it; ConfigError with close paths otherwise."""
    known = layer_paths(network)
    if isinstance(path, str) and path in known:
        return path
    # At a ratio of 0.5, half of the letters agree; else the first paths serve as examples.
    close = get_close_matches(str(path), known, MAX_LISTED, 0.5) or known[:MAX_LISTED]
    raise ConfigError(
        where,
        f"the path of a layer, such as {', '.join(close)}" if close else "a network with parts",
        checks.show(path),
        "nn.summary lists all layers",
    )


def body_of(network: Layer, head: str) -> Layer:
    """Return the network without its head: its output is the input of the head.

    The params and the state of the head stay where they are, unused.
    """

    def init(key: jax.Array, shape: Shape) -> tuple[Params, State, Shape]:
        return {}, {}, shape

    def apply(params: Params, state: State, x: Any, **_: Any) -> tuple[Any, State]:
        return x, state

    # Only the layer changes, so that the weights of the whole network still fit.
    return replace(network, head, Layer(init, apply))


def set_at(tree: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a tree of dicts with another subtree at a path."""
    name, _, rest = path.partition("/")
    new = set_at(tree.get(name, {}), rest, value) if rest else value
    # The dicts along the path are copied, all others are shared.
    return {**tree, name: new}
